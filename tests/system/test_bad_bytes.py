"""Bytes that are no good HTTP: answered in JSON and in time, and no request is smuggled in by another."""

import pytest
from nginx import Nginx
from service import AUTHENTICATION, need
from wire import converse

KEY = f"Authentication: {AUTHENTICATION['Authentication']}\r\n".encode()
EVENT = b'{"userId": "1", "event": "Posted"}'
CHUNKS = b"Transfer-Encoding: chunked\r\n"
END = b"GET /v1/end HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def post(body=EVENT, head=b"", line=b"POST /v1/track HTTP/1.1", host=b"Host: x\r\n", length=None):
    length = b"Content-Length: %d\r\n" % len(body) if length is None else length
    return line + b"\r\n" + host + KEY + length + head + b"\r\n" + body


def post_to(target):
    return post(line=b"POST %b HTTP/1.1" % target)


def with_head(*lines):
    return post(head=b"".join(line + b"\r\n" for line in lines))


def with_length(*values):
    return post(length=b"".join(b"Content-Length: %b\r\n" % value for value in values))


def with_coding(*values):
    return post(
        chunk(EVENT) + b"0\r\n\r\n", b"".join(b"Transfer-Encoding: %b\r\n" % value for value in values), length=b""
    )


def in_chunks(body, end=b"0\r\n\r\n"):
    return post(body + end, CHUNKS, length=b"")


def chunk(content):
    return b"%x\r\n%b\r\n" % (len(content), content)


SMUGGLED = post(b'{"userId": "1", "event": "Smuggled"}')
LARGE = b"Content-Length: 99999999\r\n"

