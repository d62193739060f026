"""Read a request's body, whole and inflated, within a limit."""

import zlib

from errors import ApiError

KEPT_OF_UNREADABLE = 64 * 1024  # bytes of a body that is too large or not what its headers say
STEP = 128 * 1024  # bytes that are received, inflated or made by inflating at a time


class Body:
    """What was sent: all of it in `content`, or only its beginning if it was `cut`."""

    def __init__(self):
        self.content = b""
        self.is_cut = False

    def read(self, request, limit, pause, admit):
        """Read and return the content; raise ApiError for more than `limit` bytes and for what cannot be read.

        `pause` is called while it is received. `admit` is called when it has been, and while it is inflated, with the
        size that has been reached; it may wait.
        """
        sent = self._receive(request, limit, pause)
        admit(len(sent))
        encoding = request.environ.get("HTTP_CONTENT_ENCODING", "").strip().lower()
        if encoding in ("", "identity"):
            self.content = sent
        elif encoding in ("gzip", "x-gzip"):
            self.content = self._inflate(sent, limit, admit)
        else:
            raise self._cut(sent, "invalid_encoding", "Content-Encoding may be gzip, or absent")
        return self.content

    def _receive(self, request, limit, pause):
        length = int(request.environ.get("CONTENT_LENGTH") or 0)
        try:
            # The stream ends with the body, as gunicorn makes it.
            read = request.environ["wsgi.input"].read
            most = KEPT_OF_UNREADABLE if length > limit else limit + 1
            sent = read(min(STEP, most))
            if len(sent) == STEP:
                pieces, size = [sent], STEP
                while size < most and (piece := read(min(STEP, most - size))):
                    pieces.append(piece)
                    size += len(piece)
                    pause()
                sent = b"".join(pieces)
        except Exception as error:  # of the server's own kinds: bad chunks, a connection that broke
            raise self._cut(b"", "invalid_encoding", f"The body could not be read: {error}") from error
        if length > limit or len(sent) > limit:
            raise self._cut(sent, "payload_too_large", f"A body may have {limit} bytes")
        if len(sent) < length:
            raise self._cut(sent, "invalid_encoding", f"The body ended after {len(sent)} of {length} bytes")
        return sent

    def _inflate(self, sent, limit, admit):
        inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # gzip
        inflated, fed = bytearray(), 0
        try:
            while not inflater.eof:
                # Both ends in steps: there is gzip data that takes long and holds nothing.
                given = inflater.unconsumed_tail or sent[fed : fed + STEP]
                fed += 0 if inflater.unconsumed_tail else len(given)
                piece = inflater.decompress(given, STEP)
                inflated += piece
                if len(inflated) > limit:
                    beginning = bytes(inflated[:KEPT_OF_UNREADABLE])
                    raise self._cut(beginning, "payload_too_large", f"A body may have {limit} bytes when inflated")
                if not piece and not given:
                    raise self._cut(sent, "invalid_encoding", "The gzip data ends too early")
                admit(len(inflated))
        except zlib.error as error:
            raise self._cut(
                sent, "invalid_encoding", "The body is not gzip data, as Content-Encoding says it is"
            ) from error
        if inflater.unused_data or fed < len(sent):
            raise self._cut(sent, "invalid_encoding", "The body goes on after its gzip data")
        return bytes(inflated)

    def _cut(self, beginning, code, message):
        self.content = beginning[:KEPT_OF_UNREADABLE]
        self.is_cut = True
        return ApiError(code, message)
