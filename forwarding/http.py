"""POST over a kept connection, and tell what the answer means."""

import json
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from time import monotonic
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlencode

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from .delivery import DeliveryRejected, RetryLater

TIMEOUT = urllib3.Timeout(connect=10, read=60)  # seconds for each step
MAX_SECONDS = 120.0  # for a whole POST, from its connection to the end of its answer
MAX_ANSWER_BYTES = 64 * 1024  # inflated; what is beyond is not read
MAX_CONNECTIONS = 8
MAX_ERROR_CHARACTERS = 300
AT_ONCE = (408, 429)  # beside 5xx and no answer at all, what is worth another try


class Answer(NamedTuple):
    """What a destination answered: its status, and the beginning of its body."""

    status: int
    body: bytes
    is_cut: bool  # there was more of the body
    retry_after: float | None  # seconds


class Poster:
    """Posts to one URL, with the key or secret before its @ left out. Threads may share it."""

    def __init__(self, parts: SplitResult, options: Mapping[str, str]) -> None:
        scheme = parts.scheme.removeprefix("webhook+")
        netloc = parts.netloc.rpartition("@")[2]
        self.url = parts._replace(scheme=scheme, netloc=netloc, query=urlencode(options), fragment="").geturl()
        url = urllib3.util.parse_url(self.url)
        if not url.host:
            raise ValueError("it names no host")
        self._target = url.request_uri
        self._aborted = threading.Event()
        # Connections that are busy, until when they may be, and their sockets, which outlive some of them.
        self._busy: dict[Any, tuple[float, socket.socket | None]] = {}
        pool = _HttpsPool if scheme == "https" else _HttpPool
        self._pool = pool(url.host, url.port, maxsize=MAX_CONNECTIONS, timeout=TIMEOUT, watch=self._watch)
        self._watchman = threading.Thread(target=self._cut_overdue, daemon=True)
        self._watchman.start()

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Return the answer if it is one of success or refusal; raise RetryLater for all else."""
        began = monotonic()
        try:
            answer = self._post(body, headers)
        except urllib3.exceptions.HTTPError as error:
            raise RetryLater(self._why_cut(began) or f"{type(error).__name__}: {error}") from error
        if why := self._why_cut(began):  # its beginning may look like a whole answer
            raise RetryLater(why)
        if answer.status >= 500 or answer.status in AT_ONCE:
            raise RetryLater(said(answer), answer.retry_after, is_server_fault=answer.status >= 500)
        return answer

    def abort(self) -> None:
        """Cut all connections: nothing more is sent from now on, and every `post` raises RetryLater."""
        self._aborted.set()
        for _, sock in list(self._busy.values()):
            _cut(sock)

    def close(self) -> None:
        self.abort()
        self._watchman.join()
        self._pool.close()

    def _post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        answer = self._pool.urlopen(
            "POST", self._target, body, headers, retries=False, redirect=False, preload_content=False
        )
        connection = answer.connection
        try:
            content = answer.read(MAX_ANSWER_BYTES + 1)
        finally:
            if not answer.closed:  # what is left to read would be taken for the next answer
                answer.close()
            answer.release_conn()
            self._busy.pop(connection, None)
        return Answer(answer.status, content[:MAX_ANSWER_BYTES], len(content) > MAX_ANSWER_BYTES, _retry_after(answer))

    def _why_cut(self, began: float) -> str:
        """Return why an answer to what `began` then may have been cut off, or nothing."""
        if self._aborted.is_set():
            return "the forwarder goes on no more"
        return f"no whole answer within {MAX_SECONDS:.0f} s" if monotonic() - began >= MAX_SECONDS else ""

    def _watch(self, connection: HTTPConnection) -> None:
        """Hear of a connection that is about to connect or send, or has connected."""
        self._busy[connection] = monotonic() + MAX_SECONDS, connection.sock
        if self._aborted.is_set():
            raise ConnectionAbortedError("the forwarder goes on no more")

    def _cut_overdue(self) -> None:
        while not self._aborted.wait(1.0):
            for connection, (due, sock) in list(self._busy.items()):
                if monotonic() >= due:
                    self._busy.pop(connection, None)
                    _cut(sock)


class _Watched:
    """Says to `watch` when a connection does something. It is mixed into those of urllib3."""

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


class HttpConnection(_Watched, HTTPConnection):
    pass


class HttpsConnection(_Watched, HTTPSConnection):
    pass


class _HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = HttpConnection


class _HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = HttpsConnection


def _cut(sock: socket.socket | None) -> None:
    """End whatever a thread does with a socket: it gets an error, or the end of the stream."""
    if sock is not None:
        with suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # also of TLS, without a word to the other side


def refusal(answer: Answer) -> DeliveryRejected:
    return DeliveryRejected(str(answer.status), said(answer))


def said(answer: Answer) -> str:
    """Return a line of what the destination answered."""
    return f"{answer.status} {answer.body[:MAX_ERROR_CHARACTERS].decode(errors='replace').strip()}"


def json_of(answer: Answer) -> Mapping[str, Any]:
    """Return the object that was answered, or an empty one."""
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _retry_after(answer: urllib3.BaseHTTPResponse) -> float | None:
    try:
        return max(0.0, float(answer.headers.get("Retry-After", "")))
    except ValueError:
        return None