# What is sent -> what is answered by gunicorn, and by nginx before it if that is not the same: the code of each answer,
# "ok" for an event that was stored, "gif" for a picture. Where nginx's answer depends on its version, there are several.
BAD, OK, LENIENT = "bad_request", "ok", "ok | bad_request"
CASES = {
    # The request line
    "no HTTP": (b"hello\r\n\r\n", BAD),
    "TLS": (b"\x16\x03\x01\x00\xf8\x01\x00\x00\xf4\x03\x03" + bytes(range(200)) + b"\r\n\r\n", BAD),
    "the PROXY protocol": (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + post(), BAD),
    "HTTP/2's preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", BAD),
    "HTTP/0.9": (b"GET /healthz\r\n", BAD, "not_found"),
    "HTTP/0.9, a POST": (b"POST /v1/track\r\n\r\n", BAD),
    "HTTP/1.0": (post(line=b"POST /v1/track HTTP/1.0"), OK),
    "HTTP/1.0 without Host": (post(line=b"POST /v1/track HTTP/1.0", host=b""), OK),
    "HTTP/1.2": (post(line=b"POST /v1/track HTTP/1.2"), OK, LENIENT),
    "HTTP/1.10": (post(line=b"POST /v1/track HTTP/1.10"), BAD, LENIENT),
    **{f"{v}": (post(line=f"POST /v1/track {v}".encode()), BAD) for v in ("HTTP/2.0", "HTTP/9.9", "http/1.1", "HTTP/1", "HTTP/1.1x", "ICY/1.1")},
    "two blanks": (post(line=b"POST  /v1/track HTTP/1.1"), BAD, LENIENT),
    "tabs for blanks": (post(line=b"POST\t/v1/track\tHTTP/1.1"), BAD),
    "a blank at the end": (post(line=b"POST /v1/track HTTP/1.1 "), BAD, LENIENT),
    "a blank at the beginning": (post(line=b" POST /v1/track HTTP/1.1"), BAD),
    "empty lines before": (b"\r\n\r\n" + post(), BAD, LENIENT),
    **{f"method {m!r}": (post(line=m + b" /v1/track HTTP/1.1"), BAD) for m in (b"post", b"PO(ST", b"", b"P\0ST", b"\xff")},
    "a long method": (post(line=b"P" * 300 + b" /v1/track HTTP/1.1"), BAD),
    **{f"method {m!r}": (post(line=m + b" /v1/track HTTP/1.1"), "method_not_allowed") for m in (b"BREW", b"TRACE", b"CONNECT", b"PUT", b"GET")},
    **{f"target {t!r}": (post_to(t), BAD) for t in (b"v1/track", b"*", b"x:80", b"?", b"http:/v1/track", b"http://[::::/v1/track", b"/v1/track\0", b"/v1/\xff", b"/v1/track?\0")},
    **{f"target {t!r}": (post_to(t), OK) for t in (b"http://evil/v1/track", b"https://evil/v1/track", b"/v1/%74rack", b"/v1%2ftrack", b"/v1/track#f", b"/v1/track?%zz=%", b"/v1/track/")},
    **{f"target {t!r}": (post_to(t), "not_found") for t in (b"//evil/v1/track", b"/v1/./track", b"/v1/a/../track", b"/v1/%2e%2e/track", b"/v1\\track", b"/v1/track;a=b", b"/v1/%0d%0aX:%20y", b"/index.html", b"/.bad_request")},
    **{f"target {t!r}": (post_to(t), "not_found", BAD) for t in (b"/v1/track%00", b"/v1/%ff%00", b"/v1/%zz", b"http://")},
    "a long target": (post_to(b"/v1/track?" + b"a=b&" * 900), OK),
    "a target that is too long": (post_to(b"/v1/" + b"x" * 40_000), BAD),
    # Headers
    **{f"header {line!r}": (with_head(line), BAD) for line in (b"bad header", b": x", b"A : b", b"A: b\r\n c", b" A: b", b"A: b\rc", b"A: b\0c", b"A\0: b", b"A: \x01\x7f")},
    **{f"header {line!r}": (with_head(line), BAD, LENIENT) for line in (b"\xc3\xa9: b", b"A[]: b")},
    **{f"header {line!r}": (with_head(line), OK) for line in (b"A: caf\xe9", b"Content_Length: 5", b"SCRIPT_NAME: /x", b"Connection: Content-Length, Authentication", b"Range: bytes=0-1", b"TE: trailers", b"If-Match: x", b'Cookie: "\\\xff;;;=', b"Content-Type: multipart/form-data; boundary=\xff")},
    "a long header": (with_head(b"A: " + b"x" * 8000), OK),
    "a header that is too long": (with_head(b"A: " + b"x" * 70_000), BAD),
    "40 headers": (with_head(*(b"A%d: b" % number for number in range(40))), OK),
    "101 headers": (with_head(*(b"A%d: b" % number for number in range(101))), OK),
    "too many headers": (with_head(*(b"A:" for number in range(8200))), BAD),
    "schemes that contradict each other": (with_head(b"X-Forwarded-Proto: https", b"X-Forwarded-Ssl: off"), OK),
    "two keys": (with_head(b"Authentication: Basic bm9ib2R5"), "invalid_authorization"),
    "two ways to give a key": (with_head(b"Authorization: Basic bm9ib2R5"), "unknown_source"),
    "two encodings": (with_head(b"Content-Encoding: gzip", b"Content-Encoding: gzip"), "invalid_encoding"),
    "bare line feeds": (post().replace(b"\r\n", b"\n"), BAD, LENIENT),
    "one bare line feed": (with_head(b"A: b\nB: c"), BAD, LENIENT),
    "no Host": (post(host=b""), OK, BAD),
    "two Hosts": (with_head(b"Host: y"), BAD),
    **{f"Host {host!r}": (post(host=b"Host: %b\r\n" % host), OK) for host in (b"a@b", b"x:99999", b"\xff")},
    **{f"Host {host!r}": (post(host=b"Host: %b\r\n" % host), OK, BAD) for host in (b"[::::]:x y", b"", b"x/y", b"x y")},
    "an upgrade to h2c": (with_head(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMA"), OK),
    "an upgrade to a WebSocket": (b"GET /v1/track HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "method_not_allowed"),
    "Expect: 100-continue": (with_head(b"Expect: 100-continue"), OK),
    "Expect: wonders": (with_head(b"Expect: wonders"), BAD, LENIENT),
    # The length of the body
    **{f"length {n!r}": (with_length(n), BAD) for n in (b"ten", b"-1", b"+34", b"34 34", b"34, 34", b"0x22", b"", b"3_4", b"\xd9\xa3", b"34.0", b"1e1", b"\x0b34", b"34;")},
    **{f"length {n!r}": (with_length(n), OK) for n in (b"034", b" 34 ")},
    "two lengths": (with_length(b"34", b"35"), BAD),
    "the same length twice": (with_length(b"34", b"34"), BAD),
    "no length": (with_length(), "invalid_json bad_request"),
    "a length that is too short": (with_length(b"33"), "invalid_json bad_request"),
    # The coding of the body
    "chunked": (with_coding(b"Chunked"), OK),
    **{f"coding {c!r}": (with_coding(c), BAD) for c in (b"rot13", b"chunked, chunked", b"identity", b"chunked;q=1", b"x, chunked", b"\x0bchunked", b"chunked\0", b"chunked, identity", b"", b"xchunked", b"chunked,", b'"chunked"', b"deflate")},
    **{f"coding {c!r}": (with_coding(c), LENIENT) for c in (b"gzip, chunked", b"identity, chunked")},
    "two codings": (with_coding(b"chunked", b"identity"), BAD),
    "the same coding twice": (with_coding(b"chunked", b"chunked"), BAD),
    "a blank before the colon": (post(chunk(EVENT) + b"0\r\n\r\n", b"Transfer-Encoding : chunked\r\n", length=b""), BAD),
    "a folded coding": (post(chunk(EVENT) + b"0\r\n\r\n", b"Transfer-Encoding:\r\n chunked\r\n", length=b""), BAD),
    "an underscore for the hyphen": (post(chunk(EVENT) + b"0\r\n\r\n", b"Transfer_Encoding: chunked\r\n", length=b""), "invalid_json bad_request"),
    "chunks in HTTP/1.0": (post(chunk(EVENT) + b"0\r\n\r\n", CHUNKS, line=b"POST /v1/track HTTP/1.0", length=b""), BAD),
    # Chunks
    "many chunks": (in_chunks(b"".join(chunk(bytes([byte])) for byte in EVENT)), OK),
    "chunks above the limit": (in_chunks(chunk(b" " * (1 << 20)) * 9), "payload_too_large"),
    "a chunk with an extension": (in_chunks(b"22;a=b\r\n" + EVENT + b"\r\n"), OK),
    **{f"chunk {c!r}": (in_chunks(c), "invalid_encoding", BAD) for c in (b"xyz\r\n{}\r\n", b"-1\r\n{}\r\n", b"+2\r\n{}\r\n", b"0x2\r\n{}\r\n", b"0_2\r\n{}\r\n", b" 2\r\n{}\r\n", b"2\r\n{}abc", b"\r\n{}\r\n", b'2;a="\n"\r\n{}\r\n', b"2\r{}\r\n")},
    **{f"chunk {c!r}": (in_chunks(c), "invalid_encoding", "event_not_defined | bad_request") for c in (b"2 \r\n{}\r\n", b"2\n{}\n", b"2;\n{}\r\n")},
    "a chunk with a long extension": (in_chunks(b"2;" + b"a" * 100_000 + b"\r\n{}\r\n"), "invalid_encoding", "event_not_defined | bad_request"),
    "no last chunk": (in_chunks(chunk(EVENT), end=b""), "invalid_encoding", BAD),
    "a trailer": (in_chunks(chunk(EVENT), b"0\r\nA: b\r\n\r\n"), OK),
    "a key in a trailer": (in_chunks(chunk(EVENT), b"0\r\nAuthentication: Basic bm9ib2R5\r\n\r\n"), OK),
    **{f"trailer {t!r}": (in_chunks(chunk(EVENT), b"0\r\n%b\r\n\r\n" % t), "invalid_encoding", LENIENT) for t in (b"bad trailer", b"Content-Length: 5")},
    "a long trailer": (in_chunks(chunk(EVENT), b"0\r\nA: " + b"b" * 100_000 + b"\r\n\r\n"), "invalid_encoding", LENIENT),
    # Smuggling
    "a length that ends before the last chunk": (post(b"0\r\n\r\n" + SMUGGLED, CHUNKS, length=b"Content-Length: 5\r\n"), BAD),
    "a length and chunks": (post(b"0\r\n\r\n" + SMUGGLED, CHUNKS), BAD),
    "chunks and a length": (post(chunk(SMUGGLED) + b"0\r\n\r\n", length=CHUNKS + b"Content-Length: 4\r\n"), BAD),
    **{f"a length and coding {c!r}": (post(b"0\r\n\r\n" + SMUGGLED, b"Transfer-Encoding: %b\r\n" % c), BAD) for c in (b"identity", b"\x0bchunked", b"chunked, x", b"xchunked")},
    "a last chunk with an extension, and another request": (in_chunks(b"0;a=b\r\n\r\n" + post()), "invalid_json ok bad_request"),
    "a body of a GET": (post(SMUGGLED, line=b"GET /v1/pixel/track HTTP/1.1"), "gif"),
    "a body of a HEAD": (post(SMUGGLED, line=b"HEAD /v1/track HTTP/1.1"), "method_not_allowed"),
    "a body of a preflight": (post(SMUGGLED, line=b"OPTIONS /v1/track HTTP/1.1"), "nothing"),
    "a body of what is not found": (post(SMUGGLED, line=b"POST /v1/no HTTP/1.1"), "not_found"),
    "chunks of what is not found": (post(chunk(SMUGGLED) + b"0\r\n\r\n", CHUNKS, line=b"POST /v1/no HTTP/1.1", length=b""), "not_found"),
    "a body that was asked for": (post(SMUGGLED, b"Expect: 100-continue\r\n", line=b"POST /v1/no HTTP/1.1"), "not_found"),
    "a body of who is unknown": (post(SMUGGLED).replace(KEY, b"Authentication: Basic bm9ib2R5\r\n", 1), "unknown_source"),
    "three requests at once": (post() * 3, "ok ok ok"),
    "a request after an empty one": (post(b"") + post(), "invalid_json ok"),
}  # fmt: skip

# The same for what breaks off: the client has no more to say.
BROKEN = {
    "nothing": (b"", ""),
    "half a line": (b"POST /v1/tr", ""),
    "half a head": (b"POST /v1/track HTTP/1.1\r\nHost: x\r\n", ""),
    "half a body": (with_length(b"1000"), "invalid_encoding", ""),
    "half a chunk's size": (in_chunks(b"5", b""), "invalid_encoding", ""),
    "half a chunk": (in_chunks(b"5\r\n{", b""), "invalid_encoding", ""),
    "no last chunk": (in_chunks(chunk(EVENT), b""), "invalid_encoding", ""),
    "half a trailer": (in_chunks(chunk(EVENT), b"0\r\nA"), "invalid_encoding", ""),
    "half of too much": (with_length(b"1" + b"0" * 12), "payload_too_large"),
    "half of more than can be": (with_length(b"1" + b"0" * 30), "payload_too_large", BAD),
    **{f"half of a chunk whose size has {digits} digits": (in_chunks(b"f" * digits + b"\r\n{}\r\n"), "invalid_encoding", BAD) for digits in (16, 17, 5000)},
    # What nginx refuses in its own words, with a body that it would refuse too.
    "too much and chunks": (post(b"", CHUNKS, length=LARGE), BAD),
    "too much for another method": (post(b"", line=b"TRACE /v1/track HTTP/1.1", length=LARGE), "method_not_allowed"),
    "too much without a Host": (post(b"", host=b"", length=LARGE), "payload_too_large", BAD),
    "too much for no path": (post(b"", line=b"POST /nowhere HTTP/1.1", length=LARGE), "not_found", "payload_too_large"),
}  # fmt: skip


@pytest.fixture(scope="module")
def survivor(shared):
    """The service, whose workers must live through all that is sent to it."""
    before = shared.workers()
    yield shared
    assert shared.workers() == before
    assert "Traceback" not in shared.said()


@pytest.fixture(scope="module")
def gunicorn_port(survivor):
    return survivor.port


@pytest.fixture(scope="module")
def front(survivor, tmp_path_factory):
    need("nginx")
    need("openssl")
    nginx = Nginx(tmp_path_factory.mktemp("front"), f"127.0.0.1:{survivor.port}")
    yield nginx
    nginx.stop()


@pytest.fixture(scope="module")
def nginx_port(front):
    return front.port


def count(service, condition):
    ((number,),) = service.query(f"SELECT count(*) FROM events WHERE {condition}")
    return number


def check(service, port, sent, expected, then_shut=False):
    before = count(service, "true")
    method = sent.partition(b" ")[0].decode("latin-1")
    answers = converse(port, sent if then_shut else sent + END, then_shut=then_shut, method=method)
    codes = [answer.code for answer in answers]
    stored = count(service, "true") - before
    assert stored == codes.count("ok")
    assert count(service, "name = 'Smuggled'") == 0
    if codes[-1:] == ["not_found"] and codes != ["not_found"]:
        codes.pop()  # the answer to END, where the connection could still be used
    assert " ".join(codes) in expected.split(" | ")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("way", ["gunicorn", "nginx"])
def test_bytes_are_answered_as_the_table_says_and_smuggle_nothing(request, survivor, way, case):
    sent, *expected = CASES[case]
    port = request.getfixturevalue(f"{way}_port")
    check(survivor, port, sent, expected[-1] if way == "nginx" else expected[0])


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("way", ["gunicorn", "nginx"])
def test_what_breaks_off_is_refused_or_dropped(request, survivor, way, case):
    sent, *expected = BROKEN[case]
    port = request.getfixturevalue(f"{way}_port")
    check(survivor, port, sent, expected[-1] if way == "nginx" else expected[0], then_shut=True)


def test_plain_http_is_refused_in_json_where_tls_is_spoken(survivor, front):
    assert [answer.code for answer in converse(front.tls_port, post())] == ["bad_request"]
