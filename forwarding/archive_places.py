"""The places of an archive, which store its objects: a local folder, or any other place that fsspec knows."""

import os
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import SplitResult

import fsspec

from eventlog.side_files import give_to_owner_of, sync

from .urls import ARCHIVE

LOCAL_PROTOCOLS = ("file", "local")
# These show an object only when its PUT is complete.
OBJECT_STORE_PROTOCOLS = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss")


class Place(Protocol):
    """A folder or a bucket that stores objects. One thread at a time uses it."""

    def put(self, name: str, content: bytes) -> None:
        """Store an object, or replace the one of this name. Return when it is durable.

        A reader never sees a part of it under its name. Raises the exceptions of the place's library.
        """


def open_place(parts: SplitResult, options: dict[str, str]) -> Place:
    """Return the place that a URL names. Raises ValueError if there is none."""
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
