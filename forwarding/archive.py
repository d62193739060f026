"""archive+URL: gzipped objects of JSON lines in any place that fsspec can write to, by size or by age.

An object is named by its events, {source}/{date received}/{first id}-{last id}.ndjson.gz, and its bytes follow from
them: the same events written again after a crash replace the same object, and so each is in the archive once.
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
from eventlog.export_line import export_line
from eventlog.side_files import give_to_owner_of

from .delivery import RetryLater, Settled
from .urls import ARCHIVE

MOST_BYTES = 16 * 1024 * 1024
MOST_EVENTS = 50_000  # in memory they take more than their payloads
SECONDS = 300.0

LOCAL = ("file", "local")
OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss")  # where a PUT is seen once it is complete
LONGEST_NAME = 200  # of the 255 bytes that a file system takes


def open(parts: SplitResult, options: dict[str, str]) -> "Archive":
    most_bytes = _number("bytes", options.pop("bytes", str(MOST_BYTES)), least=1)
    seconds = _number("seconds", options.pop("seconds", str(SECONDS)), least=0)
    return Archive(_place(parts, options), int(most_bytes), seconds)


def _number(name: str, text: str, least: int) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not least <= number < float("inf"):
        raise ValueError(f"{name} is a number, and {least} or more")
    return number


def _place(parts: SplitResult, options: dict[str, str]) -> "Place":
    protocol = parts.scheme.removeprefix(ARCHIVE)
    path = (parts.netloc + parts.path).rstrip("/")
    if not path or path.startswith(":"):
        raise ValueError(f"it names no place, as in {ARCHIVE}s3://bucket/prefix")
    if protocol in LOCAL:
        if parts.netloc or options:
            raise ValueError(f"a folder's has three slashes and no such options, as in {ARCHIVE}file:///folder")
        return Folder(path)
    try:
        fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        raise ValueError(str(error)) from error
    return Remote(protocol, path, options)


class Place(Protocol):
    def put(self, name: str, content: bytes) -> None:
        """Return when the content is kept under its name, which never shows a part of it; replace what was there.

        Raises whatever the place's library does.
        """


class Archive:
    most_events = MOST_EVENTS
    reserves = True

    def __init__(self, place: Place, most_bytes: int, patience: float) -> None:
        self.most_bytes = most_bytes
        self.patience = patience
        self._place = place
        self._aborted = False

    def deliver(self, events: Sequence[StoredEvent]) -> Settled:
        for name, group in _objects(events):
            if self._aborted:
                raise RetryLater("the forwarder goes on no more")
            content = _compressed(group)
            try:
                self._place.put(name, content)
            except Exception as error:  # no common one: each library has its own for "forbidden" and "no connection"
                raise RetryLater(f"{type(error).__name__}: {error}") from error
        return Settled()

    def abort(self) -> bool:
        self._aborted = True
        return False  # the object that is being written may still come to be

    def close(self) -> None:
        pass


def _objects(events: Sequence[StoredEvent]) -> Iterator[tuple[str, list[StoredEvent]]]:
    """Yield the name and the events of each object, one for a source and date."""
    groups = defaultdict(list)
    for event in events:
        groups[event.source, event.received_at[:10]].append(event)
    for (source, date), group in groups.items():
        yield f"{_safe(source)}/{date}/{group[0].id:012}-{group[-1].id:012}.ndjson.gz", group


def _safe(source: str) -> str:
    """Return a name for a folder, which two sources may share: the ids in their objects' names differ."""
    quoted = quote(source, safe="")
    return (f"%2E{quoted[1:]}" if quoted.startswith(".") else quoted)[:LONGEST_NAME]


def _compressed(events: Sequence[StoredEvent]) -> bytes:
    """Return lines as `flask events export` writes them, gzipped without a time."""
    compressor = zlib.compressobj(wbits=31)
    lines = (f"{export_line(event)}\n".encode() for event in events)
    return b"".join([*map(compressor.compress, lines), compressor.flush()])


class Folder:
    """A folder of this machine. It has to be there, as a bucket has: one that is missing may be a disk not mounted."""

    def __init__(self, root: str) -> None:
        self._root = root

    def put(self, name: str, content: bytes) -> None:
        """Return when file and folders are on the disk."""
        source, date, file_name = name.split("/")
        folders = [self._root, f"{self._root}/{source}", f"{self._root}/{source}/{date}"]
        for folder in folders[1:]:
            try:
                os.mkdir(folder)
            except FileExistsError:
                continue
            give_to_owner_of(self._root, folder)
        part = Path(folders[-1], _part(file_name))
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        give_to_owner_of(self._root, str(part))
        os.replace(part, f"{self._root}/{name}")
        for folder in reversed(folders):
            _sync(folder)


class Remote:
    """A place that fsspec knows; one that has failed is connected to anew."""

    def __init__(self, protocol: str, path: str, options: dict[str, str]) -> None:
        self._protocol = protocol
        self._url = f"{protocol}://{path}"
        self._options = options
        self._connected: tuple[Any, str] | None = None

    def put(self, name: str, content: bytes) -> None:
        if self._connected is None:
            self._connected = fsspec.url_to_fs(self._url, skip_instance_cache=True, **self._options)
        files, root = self._connected
        try:
            self._put(files, f"{root}/{name}", content)
        except Exception:
            self._connected = None
            raise

    def _put(self, files: Any, path: str, content: bytes) -> None:
        if self._protocol in OBJECT_STORES:
            files.pipe_file(path, content)
            return
        folder, _, file_name = path.rpartition("/")
        part = f"{folder}/{_part(file_name)}"
        files.makedirs(folder, exist_ok=True)
        files.pipe_file(part, content)
        files.mv(part, path)


def _part(file_name: str) -> str:
    """Return the name under which a file is written: the same at a repeat, which so clears up, and no object's."""
    return f".{file_name}.part"


def _sync(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
