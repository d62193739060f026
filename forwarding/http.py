"""POST over a connection that stays open, and interpret the answer."""

import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC
from email.utils import parsedate_to_datetime
from time import monotonic, time
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlencode

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from config import VERSION

from .delivery import Deliverer, RetryLater

TIMEOUT = urllib3.Timeout(connect=10, read=60)  # seconds, for each step of a POST
MAX_POST_SECONDS = 120.0  # from connecting to the end of the answer
MAX_ANSWER_BYTES = 64 * 1024  # inflated; the rest is not read
MAX_CONNECTIONS = 8
MAX_ERROR_CHARACTERS = 300
REJECTIONS = (400, 413, 422)  # statuses that an event of the request may cause


class Answer(NamedTuple):
    """A destination's answer: the status and the first 64 KiB of the body."""

    status: int
    body: bytes
    is_cut: bool  # the body was longer
    retry_after: float | None  # seconds


class Poster(Deliverer):
    """Base of deliverers that post JSON to one URL, without the key or secret before its @. Threads may share it."""

    def __init__(self, parts: SplitResult, options: Mapping[str, str], headers: Mapping[str, str]) -> None:
        scheme = parts.scheme.removeprefix("webhook+")
        netloc = parts.netloc.rpartition("@")[2]
        self.url = parts._replace(scheme=scheme, netloc=netloc, query=urlencode(options), fragment="").geturl()
        url = urllib3.util.parse_url(self.url)
        if not url.host:
            raise ValueError("it names no host")
        self._target = url.request_uri
        self._headers = {"User-Agent": f"tracklog/{VERSION}", "Content-Type": "application/json", **headers}
        self._aborted = threading.Event()
        # Busy connections, with their deadline and socket. A connection may lose its socket before it is closed.
        self._busy: dict[Any, tuple[float, socket.socket | None]] = {}
        pool = urllib3.HTTPSConnectionPool if scheme == "https" else urllib3.HTTPConnectionPool
        self._pool = pool(url.host, url.port, maxsize=MAX_CONNECTIONS, timeout=TIMEOUT, watch=self._watch)
        self._pool.ConnectionCls = _WatchedHttps if scheme == "https" else _WatchedHttp
        self._deadline_thread = threading.Thread(target=self._cut_overdue, daemon=True)
        self._deadline_thread.start()

    def post(self, body: bytes, headers: Mapping[str, str] = {}) -> Answer:
        """Return an answer with a 2xx or one of REJECTIONS. Raises RetryLater for another one or no whole answer."""
        began = monotonic()
        try:
            answer = self._post(body, {**self._headers, **headers})
        except urllib3.exceptions.HTTPError as error:
            raise RetryLater(self._why_cut(began) or f"{type(error).__name__}: {error}") from error
        if why := self._why_cut(began):  # the part that was read may look like a whole answer
            raise RetryLater(why)
        self.last_answer = describe(answer)
        if not (200 <= answer.status < 300 or answer.status in REJECTIONS):
            raise RetryLater(self.last_answer, answer.retry_after, is_server_fault=answer.status >= 500)
        return answer

    def abort(self) -> bool:
        self._aborted.set()
        for _, sock in list(self._busy.values()):
            _cut(sock)
        return True

    def close(self) -> None:
        self.abort()
        self._deadline_thread.join()
        self._pool.close()

    def _post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        answer = self._pool.urlopen(
            "POST", self._target, body, headers, retries=False, redirect=False, preload_content=False
        )
        connection = answer.connection
        try:
            content = answer.read(MAX_ANSWER_BYTES + 1)
        finally:
            if not answer.closed:  # the unread rest would be taken for the next answer
                answer.close()
            answer.release_conn()
            self._busy.pop(connection, None)
        return Answer(answer.status, content[:MAX_ANSWER_BYTES], len(content) > MAX_ANSWER_BYTES, _retry_after(answer))

    def _why_cut(self, began: float) -> str:
        """Return why a POST that began then may have been cut off, or an empty string."""
        if self._aborted.is_set():
            return "the delivery was aborted"
        return f"no whole answer within {MAX_POST_SECONDS:.0f} s" if monotonic() - began >= MAX_POST_SECONDS else ""

    def _watch(self, connection: HTTPConnection) -> None:
        """Set the deadline of a connection that is about to connect or send, or has connected."""
        self._busy[connection] = monotonic() + MAX_POST_SECONDS, connection.sock
        if self._aborted.is_set():
            raise ConnectionAbortedError("the delivery was aborted")

    def _cut_overdue(self) -> None:
        while not self._aborted.wait(1.0):
            for connection, (due, sock) in list(self._busy.items()):
                if monotonic() >= due:
                    self._busy.pop(connection, None)
                    _cut(sock)


class _Watched:
    """Mixed into urllib3's connections: calls `watch` when one connects or sends."""

    def __init__(self, *arguments: Any, watch: Callable[[Any], None], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._watch = watch

    def connect(self) -> None:
        self._watch(self)
        super().connect()  # type: ignore[misc]
        self._watch(self)

    def request(self, *arguments: Any, **options: Any) -> None:
        self._watch(self)
        super().request(*arguments, **options)  # type: ignore[misc]


class _WatchedHttp(_Watched, HTTPConnection):
    pass


class _WatchedHttps(_Watched, HTTPSConnection):
    pass


def _cut(sock: socket.socket | None) -> None:
    """Shut a socket down. A thread that uses it gets an error or the end of the stream."""
    if sock is not None:
        with suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # below TLS, so that no closing message can block


def describe(answer: Answer) -> str:
    """Return the status and the beginning of the body, as an error message."""
    return f"{answer.status} {answer.body[:MAX_ERROR_CHARACTERS].decode(errors='replace').strip()}"


def _retry_after(answer: urllib3.BaseHTTPResponse) -> float | None:
    """Return the seconds that an answer asks to wait, as a number or until a date."""
    text = answer.headers.get("Retry-After", "")
    with suppress(ValueError):
        return max(0.0, float(text))
    with suppress(ValueError, OverflowError):  # the second for a year that no date can have
        date = parsedate_to_datetime(text)
        return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - time())
    return None
