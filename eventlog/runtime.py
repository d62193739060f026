"""How a process runs its requests: in threads, or taking turns in one thread."""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Runtime:
    """What the log needs from the process that serves requests. Several requests may call a method at a time.

    The methods here are for requests that have a thread of their own, which may block.
    """

    #: True if all requests share one thread, so that a call that blocks it stops them all.
    is_cooperative = False

    def wait_until_idle(self) -> None:
        """Return once all ready requests have run, or after a few tens of milliseconds. Raise nothing.

        With threads, return at once: requests join the next group while the one before is committed.
        """

    def run_blocking(self, call: Callable[[], T]) -> T:
        """Return what `call` returns, or raise what it raises. Other requests go on while it runs."""
        return call()

    def start(self, call: Callable[[], object]) -> None:
        """Start `call`, which handles its own errors. A cooperative runtime returns at once; this one runs it first."""
        call()
