"""Read a request's body within a limit, and undo what its sender wrapped it in: gzip, a form, base64."""

import binascii
import re
import zlib
from codecs import BOM_UTF8
from collections.abc import Callable
from typing import TYPE_CHECKING

from errors import ApiError

if TYPE_CHECKING:  # the browsing page decodes forms too, without Flask
    from flask import Request

MAX_KEPT_BYTES = 64 * 1024  # kept of a body that is too large or not what its headers say
CHUNK_BYTES = 128 * 1024  # received, given to zlib or taken from it, or decoded from base64 at a time
PERCENT_CHUNK_BYTES = 16 * 1024  # decoding this many percent escapes takes about a millisecond
GZIP_MAGIC = b"\x1f\x8b"

_FORM_TYPE = "application/x-www-form-urlencoded"
_BLANKS = BOM_UTF8 + b" \t\r\n"  # before a JSON object
_escape = re.compile(rb"%([0-9a-fA-F]{2})")  # unquote_to_bytes takes 35 times as long for percent signs alone
_STANDARD_BASE64 = bytes.maketrans(b" -_", b"++/")  # a form's encoding turns + into a space


class Body:
    """A request's body. `content` holds all of it, inflated, or only its beginning if `is_cut`."""

    def __init__(self) -> None:
        self.content = b""
        self.is_cut = False

    def read(
        self, request: "Request", limit: int, yield_control: Callable[[], None], claim_size: Callable[[int], None]
    ) -> bytes:
        """Read the content and return the JSON in it. Raise ApiError if it is over `limit` bytes or cannot be read.

        Calls `yield_control` while it receives. Calls `claim_size`, which may wait, with the size that was received
        and with each size that inflating reaches.
        """
        sent = self._receive(request, limit, yield_control)
        claim_size(len(sent))
        encoding = request.environ.get("HTTP_CONTENT_ENCODING", "").strip().lower()
        is_gzip = encoding in ("gzip", "x-gzip") or sent.startswith(GZIP_MAGIC)  # some senders do not label it
        if not is_gzip and encoding not in ("", "identity"):
            raise self._cut(sent, "invalid_encoding", "Content-Encoding must be gzip or absent")
        self.content = self._inflate(sent, limit, claim_size) if is_gzip else sent
        is_form = request.environ.get("CONTENT_TYPE", "").lower().startswith(_FORM_TYPE)
        return decode_form(self.content, is_form, yield_control)

    def _receive(self, request: "Request", limit: int, yield_control: Callable[[], None]) -> bytes:
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
            raise self._cut(sent, "invalid_encoding", "The body should be gzip, but is not") from error
        if inflater.unused_data or fed < len(sent):
            raise self._cut(sent, "invalid_encoding", "There is more data after the end of the gzip data")
        return bytes(inflated)

    def _cut(self, beginning: bytes, code: str, message: str) -> ApiError:
        """Keep only the beginning of the body. Return the ApiError for it."""
        self.content = beginning[:MAX_KEPT_BYTES]
        self.is_cut = True
        return ApiError(code, message)


def decode_form(body: bytes, is_labelled: bool, yield_control: Callable[[], None]) -> bytes:
    """Return the JSON in a form's field `data`, which may be base64 of it. Return a body that is no form as it is.

    curl labels JSON as a form too, so the label alone decides nothing. Raises ApiError.
    """
    if not body.startswith(b"data="):
        if not is_labelled or body.lstrip(_BLANKS).startswith((b"{", b"[")) or b"&data=" not in body:
            return body
        body = body[body.index(b"&data=") + 1 :]
    data = body.removeprefix(b"data=").partition(b"&")[0].replace(b"+", b" ")
    pieces, start = [], 0
    while start < len(data):
        end = start + PERCENT_CHUNK_BYTES
        if (cut := data.rfind(b"%", end - 2, end)) >= 0:  # do not cut an escape
            end = cut
        pieces.append(_escape.sub(lambda found: binascii.unhexlify(found[1]), data[start:end]))
        start = end
        yield_control()
    decoded = b"".join(pieces)
    return decoded if decoded.lstrip(_BLANKS).startswith(b"{") else decode_base64(decoded, yield_control)


def decode_base64(data: bytes, yield_control: Callable[[], None]) -> bytes:
    """Decode base64 in either alphabet, with or without padding, with line ends or not. Raise ApiError.

    A space stands for a +, which a form's or a query's encoding turns into a space.
    """
    digits = data.translate(_STANDARD_BASE64, b"\r\n").rstrip(b"=")
    digits += b"=" * (-len(digits) % 4)
    pieces = []
    try:
        for start in range(0, len(digits), CHUNK_BYTES):  # a multiple of 4
            pieces.append(binascii.a2b_base64(digits[start : start + CHUNK_BYTES], strict_mode=True))
            yield_control()
    except ValueError as error:
        raise ApiError("invalid_encoding", "data must be a JSON object, or base64 of one") from error
    return b"".join(pieces)
