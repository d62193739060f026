"""Log one line when the log becomes unavailable, and one when it is usable again."""

import logging
from time import monotonic

from eventlog import Damaged, DiskFull, Missing

QUIET_SECONDS = 1.0

# What an operator can do about an error of the log with a command.
REMEDIES: dict[type[Exception], str] = {
    Damaged: "Restore a backup. To list the damage: tracklog events check",
    DiskFull: "Delete other files, or old events with: tracklog events prune --older-than AGE",
    Missing: (
        "Mount its disk, or move it back. If it is elsewhere, set TRACKLOG_DATABASE to its path. "
        "To create a first log: tracklog sources add NAME --create"
    ),
}

logger = logging.getLogger("tracklog")


def explain_failure(failure: Exception) -> str:
    """Return why the log failed, and what to do about it."""
    remedy = REMEDIES.get(type(failure))
    return f"{failure}. {remedy}" if remedy else str(failure)


class StorageTrouble:
    """Tracks one trouble with the log, from its first failure to a success after the last one.

    Some requests may fail while others succeed. The trouble ends with a success that comes more than `quiet_seconds`
    after the last failure. The forwarder of a destination uses one with its name, and without a quiet time.
    Threads may share an object: a line may then be early, late or repeated, which harms nothing.
    """

    def __init__(self, destination: str | None = None, quiet_seconds: float = QUIET_SECONDS) -> None:
        self._destination = destination
        self._quiet_seconds = quiet_seconds
        self._failures = 0
        self._first_failed_at = self._last_failed_at = 0.0  # by the monotonic clock

    def note_failure(self, failure: Exception, request_id: str | None = None) -> None:
        """Count a failure to use the log, and log the first one."""
        self._last_failed_at = monotonic()
        self._failures += 1
        if self._failures == 1:
            self._first_failed_at = self._last_failed_at
            reason = explain_failure(failure)
            fields = {"destination": self._destination, "reason": reason, "request_id": request_id}
            logger.error("storage unavailable: %s", reason, extra={"event": "storage_trouble", **fields})

    def note_success(self) -> None:
        """Log the end of the trouble, if there was one and it is over."""
        if self._failures and monotonic() - self._last_failed_at > self._quiet_seconds:
            failures, self._failures = self._failures, 0
            seconds = round(monotonic() - self._first_failed_at, 3)
            refused = None if self._destination else failures
            message = "storage available again after %s seconds"
            fields = {"destination": self._destination, "seconds": seconds, "refused": refused}
            logger.warning(message, seconds, extra={"event": "storage_recovered", **fields})
