"""How gunicorn serves tracklog; found by `gunicorn wsgi:app` in this folder, and overruled by its command line."""

import gc
import json
import sys

import gunicorn.util

import eventlog
from config import Config
from errors import Refused

settings = Config.from_environment()

bind = settings.bind
workers = 2
worker_class = "gevent"
worker_connections = 4096  # held open per worker; a half-sent request costs one and nothing else
keepalive = 20  # seconds; nginx must close idle connections first, lest one is closed under a request
graceful_timeout = 30  # seconds; longer than keepalive, so that a worker that stops closes no connection in use
control_socket_disable = True
proc_name = "tracklog"

# The app believes no forwarding header, so gunicorn need not check whom it could believe at every request.
forwarded_allow_ips = "*"
secure_scheme_headers = {}
forwarder_headers = ""


def write_error(sock, status, reason, message):
    """Answer what is no HTTP that gunicorn takes with the API's JSON instead of gunicorn's HTML."""
    refused = Refused("internal_error") if status == 500 else Refused("bad_request", message or reason)
    body = json.dumps(refused.body())
    head = f"HTTP/1.1 {refused.status} {reason}\r\nConnection: close\r\nContent-Type: application/json\r\n"
    gunicorn.util.write_nonblock(sock, f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode("latin-1"))


gunicorn.util.write_error = write_error


def on_starting(server):
    """Check and migrate the log before any worker starts; not at a reload, where workers of before still write."""
    try:
        eventlog.migrate(settings.database)
    except eventlog.Unavailable as failure:
        sys.exit(str(failure))


def post_worker_init(worker):
    """Let gevent's idle moments gather the log's groups."""
    gc.freeze()  # the program's own objects need no collecting
    if worker.cfg.worker_class_str != "gevent":
        return
    import gevent

    def gather():
        with gevent.Timeout(0.005, False):  # under a flood the loop is never idle
            gevent.idle()

    worker.wsgi.extensions["eventlog"].cooperate(gather, aside=gevent.get_hub().threadpool.apply)


def worker_exit(server, worker):
    """Close the log: the last worker to do so leaves all of it in its one file."""
    if worker.wsgi is not None:
        worker.wsgi.extensions["eventlog"].close()
