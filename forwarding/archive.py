"""archive+URL: gzipped objects of JSON lines, in any place that fsspec can write to.

An object's name, {source}/{date received}/{first id}-{last id}.ndjson.gz, and its bytes depend only on its events. A
repeat after a crash replaces the same object, so each event is in the archive once.
"""

import os
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import SplitResult, quote

import fsspec

from eventlog import StoredEvent
from eventlog.side_files import give_to_owner_of, sync

from .delivery import Deliverer, Outcome, RetryLater
from .urls import ARCHIVE

DEFAULT_MAX_BYTES = 16 * 1024 * 1024  # of payloads in an object
DEFAULT_MAX_WAIT_SECONDS = 300.0
MAX_EVENTS = 50_000  # in memory, events take more than their payloads

LOCAL_PROTOCOLS = ("file", "local")
# These show an object only when its PUT is complete.
OBJECT_STORE_PROTOCOLS = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss")
MAX_NAME_BYTES = 200  # file systems take 255


def from_url(parts: SplitResult, options: dict[str, str]) -> "Archive":
    max_bytes = _pop_number(options, "bytes", DEFAULT_MAX_BYTES, least=1)
    seconds = _pop_number(options, "seconds", DEFAULT_MAX_WAIT_SECONDS, least=0)
    return Archive(_open_place(parts, options), int(max_bytes), seconds)


def _pop_number(options: dict[str, str], name: str, default: float, least: int) -> float:
    try:
        number = float(options.pop(name, default))
    except ValueError:
        number = -1.0
    if not least <= number < float("inf"):
        raise ValueError(f"{name} must be a number of at least {least}")
    return number


def _open_place(parts: SplitResult, options: dict[str, str]) -> "Place":
    protocol = parts.scheme.removeprefix(ARCHIVE)
    path = (parts.netloc + parts.path).rstrip("/")
    if not path or path.startswith(":"):
        raise ValueError(f"it names no place. Write it as {ARCHIVE}s3://bucket/prefix")
    if protocol in LOCAL_PROTOCOLS:
        if parts.netloc or options:
            raise ValueError(f"a folder has three slashes and no other options: {ARCHIVE}file:///folder")
        return Folder(path)
    try:
        fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        raise ValueError(str(error)) from error
    return Remote(protocol, path, options)


class Place(Protocol):
    """A folder or a bucket that stores objects. One thread at a time uses it."""

    def put(self, name: str, content: bytes) -> None:
        """Store an object, or replace the one of this name. Return when it is durable.

        A reader never sees a part of it under its name. Raises the exceptions of the place's library.
        """


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
    """Return the lines that `flask events export` writes, gzipped without a timestamp."""
    compressor = zlib.compressobj(wbits=31)
    lines = (f"{event.export_line()}\n".encode() for event in events)
    return b"".join([*map(compressor.compress, lines), compressor.flush()])


class Folder:
    """A local folder. It must exist, like a bucket: a missing one may be a disk that is not mounted."""

    def __init__(self, root: str) -> None:
        self._root = root

    def put(self, name: str, content: bytes) -> None:
        source, date, file_name = name.split("/")
        folders = [self._root, f"{self._root}/{source}", f"{self._root}/{source}/{date}"]
        for folder in folders[1:]:
            try:
                os.mkdir(folder)
            except FileExistsError:
                continue
            give_to_owner_of(self._root, folder)
        part = Path(folders[-1], _part_name(file_name))
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        give_to_owner_of(self._root, str(part))
        os.replace(part, f"{self._root}/{name}")
        for folder in reversed(folders):
            sync(folder)


class Remote:
    """A place that fsspec knows. A failure closes the connection, and the next `put` opens a new one."""

    def __init__(self, protocol: str, path: str, options: dict[str, str]) -> None:
        self._protocol = protocol
        self._url = f"{protocol}://{path}"
        self._options = options
        self._connected: tuple[Any, str] | None = None

    def put(self, name: str, content: bytes) -> None:
        if self._connected is None:
            self._connected = fsspec.url_to_fs(self._url, skip_instance_cache=True, **self._options)
        files, root = self._connected
        folder, _, file_name = f"{root}/{name}".rpartition("/")
        part = f"{folder}/{_part_name(file_name)}"
        try:
            if self._protocol in OBJECT_STORE_PROTOCOLS:
                files.pipe_file(f"{root}/{name}", content)
            else:
                files.makedirs(folder, exist_ok=True)
                files.pipe_file(part, content)
                files.mv(part, f"{root}/{name}")
        except Exception:
            self._connected = None
            raise


def _part_name(file_name: str) -> str:
    """Return the name of an unfinished file. A repeat uses the same name, so no part stays behind."""
    return f".{file_name}.part"
