"""Load a transform: a Python file of the operator that changes events for a destination.

A transform runs with the rights of the forwarder. So the right to write to the log must not be enough to add one: the
log holds only a name, and neither the forwarder's user nor everybody may write to the folder of the file.
"""

import os
import re
import stat
import traceback
from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from eventlog import NotPossible

from .threads import run_in_thread

FOLDER_VARIABLE = "TRACKLOG_TRANSFORMS"
LOAD_SECONDS = 5.0  # for the file's statements outside its functions
MAX_REASON_CHARACTERS = 300

Transform: TypeAlias = Callable[[dict[str, Any]], Any]


class TransformFile:
    """NAME.py in the folder that the environment names. Raises NotPossible if there is no safe one."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loaded: tuple[tuple[int, ...], Transform] | None = None  # the version of the file, and its function

    def load(self) -> Transform:
        """Return the file's function. Run the file again only if it has changed."""
        path = self._find()
        status = path.stat()
        version = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
        if self._loaded is None or self._loaded[0] != version:
            self._loaded = version, self._run(path)
        return self._loaded[1]

    def _find(self) -> Path:
        check_name(self._name)
        folder = os.environ.get(FOLDER_VARIABLE)
        if not folder:
            raise NotPossible(f"The environment has no {FOLDER_VARIABLE}, the folder of the transform {self._name}")
        path = Path(folder, f"{self._name}.py").absolute()
        try:
            target = path.resolve(strict=True)
            for each in (target, *target.parents, *path.parents):  # the last may have links
                _require_safe(each)
        except (OSError, RuntimeError) as error:  # the latter is a loop of links
            raise NotPossible(f"The transform {self._name} cannot be read: {error}") from error
        return target

    def _run(self, path: Path) -> Transform:
        """Run the file, in a thread that may hang, and without its `.pyc`, which is not checked."""
        module = ModuleType(self._name)
        module.__file__ = str(path)
        loading = run_in_thread(lambda: exec(compile(path.read_bytes(), path, "exec"), vars(module)))
        if not wait([loading], LOAD_SECONDS).done:
            raise NotPossible(f"The transform {self._name} is not loaded after {LOAD_SECONDS:.0f} s")
        if error := loading.exception():
            raise NotPossible(f"The transform {self._name} cannot be loaded: {describe_error(error)}")
        transform = getattr(module, "transform", None)
        if not callable(transform):
            raise NotPossible(f"The transform {self._name} has no function transform(event)")
        function: Transform = transform
        return function


def check_name(name: str) -> None:
    """Raise NotPossible if a name could lead out of the folder."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,60}", name):
        raise NotPossible("A transform's name may have only letters, digits, - and _, and at most 60 of them")


def describe_error(error: BaseException) -> str:
    """Return an exception's class and message, also if its own __str__ fails."""
    lines = "".join(traceback.format_exception_only(error)).split()
    return " ".join(lines)[:MAX_REASON_CHARACTERS]


def _require_safe(path: Path) -> None:
    """Raise NotPossible if the forwarder's user, or another user than its owner, could replace what is at `path`.

    Root may write everywhere. So if the forwarder runs as root, everything must belong to root.
    """
    status, user = path.stat(), os.geteuid()
    is_sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX  # only owners replace files in it
    if status.st_uid != 0 if user == 0 else status.st_uid == user:
        raise NotPossible(f"A transform is refused: {path} must belong to root, or another user than the forwarder's")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not is_sticky:
        raise NotPossible(f"A transform is refused: {path} must be writable by its owner only (chmod go-w)")
