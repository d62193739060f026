"""The texts that a rejected body may stand for, inflated and decoded."""

import binascii
import re
import zlib
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

MAX_DEPTH = 4  # steps, as for base64 in a form: percent-encoding, base64, gzip, UTF-16
MAX_BYTES = 64 * 1024 * 1024  # that one body may be inflated and decoded to
MIN_DEFLATED_BYTES = 40  # bytes decoded from base64, from which on they may be bare deflate
CHUNK_BYTES = 4096  # inflated at a time; what comes before a damaged chunk is kept

_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{8,}+")
_STANDARD = bytes.maketrans(b"-_", b"+/")


class BodyTexts:
    """All texts that a body can be decoded to. After the last, `is_complete` is False if a part was not decoded."""

    def __init__(self, body: bytes) -> None:
        self.is_complete = True
        self._body = body
        self._bytes_left = MAX_BYTES

    def __iter__(self) -> Iterator[bytes]:
        """Yield each text, in UTF-8."""
        found = 0
        for text in self._decode(self._body, MAX_DEPTH):
            found += 1
            yield text
        self.is_complete = self.is_complete and found > 0

    def _decode(self, data: bytes, depth: int) -> Iterator[bytes]:
        texts = _texts(data)
        yield from texts
        self._bytes_left -= len(data)
        if depth == 0 or self._bytes_left < 0:
            self.is_complete = self.is_complete and self._bytes_left >= 0
            return
        for step in _decode_text(texts[0]) if texts else self._inflate_any(data, is_body=depth == MAX_DEPTH):
            yield from self._decode(step, depth - 1)

    def _inflate_any(self, data: bytes, *, is_body: bool) -> Iterator[bytes]:
        """Yield what gzip, zlib or bare deflate inflates to, even if it is cut or damaged."""
        if data[:2] == b"\x1f\x8b" or (data[0] & 15 == 8 and int.from_bytes(data[:2]) % 31 == 0):
            inflated, least = self._inflate(data, zlib.MAX_WBITS | 32), 1
        elif is_body or len(data) >= MIN_DEFLATED_BYTES:  # it has no magic bytes, so any bytes might be deflate
            inflated, least = self._inflate(data, -zlib.MAX_WBITS), len(data) // 2
        else:
            return
        if len(inflated) >= least:
            yield inflated

    def _inflate(self, data: bytes, bits: int) -> bytes:
        inflated, start = bytearray(), 0
        try:
            while start < len(data) and len(inflated) <= self._bytes_left:
                member = zlib.decompressobj(bits)
                while not member.eof and start < len(data) and len(inflated) <= self._bytes_left:
                    chunk = data[start : start + CHUNK_BYTES]
                    inflated += member.decompress(chunk, self._bytes_left + 1)
                    start += len(chunk)
                start -= len(member.unused_data)
        except zlib.error:
            pass
        return bytes(inflated)


def _texts(data: bytes) -> list[bytes]:
    """Convert UTF-8, UTF-16, UTF-32 or Latin-1 to UTF-8.

    Return two texts if it may be UTF-8 or Latin-1, none if it is not text.
    """
    if not _CONTROL.search(data):
        try:
            data[:-3].decode()  # the last character may be cut
        except UnicodeDecodeError:
            return [data, data.decode("latin-1").encode()]
        return [data]
    zeros = data[::2].count(0), data[1::2].count(0)
    if sum(zeros) * 8 < len(data):  # JSON has much ASCII, each character of which has a zero byte
        return []
    end = "be" if zeros[0] > zeros[1] else "le"
    for width in (16, 32):
        text = data[: len(data) // 4 * 4].decode(f"utf-{width}-{end}", "replace").encode()
        if not _CONTROL.search(text):
            return [text]
    return []


def _decode_text(text: bytes) -> Iterator[bytes]:
    """Yield the bytes that a text has in percent-encoding or base64.

    Base64 may have line breaks, escaped slashes, or blanks for +.
    """
    if b"%" in text and (unquoted := unquote_to_bytes(text.replace(b"+", b" "))) != text:
        yield unquoted
        yield unquote_to_bytes(text)
    spellings = (text, text.replace(b" ", b"+"), b"".join(text.replace(b"\\", b"").split()))
    for run in {run for spelling in spellings for run in _BASE64.findall(spelling)}:
        whole = run if len(run) % 4 != 1 else run[:-1]
        yield binascii.a2b_base64(whole.translate(_STANDARD) + b"=" * (-len(whole) % 4))
