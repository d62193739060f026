"""Every text that a rejected body can be decoded to."""

import base64
import gzip
import time
import zlib
from urllib.parse import quote_from_bytes, quote_plus

import pytest
from factories import rejection

from eventlog import body_texts

SECRET = b'{"userId": "caf\xc3\xa9/7", "properties": {"text": "' + b"x y z " * 20 + b'"}}'


DEFLATED = zlib.compress(SECRET)[2:-4]
BASE64 = base64.b64encode(SECRET)

ENCODINGS = {
    "gzip": gzip.compress(SECRET),
    "gzip without its end": gzip.compress(SECRET)[:-9],
    "second of two members": gzip.compress(b"{}") + gzip.compress(SECRET),
    "long gzip without its end": gzip.compress(SECRET * 2000, 1)[:-30],
    "zlib": zlib.compress(SECRET),
    "zlib without its end": zlib.compress(SECRET)[:-5],
    "deflate": DEFLATED,
    "deflate of JSON with single quotes": zlib.compress(b"{'userId': 'caf\xc3\xa9/7'}")[2:-4],
    "utf-16": SECRET.decode().encode("utf-16"),
    "utf-16-le without its last byte": SECRET.decode().encode("utf-16-le")[:-1],
    "utf-16-be": SECRET.decode().encode("utf-16-be"),
    "utf-32": SECRET.decode().encode("utf-32"),
    "latin-1": SECRET.decode().encode("latin-1"),
    "base64": BASE64,
    "base64 without padding": BASE64.rstrip(b"="),
    "base64 without its end": BASE64[:-7],
    "url-safe base64": base64.urlsafe_b64encode(SECRET + b"\xff\xfe?>~~").rstrip(b"="),
    "base64 in lines": base64.encodebytes(SECRET),
    "base64 in a form": b"data=" + BASE64,
    "base64 in a form with blanks for +": b"data=" + BASE64.replace(b"+", b" "),
    "percent-encoded base64 in a form": b"data=" + quote_from_bytes(BASE64, safe="").encode(),
    "percent-encoded form": b"data=" + quote_from_bytes(SECRET, safe="").encode(),
    "form with + for blanks": b"data=" + quote_plus(SECRET).encode(),
    "base64 in JSON": b'{"data": "' + BASE64.replace(b"/", rb"\/") + b'"}',
    "gzip of base64": gzip.compress(BASE64),
    "base64 of gzip": base64.b64encode(gzip.compress(SECRET)),
    "base64 of deflate": base64.b64encode(DEFLATED),
    "base64 of utf-16-le": base64.b64encode(SECRET.decode().encode("utf-16-le")),
    "gzip twice": gzip.compress(gzip.compress(SECRET)),
    "percent-encoded base64 of gzip in a form": b"data="
    + quote_from_bytes(base64.b64encode(gzip.compress(SECRET)), safe="").encode(),
}

HOSTILE = {
    "percent signs": b"%25" * 300_000,
    "base64 of base64 digits": b"QUJD" * 250_000,
    "base64 with blanks": b"YWJjZGVmZ2hp " * 80_000,
    "empty gzip members": gzip.compress(b"") * 50_000,
    "gzip bomb": gzip.compress(gzip.compress(bytes(50_000_000))),
    "utf-16-be letters": b"\0a" * 500_000,
    "one NUL at the end": b"x" * 999_999 + b"\0",
    "backslashes": b"\\" * 1_000_000,
    "equals signs": b"=" * 1_000_000,
}


@pytest.mark.parametrize("body", ENCODINGS.values(), ids=ENCODINGS)
def test_an_id_is_found_in_every_encoding_of_a_body(log, body):
    log.append([], [rejection(body)])
    assert log.people.find("café/7").rejected == [1]
    other = log.people.find("café/77")
    assert (other.rejected, other.unread) == ([], [])


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_body_is_searched_in_linear_time(body):
    """Allow a few times what a plain body of the same size takes per step, in at most MAX_BYTES steps."""
    plain = b'{"userId": "7", "properties": {"name": "Added File"}}' * 20_000

    def seconds(body):
        began = time.process_time()
        total = sum(map(len, body_texts.BodyTexts(body)))
        assert total <= 2 * body_texts.MAX_BYTES
        return time.process_time() - began

    assert seconds(body) < 60 * seconds(plain)
