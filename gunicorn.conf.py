"""Configure gunicorn, for `tracklog serve` and `gunicorn wsgi:app` in this folder. The command line overrides it."""

import gc
import os
import shutil
import signal
import sys
import threading
import time

import flask.logging
from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

import eventlog
from config import Config
from serving import gunicorn_patches
from serving.gunicorn_logger import Logger
from telemetry import logs
from telemetry.clock import Clock
from telemetry.storage_trouble import explain_failure

settings = Config.from_environment()

bind = settings.bind
workers = 2
worker_class = "gevent"
worker_connections = 4096  # per worker; a slow or half-sent request occupies one and costs nothing else
keepalive = 20  # seconds; nginx must close idle connections sooner, so that none is closed while a request arrives
graceful_timeout = 30  # seconds; longer than keepalive, so that a stopping worker closes no connection in use
control_socket_disable = True
limit_request_line = 8190  # bytes; nginx allows a pixel's URL the same length
limit_request_field_size = gunicorn_patches.MAX_HEADER_BYTES  # one header may take all of it
limit_request_fields = 8192  # parsing so many takes about 20 ms, during which other requests wait
logger_class = Logger
accesslog = "-" if settings.access_log == "on" else None

# Next to the log and not in this folder: two services may run from one checkout.
metrics_folder = f"{settings.database}-metrics"

# The app reads X-Forwarded-For itself. These settings spare gunicorn a check of trusted addresses per request.
forwarded_allow_ips = "*"
secure_scheme_headers = {}
forwarder_headers = ""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def pre_request(worker: Worker, req: object) -> None:
    """Do nothing. gunicorn's default formats a line for each request, which is not logged."""


def on_starting(server: Arbiter) -> None:
    """Check and migrate the log before any worker starts. A reload does not, since old workers still write."""
    try:
        eventlog.migrate(settings.database)
    except eventlog.Unavailable as failure:
        sys.exit(explain_failure(failure))
    shutil.rmtree(metrics_folder, ignore_errors=True)  # the counts of the workers before
    os.register_at_fork(after_in_parent=deliver_stop_signals)


def when_ready(server: Arbiter) -> None:
    """Log the start, with the addresses that are bound."""
    logs.start(settings, server.cfg.workers, [str(listener) for listener in server.LISTENERS])


def on_exit(server: Arbiter) -> None:
    """Log the stop."""
    logs.stop()


def deliver_stop_signals() -> None:
    """Unblock the signals that `pre_fork` has blocked."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def pre_fork(server: Arbiter, worker: Worker) -> None:
    """Block the stop signals until the worker has its own handlers. Those of the master would only record them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def post_fork(server: Arbiter, worker: Worker) -> None:
    """Exit at a stop signal while the worker boots. Status 0 avoids gunicorn's warning about a killed worker."""
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: os._exit(0))
    deliver_stop_signals()


def post_worker_init(worker: Worker) -> None:
    """Patch gunicorn, share metrics with the other workers, and prepare the log for this kind of worker."""
    gunicorn_patches.apply(worker.cfg)
    worker.wsgi.extensions["metrics"].start_counting(metrics_folder)
    log = worker.wsgi.extensions["eventlog"]
    log.keep_reserve()
    threading.Thread(target=watch_machine, args=(log,), daemon=True).start()
    gc.freeze()  # objects made so far live as long as the process
    # A full collection visits every object of the bodies in memory. It can stop all requests for up to a second.
    gc.set_threshold(700, 10, 10_000)
    if worker.cfg.worker_class_str == "gevent":
        from serving.gevent_runtime import GeventRuntime  # not before gevent has patched

        log.run_on(GeventRuntime())


def watch_machine(log: eventlog.EventLog) -> None:
    """Every second, close a log that was moved, even in an idle worker, and log a jump of the clock.

    No process can open a log that was moved until all processes have closed it.
    """
    clock = Clock()
    while True:
        time.sleep(1)
        log.close_if_moved()
        clock.log_jump()


def worker_exit(server: Arbiter, worker: Worker) -> None:
    """Close the log. The last worker to do so checkpoints the WAL into the file."""
    if worker.wsgi is not None:
        worker.wsgi.extensions["eventlog"].close()
    # Flask creates this unused handler. Freed later, at exit, it would need a lock that gevent no longer has.
    flask.logging.default_handler = None
