"""Run calls in daemon threads, so that a hanging call never keeps the process alive."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

T = TypeVar("T")


def run_in_thread(call: Callable[[], T]) -> "Future[T]":
    """Start a call in a new thread; return its future."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            result = call()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, daemon=True).start()
    return future


def has_ended(call: "Future[T]", seconds: float) -> bool:
    """Wait for a call for at most `seconds`; return True if it has ended."""
    return bool(wait([call], seconds).done)
