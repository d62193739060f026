"""archive+URL: gzipped objects of JSON lines, in any place that fsspec can write to.

An object's name, {source}/{date received}/{first id}-{last id}.ndjson.gz, and its bytes depend only on its events. A
repeat after a crash replaces the same object, so each event is in the archive once.
"""

import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from urllib.parse import SplitResult, quote

from eventlog import StoredEvent

from .archive_places import Place, open_place
from .delivery import Deliverer, Outcome, RetryLater

DEFAULT_MAX_BYTES = 16 * 1024 * 1024  # of payloads in an object
DEFAULT_MAX_WAIT_SECONDS = 300.0
MAX_EVENTS = 50_000  # in memory, events take more than their payloads
MAX_NAME_BYTES = 200  # file systems take 255


def from_url(parts: SplitResult, options: dict[str, str]) -> "Archive":
    max_bytes = _pop_number(options, "bytes", DEFAULT_MAX_BYTES, least=1)
    seconds = _pop_number(options, "seconds", DEFAULT_MAX_WAIT_SECONDS, least=0)
    return Archive(open_place(parts, options), int(max_bytes), seconds)


def _pop_number(options: dict[str, str], name: str, default: float, least: int) -> float:
    try:
        number = float(options.pop(name, default))
    except ValueError:
        number = -1.0
    if not least <= number < float("inf"):
        raise ValueError(f"{name} must be a number of at least {least}")
    return number


class Archive(Deliverer):
    """Writes an object for each source and date of a batch."""

    max_events = MAX_EVENTS
    needs_same_batches = True

    def __init__(self, place: Place, max_bytes: int, max_wait_seconds: float) -> None:
        self.max_bytes = max_bytes
        self.max_wait_seconds = max_wait_seconds
        self._place = place
        self._aborted = False

    def deliver(self, events: Sequence[StoredEvent]) -> Outcome:
        for name, group in _group(events):
            if self._aborted:
                raise RetryLater("the delivery was aborted")
            content = _compress(group)
            try:
                self._place.put(name, content)
            except Exception as error:  # each library has its own classes
                raise RetryLater(f"{type(error).__name__}: {error}") from error
        return Outcome()

    def abort(self) -> bool:
        self._aborted = True
        return False  # the object under way may still be written

    def close(self) -> None:
        pass


def _group(events: Sequence[StoredEvent]) -> Iterator[tuple[str, list[StoredEvent]]]:
    groups = defaultdict(list)
    for event in events:
        groups[event.source, event.received_at[:10]].append(event)
    for (source, date), group in groups.items():
        yield f"{_folder_name(source)}/{date}/{group[0].id:012}-{group[-1].id:012}.ndjson.gz", group


def _folder_name(source: str) -> str:
    """Return the name of a source's folder. Sources may share one: the ids in their objects' names differ."""
    quoted = quote(source, safe="")
    return (f"%2E{quoted[1:]}" if quoted.startswith(".") else quoted)[:MAX_NAME_BYTES]


def _compress(events: Sequence[StoredEvent]) -> bytes:
    """Return the lines that `tracklog events export` writes, gzipped without a timestamp."""
    compressor = zlib.compressobj(wbits=31)
    lines = (f"{event.export_line()}\n".encode() for event in events)
    return b"".join([*map(compressor.compress, lines), compressor.flush()])
