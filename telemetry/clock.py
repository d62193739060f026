"""Log a line when the machine's clock jumps."""

import logging
from time import monotonic, time

MIN_SECONDS = 5  # of a jump; a time service corrects smaller differences gradually

logger = logging.getLogger("tracklog")


class Clock:
    """Compares the clock with the monotonic one, which never jumps."""

    def __init__(self) -> None:
        self._ahead = time() - monotonic()

    def log_jump(self) -> None:
        """Log by how much the clock has jumped since the last call, if it has."""
        before, self._ahead = self._ahead, time() - monotonic()
        jump = round(self._ahead - before)
        if abs(jump) >= MIN_SECONDS:
            fields = {"event": "clock_jumped", "seconds": jump}
            logger.warning("the clock jumped by %+d seconds; synchronize it", jump, extra=fields)
