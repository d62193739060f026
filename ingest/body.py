"""Read and inflate a request's body within a limit."""

import zlib
from collections.abc import Callable

from flask import Request

from errors import ApiError

MAX_KEPT_BYTES = 64 * 1024  # kept of a body that is too large or not what its headers say
CHUNK_BYTES = 128 * 1024  # received, given to zlib or taken from it at a time


class Body:
    """A request's body. `content` holds all of it, or only its beginning if `is_cut`."""

    def __init__(self) -> None:
        self.content = b""
        self.is_cut = False

    def read(
        self, request: Request, limit: int, yield_control: Callable[[], None], claim_size: Callable[[int], None]
    ) -> bytes:
        """Read and return the content. Raise ApiError if it has more than `limit` bytes or cannot be read.

        Calls `yield_control` while it receives. Calls `claim_size`, which may wait, with the size that was received
        and with each size that inflating reaches.
        """
        sent = self._receive(request, limit, yield_control)
        claim_size(len(sent))
        encoding = request.environ.get("HTTP_CONTENT_ENCODING", "").strip().lower()
        if encoding in ("", "identity"):
            self.content = sent
        elif encoding in ("gzip", "x-gzip"):
            self.content = self._inflate(sent, limit, claim_size)
        else:
            raise self._cut(sent, "invalid_encoding", "Content-Encoding must be gzip or absent")
        return self.content

    def _receive(self, request: Request, limit: int, yield_control: Callable[[], None]) -> bytes:
        length = int(request.environ.get("CONTENT_LENGTH") or 0)
        try:
            # gunicorn ends the stream with the body, and returns fewer bytes than asked for only there.
            read = request.environ["wsgi.input"].read
            max_bytes = MAX_KEPT_BYTES if length > limit else limit + 1
            pieces: list[bytes] = [read(min(CHUNK_BYTES, max_bytes))]
            while len(pieces[-1]) == CHUNK_BYTES:
                yield_control()
                pieces.append(read(min(CHUNK_BYTES, max_bytes - CHUNK_BYTES * len(pieces))))
            sent = b"".join(pieces)
        except Exception as error:  # gunicorn's own kinds: bad chunks, a broken connection
            raise self._cut(b"", "invalid_encoding", f"The body could not be read: {error}") from error
        if length > limit or len(sent) > limit:
            raise self._cut(sent, "payload_too_large", f"A body may have at most {limit} bytes")
        if len(sent) < length:
            raise self._cut(sent, "invalid_encoding", f"The body ended after {len(sent)} of {length} bytes")
        return sent

    def _inflate(self, sent: bytes, limit: int, claim_size: Callable[[int], None]) -> bytes:
        inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # gzip
        inflated, fed = bytearray(), 0
        try:
            while not inflater.eof:
                # Limit input and output: gzip data can take long to inflate to nothing.
                given = inflater.unconsumed_tail or sent[fed : fed + CHUNK_BYTES]
                fed += 0 if inflater.unconsumed_tail else len(given)
                piece = inflater.decompress(given, CHUNK_BYTES)
                inflated += piece
                if len(inflated) > limit:
                    message = f"A body may have at most {limit} bytes when inflated"
                    raise self._cut(bytes(inflated[:MAX_KEPT_BYTES]), "payload_too_large", message)
                if not piece and not given:
                    raise self._cut(sent, "invalid_encoding", "The gzip data ends too early")
                claim_size(len(inflated))
        except zlib.error as error:
            raise self._cut(sent, "invalid_encoding", "Content-Encoding is gzip, but the body is not") from error
        if inflater.unused_data or fed < len(sent):
            raise self._cut(sent, "invalid_encoding", "There is more data after the end of the gzip data")
        return bytes(inflated)

    def _cut(self, beginning: bytes, code: str, message: str) -> ApiError:
        """Keep only the beginning of the body. Return the ApiError for it."""
        self.content = beginning[:MAX_KEPT_BYTES]
        self.is_cut = True
        return ApiError(code, message)
