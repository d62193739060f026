"""What gunicorn does otherwise for tracklog: it refuses and logs in JSON, and spends less on each answer."""

import email.utils
import json
import sys
import time
from contextlib import suppress
from functools import cache, lru_cache

from gunicorn import util
from gunicorn.http import wsgi

from errors import ApiError
from telemetry import logs

DRAIN_BYTES = 64 * 1024 * 1024
DRAIN_SECONDS = 10


class Response(wsgi.Response):
    """Sends the head of an answer in one piece with its body."""

    _held = b""

    def send_headers(self):
        if not self.headers_sent:
            lines = [*self.default_headers(), *(f"{name}: {value}\r\n" for name, value in self.headers), "\r\n"]
            self._held = "".join(lines).encode("latin-1")
            self.headers_sent = True

    def _emit_body(self, data):
        self._send(b"%X\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def close(self):
        self.send_headers()
        self._send(b"0\r\n\r\n" if self.chunked else b"")
        if not self._is_drained():
            self.force_close()

    def _send(self, data):
        data, self._held = self._held + data, b""
        sent = self.sock.send(data) if data else 0  # gevent's sendall costs twice as much
        if sent < len(data):
            self.sock.sendall(data[sent:])

    def _is_drained(self):
        """Take the rest of the request, and tell whether that was all of it.

        To close a connection on unread bytes resets it, and its answer is lost. On a connection that is kept, gunicorn
        would read the rest without a bound, and let no other request run meanwhile.
        """
        deadline, size = time.monotonic() + DRAIN_SECONDS, 0
        with suppress(Exception):
            self.sock.settimeout(DRAIN_SECONDS)
            while piece := self.req.body.read(65_536):
                size += len(piece)
                if size >= DRAIN_BYTES or time.monotonic() > deadline:
                    return False
                time.sleep(0.001)
            self.sock.settimeout(None)
            return True
        return False


def write_error(sock, status, reason, message):
    """Answer what gunicorn takes for no HTTP."""
    refused = ApiError("internal_error") if status == 500 else ApiError("bad_request", message or reason)
    body = json.dumps(refused.body())
    head = f"HTTP/1.1 {refused.status} {reason}\r\nConnection: close\r\nContent-Type: application/json\r\n"
    # gunicorn hands on what it knows of the request only with the error that is being handled.
    request_headers = dict(getattr(getattr(sys.exception(), "req", None), "headers", ()))
    if request_id := logs.valid_request_id(request_headers.get("X-REQUEST-ID")):
        head += f"X-Request-ID: {request_id}\r\n"
    if refused.status < 500:
        logs.log_rejection(refused.code, {"tracklog.request_id": request_id})
    util.write_nonblock(sock, f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode("latin-1"))


def http_date(timestamp=None):
    return _date_of(int(timestamp or time.time()))


_date_of = lru_cache(maxsize=1)(lambda second: email.utils.formatdate(second, usegmt=True))
_base_environ = cache(wsgi.base_environ)


def adapt(cfg):
    """Change gunicorn in this process, a worker with the settings `cfg`."""
    wsgi.Response = Response
    wsgi.base_environ = lambda cfg: _base_environ(cfg).copy()
    util.http_date = http_date
    util.write_error = write_error
    # Settings are read some twenty times for a request, each time through Config.__getattr__ but for these.
    vars(cfg).update({name: setting.get() for name, setting in cfg.settings.items()})
