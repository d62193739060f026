"""Write the bytes of HTTP requests, good and bad, and the answers that they should get."""

from typing import NamedTuple

from service import AUTHENTICATION

KEY = f"Authentication: {AUTHENTICATION['Authentication']}\r\n".encode()
EVENT = b'{"userId": "1", "event": "Posted"}'
CHUNKS = b"Transfer-Encoding: chunked\r\n"
LAST = b"0\r\n\r\n"  # the last chunk, without trailers

BAD, OK, LENIENT = "bad_request", "ok", "ok | bad_request"
NOT_FOUND, NOT_ALLOWED, UNREADABLE = "not_found", "method_not_allowed", "invalid_encoding"


class Case(NamedTuple):
    """Bytes to send, and the expected answers of gunicorn, and of nginx in front of it if they differ.

    Answers are codes with spaces between them: one per response, as `wire.Answer` has them. Alternatives, for versions
    of nginx that differ, have a | between them.
    """

    name: str
    sent: bytes
    gunicorn: str
    behind_nginx: str | None = None

    def expected(self, way: str) -> str:
        return self.gunicorn if way == "gunicorn" or self.behind_nginx is None else self.behind_nginx


def post(
    body: bytes = EVENT,
    head: bytes = b"",
    line: bytes = b"POST /v1/track HTTP/1.1",
    host: bytes = b"Host: x\r\n",
    length: bytes | None = None,
) -> bytes:
    length = b"Content-Length: %d\r\n" % len(body) if length is None else length
    return line + b"\r\n" + host + KEY + length + head + b"\r\n" + body


def post_to(target: bytes) -> bytes:
    return post(line=b"POST %b HTTP/1.1" % target)


def with_head(*lines: bytes) -> bytes:
    return post(head=b"".join(line + b"\r\n" for line in lines))


def with_length(*values: bytes) -> bytes:
    return post(length=b"".join(b"Content-Length: %b\r\n" % value for value in values))


def with_chunks(*lines: bytes) -> bytes:
    """Return an event in chunks, with these header lines instead of a length."""
    return post(chunk(EVENT) + LAST, b"".join(line + b"\r\n" for line in lines), length=b"")


def in_chunks(chunks: bytes, end: bytes = LAST, line: bytes = b"POST /v1/track HTTP/1.1") -> bytes:
    return post(chunks + end, CHUNKS, line, length=b"")


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


SMUGGLED = post(b'{"userId": "1", "event": "Smuggled"}')
