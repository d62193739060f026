"""How gunicorn serves tracklog; found by `gunicorn wsgi:app` in this folder, and overruled by its command line."""

import gc
import os
import signal
import sys
import threading
import time

import flask.logging

import eventlog
from config import Config
from serving import gunicorn_patches
from serving.gunicorn_logger import Logger
from telemetry import logs, metrics

settings = Config.from_environment()

bind = settings.bind
workers = 2
worker_class = "gevent"
worker_connections = 4096  # held open per worker; a half-sent request costs one and nothing else
keepalive = 20  # seconds; nginx must close idle connections first, lest one is closed under a request
graceful_timeout = 30  # seconds; longer than keepalive, so that a worker that stops closes no connection in use
control_socket_disable = True
limit_request_line = 8190  # bytes; as long as nginx lets a pixel's URL be
sendfile = False  # there are no files to send
proc_name = "tracklog"
logger_class = Logger
accesslog = "-" if settings.access_log == "on" else None

# Beside the log, since two services may run from one checkout.
counted = f"{settings.database}-metrics"

# The app believes no forwarding header, so gunicorn need not check whom it could believe at every request.
forwarded_allow_ips = "*"
secure_scheme_headers = {}
forwarder_headers = ""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def on_starting(server):
    """Check and migrate the log before any worker starts; not at a reload, where workers of before still write."""
    try:
        eventlog.migrate(settings.database)
    except eventlog.Unavailable as failure:
        sys.exit(str(failure))
    metrics.forget(counted)
    os.register_at_fork(after_in_parent=deliver_stop_signals)


def when_ready(server):
    logs.start(settings, server.cfg.workers, [str(listener) for listener in server.LISTENERS])


def on_exit(server):
    logs.stop()


def deliver_stop_signals():
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def pre_fork(server, worker):
    """Block the stop signals until the worker has its own handlers; the master's would only take note of them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def post_fork(server, worker):
    """Let a worker that is still booting exit at a stop signal, without gunicorn's warning that a signal killed it."""
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: os._exit(0))
    deliver_stop_signals()


def pre_request(worker, request):
    """Do nothing, where gunicorn would make a line for its debug log."""


def post_worker_init(worker):
    """Adapt gunicorn, share metrics with the other workers, and prepare the log for this kind of worker."""
    gunicorn_patches.adapt(worker.cfg)
    worker.wsgi.extensions["metrics"].share(counted)
    log = worker.wsgi.extensions["eventlog"]
    log.keep_reserve()
    threading.Thread(target=close_moved_log, args=(log,), daemon=True).start()
    gc.freeze()  # the program's own objects need no collecting
    # A full collection looks at every object of the bodies in memory: up to a second in which nobody is answered.
    gc.set_threshold(700, 10, 10_000)
    if worker.cfg.worker_class_str != "gevent":
        return
    from serving.gevent_runtime import GeventRuntime  # not before gevent has patched

    log.run_on(GeventRuntime())


def close_moved_log(log):
    """Close a log that was moved, even in an idle worker. No process can open it until all have closed it."""
    while True:
        time.sleep(1)
        log.close_if_moved()


def worker_exit(server, worker):
    """Close the log: the last worker to do so leaves all of it in its one file."""
    if worker.wsgi is not None:
        worker.wsgi.extensions["eventlog"].close()
    # Flask makes it though nobody uses it. Freed any later, it would ask for a lock that gevent no longer has.
    flask.logging.default_handler = None
