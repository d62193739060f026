"""Read a request's body, whole and inflated, within a limit."""

import zlib

from errors import Refused

KEPT_OF_UNREADABLE = 64 * 1024  # bytes of a body that is too large or not what its headers say
INFLATE_STEP = 256 * 1024  # bytes


class Body:
    """What was sent: all of it in `content`, or only its beginning if it was `cut`."""

    def __init__(self):
        self.content = b""
        self.is_cut = False

    def read(self, request, limit, pause):
        """Read and return the content; raise Refused for more than `limit` bytes and for what cannot be read.

        Inflating a large body would hold the processor for long; `pause` is called on the way.
        """
        sent = self._receive(request, limit)
        encoding = request.environ.get("HTTP_CONTENT_ENCODING", "").strip().lower()
        if encoding in ("", "identity"):
            self.content = sent
        elif encoding in ("gzip", "x-gzip"):
            self.content = self._inflate(sent, limit, pause)
        else:
            raise self._cut(sent, "invalid_encoding", "Content-Encoding may be gzip, or absent")
        return self.content

    def _receive(self, request, limit):
        length = int(request.environ.get("CONTENT_LENGTH") or 0)
        try:
            # The stream ends with the body, as gunicorn makes it.
            sent = request.environ["wsgi.input"].read(KEPT_OF_UNREADABLE if length > limit else limit + 1)
        except Exception as error:  # of the server's own kinds: bad chunks, a connection that broke
            raise self._cut(b"", "invalid_encoding", f"The body could not be read: {error}") from error
        if length > limit or len(sent) > limit:
            raise self._cut(sent, "payload_too_large", f"A body may have {limit} bytes")
        if len(sent) < length:
            raise self._cut(sent, "invalid_encoding", f"The body ended after {len(sent)} of {length} bytes")
        return sent

    def _inflate(self, sent, limit, pause):
        inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # gzip
        inflated, tail = bytearray(), sent
        try:
            while not inflater.eof:
                piece = inflater.decompress(tail, INFLATE_STEP)
                tail = inflater.unconsumed_tail
                inflated += piece
                if len(inflated) > limit:
                    beginning = bytes(inflated[:KEPT_OF_UNREADABLE])
                    raise self._cut(beginning, "payload_too_large", f"A body may have {limit} bytes when inflated")
                if not piece and not tail and not inflater.eof:
                    raise self._cut(sent, "invalid_encoding", "The gzip data ends too early")
                pause()
        except zlib.error as error:
            raise self._cut(
                sent, "invalid_encoding", "The body is not gzip data, as Content-Encoding says it is"
            ) from error
        if inflater.unused_data:
            raise self._cut(sent, "invalid_encoding", "The body goes on after its gzip data")
        return bytes(inflated)

    def _cut(self, beginning, code, message):
        self.content = beginning[:KEPT_OF_UNREADABLE]
        self.is_cut = True
        return Refused(code, message)
