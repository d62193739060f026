"""How a process runs its requests: in threads, or taking turns in one thread."""

from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Runtime(Protocol):
    """What the log needs from the process that serves requests. Several requests may call a method at a time."""

    #: True if all requests share one thread, so that a call that blocks it stops them all.
    is_cooperative: bool

    def wait_until_idle(self) -> None:
        """Return once all ready requests have run, or after a few tens of milliseconds. Raise nothing."""

    def run_blocking(self, call: Callable[[], T]) -> T:
        """Return what `call` returns, or raise what it raises. Other requests go on while it runs."""

    def start(self, call: Callable[[], object]) -> None:
        """Run `call`, which handles its own errors. Do not wait for its end if others can run while it does."""


class ThreadRuntime:
    """Each request has a thread of its own, which may block."""

    is_cooperative = False

    def wait_until_idle(self) -> None:
        """Return at once: requests join the next group while the one before is committed."""

    def run_blocking(self, call: Callable[[], T]) -> T:
        return call()

    def start(self, call: Callable[[], object]) -> None:
        call()
