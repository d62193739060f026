"""Run the event log under gevent. Import this module after gevent has patched."""

from collections.abc import Callable

import gevent
import gevent.threadpool  # now: an upgrade may replace .venv before the first call that blocks
from gevent.util import wrap_errors

from eventlog.runtime import Runtime, T

MAX_IDLE_WAIT_SECONDS = 0.02


class GeventRuntime(Runtime):
    """Requests take turns in one thread. Calls that block run in the threads of gevent's pool."""

    is_cooperative = True

    def wait_until_idle(self) -> None:
        with gevent.Timeout(MAX_IDLE_WAIT_SECONDS, False):
            gevent.idle()  # never returns if requests come without a pause

    def run_blocking(self, call: Callable[[], T]) -> T:
        # Without wrap_errors, gevent prints a traceback of an exception in the pool.
        outcome = gevent.get_hub().threadpool.apply(wrap_errors(Exception, call))
        if isinstance(outcome, Exception):
            raise outcome
        result: T = outcome
        return result

    def start(self, call: Callable[[], object]) -> None:
        gevent.spawn(call)
