"""What a refused body can be read as."""

import base64
import gzip
import time
import zlib
from urllib.parse import quote_from_bytes, quote_plus

import pytest

from eventlog import body_texts
from eventlog.people import _pattern

SECRET = b'{"userId": "caf\xc3\xa9/7", "properties": {"text": "' + b"x y z " * 20 + b'"}}'


def compressed(data, level=9):
    """Return gzip data that is the same in every run: test names contain it."""
    return gzip.compress(data, level, mtime=0)


DEFLATED = zlib.compress(SECRET)[2:-4]
BASE64 = base64.b64encode(SECRET)


@pytest.mark.parametrize(
    "body",
    [
        compressed(SECRET),
        compressed(SECRET)[:-9],
        compressed(b"{}") + compressed(SECRET),
        compressed(SECRET * 2000, 1)[:-30],
        zlib.compress(SECRET),
        zlib.compress(SECRET)[:-5],
        DEFLATED,
        zlib.compress(b"{'userId': 'caf\xc3\xa9/7'}")[2:-4],
        SECRET.decode().encode("utf-16"),
        SECRET.decode().encode("utf-16-le")[:-1],
        SECRET.decode().encode("utf-16-be"),
        SECRET.decode().encode("utf-32"),
        SECRET.decode().encode("latin-1"),
        BASE64,
        BASE64.rstrip(b"="),
        BASE64[:-7],
        base64.urlsafe_b64encode(SECRET + b"\xff\xfe?>~~").rstrip(b"="),
        base64.encodebytes(SECRET),
        b"data=" + BASE64,
        b"data=" + BASE64.replace(b"+", b" "),
        b"data=" + quote_from_bytes(BASE64, safe="").encode(),
        b"data=" + quote_from_bytes(SECRET, safe="").encode(),
        b"data=" + quote_plus(SECRET).encode(),
        b'{"data": "' + BASE64.replace(b"/", rb"\/") + b'"}',
        compressed(BASE64),
        base64.b64encode(compressed(SECRET)),
        base64.b64encode(DEFLATED),
        base64.b64encode(SECRET.decode().encode("utf-16-le")),
        compressed(compressed(SECRET)),
        b"data=" + quote_from_bytes(base64.b64encode(compressed(SECRET)), safe="").encode(),
    ],
)
def test_an_id_is_found_in_every_encoding_of_a_body(body):
    texts = body_texts.BodyTexts(body)
    assert any(map(_pattern({"café/7"}).search, texts))
    assert texts.is_complete
    assert not any(map(_pattern({"café/77"}).search, texts))


@pytest.mark.parametrize(
    "body",
    [
        b"%25" * 300_000,
        b"QUJD" * 250_000,
        b"YWJjZGVmZ2hp " * 80_000,
        compressed(b"") * 50_000,
        compressed(compressed(bytes(50_000_000))),
        b"\0a" * 500_000,
        b"x" * 999_999 + b"\0",
        b"\\" * 1_000_000,
        b"=" * 1_000_000,
    ],
)
def test_a_hostile_body_is_searched_in_linear_time(body):
    """A few times of what the same bytes take per step, of which there are at most MAX_BYTES."""
    plain = b'{"userId": "7", "properties": {"name": "Added File"}}' * 20_000

    def seconds(body):
        began = time.process_time()
        total = sum(map(len, body_texts.BodyTexts(body)))
        assert total <= 2 * body_texts.MAX_BYTES
        return time.process_time() - began

    assert seconds(body) < 60 * seconds(plain)
