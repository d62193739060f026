"""Patch the parts of gunicorn 27 that have no setting for what this API needs.

| replaced             | why                                                  | worth                                 |
|----------------------|------------------------------------------------------|---------------------------------------|
| `http.wsgi.Response` | send head and body in one piece                      | 7.3 % of a call's CPU                 |
| `http.wsgi.Response` | read the rest of a refused body before closing       | needed: else 9 of 20 clients got a 502|
| `http.Request`       | bound the headers as a whole, not each of them       | needed: the API promises it           |
| `util.http_date`     | format the date once a second, not for each answer   | 3 % of a call's CPU                   |
| `WSGIErrorsWrapper`  | look up the logger once, not for each call           | 3 % of a call's CPU                   |
| `util.write_error`   | answer malformed requests in JSON, then read the rest| needed: the API promises it           |
| `Config.__getattr__` | keep settings as attributes: a call reads 24 of them | 4.5 % of a call's CPU                 |

docs/decisions.md says how this was measured. Patches worth less than 3 % were removed. setup.cfg pins the versions.
"""

import json
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate
from functools import cache, lru_cache
from traceback import clear_frames
from typing import Any

from gunicorn import util
from gunicorn.config import Config
from gunicorn.http import RequestParser, message, wsgi
from gunicorn.http.errors import LimitRequestHeaders

from errors import ApiError
from telemetry import logs

MAX_HEADER_BYTES = 64 * 1024 + 256  # 64 KiB, and room for the headers that a proxy adds
MAX_READ_BYTES = 8192  # that gunicorn's parser reads at a time
MAX_DRAIN_BYTES = 64 * 1024 * 1024
MAX_DRAIN_SECONDS = 10


class Request(message.Request):  # type: ignore[misc, unused-ignore]
    """Limits the size of all headers together. gunicorn would buffer the largest header times their number."""

    # The last read of a valid request may bring part of the body with it.
    max_buffer_headers = property(lambda _: MAX_HEADER_BYTES + MAX_READ_BYTES, lambda *_: None)

    def parse_headers(self, data: bytes, from_trailer: bool = False) -> list[tuple[str, str]]:
        if len(data) > MAX_HEADER_BYTES:
            raise LimitRequestHeaders("more than 64 KiB of headers")
        headers: list[tuple[str, str]] = super().parse_headers(data, from_trailer)
        return headers


class Response(wsgi.Response):  # type: ignore[misc, unused-ignore]
    """Sends the head of an answer together with its body, and reads all of the request before it closes."""

    headers_sent: bool
    _unsent_head = b""

    def send_headers(self) -> None:
        if not self.headers_sent:
            lines = [*self.default_headers(), *(f"{name}: {value}\r\n" for name, value in self.headers), "\r\n"]
            self._unsent_head = "".join(lines).encode("latin-1")
            self.headers_sent = True

    def _emit_body(self, data: bytes) -> None:
        self._send(b"%X\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def close(self) -> None:
        self.send_headers()
        self._send(b"0\r\n\r\n" if self.chunked else b"")
        if not drain(self.sock, self.req.body.read):
            self.force_close()

    def _send(self, data: bytes) -> None:
        data, self._unsent_head = self._unsent_head + data, b""
        sent = self.sock.send(data) if data else 0  # gevent's sendall costs twice as much
        if sent < len(data):
            self.sock.sendall(data[sent:])


def drain(sock: Any, read: Callable[[int], bytes]) -> bool:
    """Read the rest of a request with `read`, within limits. Return whether all of it was read.

    Closing a connection with unread bytes resets it, and the client never sees the answer. On a connection that is
    kept open, gunicorn would read the rest without a limit and without letting other requests run.
    """
    deadline, size = time.monotonic() + MAX_DRAIN_SECONDS, 0
    with suppress(Exception):
        sock.settimeout(MAX_DRAIN_SECONDS)
        while piece := read(65_536):
            size += len(piece)
            if size >= MAX_DRAIN_BYTES or time.monotonic() > deadline:
                return False
            time.sleep(0.001)
        sock.settimeout(None)
        return True
    return False


def write_error(sock: Any, status_int: int, reason: str, mesg: str) -> None:
    """Answer a request that gunicorn cannot parse."""
    error = ApiError("internal_error") if status_int == 500 else ApiError("bad_request", mesg or reason)
    body = json.dumps(error.body())
    head = f"HTTP/1.1 {error.status} {reason}\r\nConnection: close\r\nContent-Type: application/json\r\n"
    # gunicorn passes no request; only the exception that is being handled may refer to it.
    request_headers = dict(getattr(getattr(sys.exception(), "req", None), "headers", ()))
    if request_id := logs.valid_request_id(request_headers.get("X-REQUEST-ID")):
        head += f"X-Request-ID: {request_id}\r\n"
    if error.status < 500:
        logs.log_rejection(error.code, {"tracklog.request_id": request_id})
    util.write_nonblock(sock, f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode("latin-1"))
    clear_frames(getattr(sys.exception(), "__traceback__", None))  # frees the headers, up to 72 KiB in two copies
    sock.shutdown(socket.SHUT_WR)  # the client may wait for the end of the connection
    drain(sock, sock.recv)


def http_date(timestamp: float | None = None) -> str:
    """Return the time of the Date header; it is the present one unless given, in seconds since the epoch."""
    return _format_date(int(time.time() if timestamp is None else timestamp))


@lru_cache(maxsize=1)
def _format_date(second: int) -> str:
    return formatdate(second, usegmt=True)


def apply(cfg: Config) -> None:
    """Patch gunicorn in this process, a worker with the settings `cfg`."""
    RequestParser.mesg_class = Request
    wsgi.Response = Response
    wsgi.WSGIErrorsWrapper = cache(wsgi.WSGIErrorsWrapper)
    util.http_date = http_date
    util.write_error = write_error
    vars(cfg).update({name: setting.get() for name, setting in cfg.settings.items()})
