"""Rebuild a disk as a power cut may have left it, from a recording of its changes.

What a cut leaves:

- A file keeps its content at its last sync. Each 512-byte sector of a later write is on the disk or not. A sector
  keeps its bytes outside the write, as SQLite's powersafe overwrite assumes. Each later truncation happened or not.
- A name (created, linked, renamed, deleted) is durable once its folder was synced after that. Before, each change
  happened or did not. A rename is one change. A sync of a file does not make its name durable, though ext4 does so.
- SQLite syncs the folder at the first sync of a journal or WAL that it opened with SQLITE_OPEN_CREATE, and where
  xDelete is asked to. Both were compared with strace.
- The -shm and the -queue are not on a rebuilt disk: nothing syncs them, and neither means anything after a restart.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

SECTOR = 512
CHANCES = (0.0, 0.1, 0.5, 0.9, 1.0)  # that an unsynced change is on the disk; drawn per file and folder


class Write(NamedTuple):
    file: "File"
    offset: int
    data: bytes


class Truncate(NamedTuple):
    file: "File"
    size: int


class Sync(NamedTuple):
    file: "File"


class Names(NamedTuple):
    """Names that changed, each with its file, its folder, or None if it was deleted."""

    folder: str
    changes: dict[str, "File | Folder | None"]


class SyncFolder(NamedTuple):
    folder: str


class Note(NamedTuple):
    """A moment that a test marks, for instance that events are acknowledged."""

    word: str
    value: Any


class Folder:
    """A folder; only its name matters."""


class File:
    """The bytes of a file under any name: the synced ones, and the changes since."""

    def __init__(self) -> None:
        self.current = bytearray()  # as the running system sees them
        self.synced = bytearray()
        self.pending: list[Write | Truncate] = []

    def sync(self) -> None:
        for step in self.pending:
            if isinstance(step, Write):
                write(self.synced, step.offset, step.data)
            else:
                truncate(self.synced, step.size)
        self.pending.clear()

    def after_cut(self, rng) -> bytes:
        content, chance = self.synced[:], rng.choice(CHANCES)
        for step in self.pending:
            if isinstance(step, Truncate):
                if rng.random() < chance:
                    truncate(content, step.size)
                continue
            end = step.offset + len(step.data)
            if rng.random() < chance and len(content) < end:  # the new size is on the disk, with or without the data
                truncate(content, end)
            for start in range(step.offset - step.offset % SECTOR, end, SECTOR):
                if rng.random() < chance:
                    first, last = max(start, step.offset), min(start + SECTOR, end)
                    write(content, first, step.data[first - step.offset : last - step.offset])
        return bytes(content)


def write(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        truncate(content, offset)
    content[offset : offset + len(data)] = data


def truncate(content: bytearray, size: int) -> None:
    del content[size:]
    content.extend(bytes(size - len(content)))


class Disk:
    """The disk at the moment of a cut: certain changes, pending ones, and the notes until then."""

    def __init__(self, root: str) -> None:
        self.notes: list[Note] = []
        self._root = root
        self._names: dict[str, File | Folder] = {}
        self._pending: dict[str, list[Names]] = {}

    def take(self, step) -> None:
        match step:
            case Note():
                self.notes.append(step)
            case Sync(file):
                file.sync()
            case Names(folder):
                self._pending.setdefault(folder, []).append(step)
            case SyncFolder(folder):
                for each in self._pending.pop(folder, []):
                    change(self._names, each)
            case _:
                step.file.pending.append(step)

    def rebuild(self, place: Path, rng) -> None:
        """Write the disk, as a cut at this moment may leave it, to the empty folder `place`."""
        names = dict(self._names)
        for folder in sorted(self._pending):
            chance = rng.choice(CHANCES)
            for step in self._pending[folder]:
                if rng.random() < chance:
                    change(names, step)
        contents: dict[File, bytes] = {}
        for path, node in sorted(names.items()):
            rebuilt = place / os.path.relpath(path, self._root)
            if not rebuilt.parent.exists():
                continue  # the folder itself was lost
            if isinstance(node, Folder):
                rebuilt.mkdir()
                continue
            if node not in contents:
                contents[node] = node.after_cut(rng)
            rebuilt.write_bytes(contents[node])  # the same under each of its names


def change(names: dict[str, File | Folder], step: Names) -> None:
    for name, node in step.changes.items():
        names.pop(name, None)
        if node is not None:
            names[name] = node


def cuts(root: str, steps: list[Any], first: int, count: int, rng):
    """Yield the disk at `count` random moments in order, none before the step `first`."""
    disk, taken = Disk(root), 0
    for moment in sorted(rng.randint(first, len(steps)) for _ in range(count)):
        for step in steps[taken:moment]:
            disk.take(step)
        taken = moment
        yield disk
