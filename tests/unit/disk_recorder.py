"""Record in one order what SQLite and Python do to the files of a folder.

SQLite's files are recorded by a VFS, Python's by wrappers of functions in `os`. Python's writes are recorded when
the file is synced, renamed or linked. Nothing is really synced, so a recording is fast.
"""

import os
import stat
from pathlib import Path
from typing import Any

import apsw
from simulated_disk import File, Folder, Names, Note, Sync, SyncFolder, Truncate, Write, change, truncate, write

SYNCED_WITH_FOLDER = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL


class Recorder:
    """Record changes below the folder `root`, from `__enter__` to `__exit__`.

    Without `syncs_folders`, the disk ignores syncs of folders.
    """

    def __init__(self, root: Path, syncs_folders: bool = True) -> None:
        self.root = str(root)
        self.steps: list[Any] = []
        self.prepared = 0  # steps before the first possible cut
        self._syncs_folders = syncs_folders
        self._names: dict[str, File | Folder] = {}

    def __enter__(self) -> "Recorder":
        self._vfs = RecordingVFS(self)
        self._wrapped = {name: getattr(os, name) for name in PYTHON_CALLS}
        for name in PYTHON_CALLS:
            setattr(os, name, getattr(self, name))
        return self

    def __exit__(self, *_) -> None:
        for name, call in self._wrapped.items():
            setattr(os, name, call)
        self._vfs.unregister()

    def note(self, word: str, value: Any = None) -> None:
        self.steps.append(Note(word, value))

    def prepare(self) -> None:
        """Treat everything recorded so far as synced. No cut comes before this."""
        for path, node in self._names.items():
            if isinstance(node, File):
                self.steps.append(Sync(node))
            self.steps.append(SyncFolder(os.path.dirname(path)))
        self.steps.append(SyncFolder(self.root))
        self.prepared = len(self.steps)

    def covers(self, path: str | None) -> bool:
        return path is not None and path.startswith(self.root + "/")

    def file(self, path: str) -> File:
        """Return the file at the path. Create it if the disk does not know it."""
        if path not in self._names:
            self.change(path, File())
        return self._names[path]

    def change(self, path: str, node: "File | Folder | None", **others) -> None:
        step = Names(os.path.dirname(path), {path: node} | others)
        change(self._names, step)
        self.steps.append(step)

    def write(self, file: File, offset: int, data: bytes) -> None:
        write(file.current, offset, data)
        self.steps.append(Write(file, offset, data))

    def truncate(self, file: File, size: int) -> None:
        truncate(file.current, size)
        self.steps.append(Truncate(file, size))

    def sync(self, file: File) -> None:
        self.steps.append(Sync(file))

    def sync_folder(self, folder: str) -> None:
        if self._syncs_folders:
            self.steps.append(SyncFolder(folder))

    def _catch_up(self, path: str) -> File:
        """Record what Python has written to a file since the last call."""
        file, content = self.file(path), Path(path).read_bytes()
        if content != file.current:
            self.truncate(file, 0)
            self.write(file, 0, content)
        return file

    # These replace functions of `os`.

    def fsync(self, descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            self.sync_folder(path)
        elif self.covers(path):
            self.sync(self._catch_up(path))

    def mkdir(self, path, mode=0o777, *, dir_fd=None) -> None:
        self._wrapped["mkdir"](path, mode, dir_fd=dir_fd)
        if self.covers(path := full(path, dir_fd)):
            self.change(path, Folder())

    def replace(self, source, target) -> None:
        source, target = full(source), full(target)
        file = self._catch_up(source) if self.covers(source) else None
        self._wrapped["replace"](source, target)
        if file:
            self.change(target, file, **{source: None})

    rename = replace

    def link(self, source, target) -> None:
        self._wrapped["link"](source, target)
        if self.covers(target := full(target)):
            self.change(target, self._catch_up(full(source)))

    def unlink(self, path, *, dir_fd=None) -> None:
        self._wrapped["unlink"](path, dir_fd=dir_fd)
        if self.covers(path := full(path, dir_fd)):
            self.change(path, None)

    remove = unlink

    def rmdir(self, path, *, dir_fd=None) -> None:
        self._wrapped["rmdir"](path, dir_fd=dir_fd)
        if self.covers(path := full(path, dir_fd)):
            self.change(path, None)


PYTHON_CALLS = ("fsync", "mkdir", "replace", "rename", "link", "unlink", "remove", "rmdir")


def full(path, dir_fd: int | None = None) -> str:
    folder = os.getcwd() if dir_fd is None else os.readlink(f"/proc/self/fd/{dir_fd}")
    return os.path.join(folder, os.fspath(path))


class RecordingVFS(apsw.VFS):
    """The system's files, recorded."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.system = apsw.vfs_names()[0]
        super().__init__("recording", base=self.system, makedefault=True)

    def xOpen(self, name, flags):
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if self.recorder.covers(path):
            return RecordingFile(self, name, path, flags)
        return apsw.VFSFile(self.system, name, flags)

    def xDelete(self, path, sync_folder):
        super().xDelete(path, False)
        if self.recorder.covers(path):
            self.recorder.change(path, None)
            if sync_folder:
                self.recorder.sync_folder(os.path.dirname(path))


class RecordingFile(apsw.VFSFile):
    def __init__(self, vfs, name, path, flags):
        super().__init__(vfs.system, name, flags)
        self._recorder = vfs.recorder
        self._file = self._recorder.file(path)
        is_synced_with_folder = flags[0] & apsw.SQLITE_OPEN_CREATE and flags[0] & SYNCED_WITH_FOLDER
        self._folder = os.path.dirname(path) if is_synced_with_folder else None

    def xWrite(self, data, offset):
        super().xWrite(data, offset)
        self._recorder.write(self._file, offset, bytes(data))

    def xTruncate(self, size):
        super().xTruncate(size)
        self._recorder.truncate(self._file, size)

    def xSync(self, flags):
        self._recorder.sync(self._file)
        if self._folder:
            self._recorder.sync_folder(self._folder)
            self._folder = None
