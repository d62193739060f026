"""Bad and unusual heads of requests, with the answers of gunicorn and nginx."""

from raw_requests import (
    BAD,
    EVENT,
    LENIENT,
    NOT_ALLOWED,
    NOT_FOUND,
    OK,
    UNREADABLE,
    Case,
    chunk,
    in_chunks,
    post,
    post_to,
    with_chunks,
    with_head,
    with_length,
)

H2C = b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMA"
WEBSOCKET = b"GET /v1/track HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def version(text: bytes, *answers: str) -> Case:
    return Case(text.decode(), post(line=b"POST /v1/track " + text), *answers)


def method(name: bytes, *answers: str) -> Case:
    return Case(f"method {name!r}", post(line=name + b" /v1/track HTTP/1.1"), *answers)


def target(text: bytes, *answers: str) -> Case:
    return Case(f"target {text!r}", post_to(text), *answers)


def header(line: bytes, *answers: str) -> Case:
    return Case(f"header {line!r}", with_head(line), *answers)


def host(name: bytes, *answers: str) -> Case:
    return Case(f"Host {name!r}", post(host=b"Host: %b\r\n" % name), *answers)


def length(value: bytes, *answers: str) -> Case:
    return Case(f"length {value!r}", with_length(value), *answers)


def coding(value: bytes, *answers: str) -> Case:
    return Case(f"coding {value!r}", with_chunks(b"Transfer-Encoding: " + value), *answers)


REQUEST_LINES = [
    Case("not HTTP", b"hello\r\n\r\n", BAD),
    Case("TLS", b"\x16\x03\x01\x00\xf8\x01\x00\x00\xf4\x03\x03" + bytes(range(200)) + b"\r\n\r\n", BAD),
    Case("the PROXY protocol", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + post(), BAD),
    Case("HTTP/2's preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", BAD),
    Case("HTTP/0.9", b"GET /healthz\r\n", BAD, NOT_FOUND),
    Case("HTTP/0.9, a POST", b"POST /v1/track\r\n\r\n", BAD),
    Case("HTTP/1.0", post(line=b"POST /v1/track HTTP/1.0"), OK),
    Case("HTTP/1.0 without Host", post(line=b"POST /v1/track HTTP/1.0", host=b""), OK),
    Case("HTTP/1.2", post(line=b"POST /v1/track HTTP/1.2"), OK, LENIENT),
    Case("HTTP/1.10", post(line=b"POST /v1/track HTTP/1.10"), BAD, LENIENT),
    version(b"HTTP/2.0", BAD),
    version(b"HTTP/9.9", BAD),
    version(b"http/1.1", BAD),
    version(b"HTTP/1", BAD),
    version(b"HTTP/1.1x", BAD),
    version(b"ICY/1.1", BAD),
    Case("two spaces", post(line=b"POST  /v1/track HTTP/1.1"), BAD, LENIENT),
    Case("tabs instead of spaces", post(line=b"POST\t/v1/track\tHTTP/1.1"), BAD),
    Case("a space at the end", post(line=b"POST /v1/track HTTP/1.1 "), BAD, LENIENT),
    Case("a space at the beginning", post(line=b" POST /v1/track HTTP/1.1"), BAD),
    Case("empty lines at the beginning", b"\r\n\r\n" + post(), BAD, LENIENT),
    method(b"post", BAD),
    method(b"PO(ST", BAD),
    method(b"", BAD),
    method(b"P\0ST", BAD),
    method(b"\xff", BAD),
    Case("a long method", post(line=b"P" * 300 + b" /v1/track HTTP/1.1"), BAD),
    method(b"BREW", NOT_ALLOWED),
    method(b"TRACE", NOT_ALLOWED),
    method(b"CONNECT", NOT_ALLOWED),
    method(b"PUT", NOT_ALLOWED),
    method(b"GET", NOT_ALLOWED),
    target(b"v1/track", BAD),
    target(b"*", BAD),
    target(b"x:80", BAD),
    target(b"?", BAD),
    target(b"http:/v1/track", BAD),
    target(b"http://[::::/v1/track", BAD),
    target(b"/v1/track\0", BAD),
    target(b"/v1/\xff", BAD),
    target(b"/v1/track?\0", BAD),
    target(b"http://evil/v1/track", OK),
    target(b"https://evil/v1/track", OK),
    target(b"/v1/%74rack", OK),
    target(b"/v1%2ftrack", OK),
    target(b"/v1/track#f", OK),
    target(b"/v1/track?%zz=%", OK),
    target(b"/v1/track/", OK),
    target(b"//evil/v1/track", NOT_FOUND),
    target(b"/v1/./track", NOT_FOUND),
    target(b"/v1/a/../track", NOT_FOUND),
    target(b"/v1/%2e%2e/track", NOT_FOUND),
    target(b"/v1\\track", NOT_FOUND),
    target(b"/v1/track;a=b", NOT_FOUND),
    target(b"/v1/%0d%0aX:%20y", NOT_FOUND),
    target(b"/index.html", NOT_FOUND),
    target(b"/.bad_request", NOT_FOUND),
    target(b"/v1/track%00", NOT_FOUND, BAD),
    target(b"/v1/%ff%00", NOT_FOUND, BAD),
    target(b"/v1/%zz", NOT_FOUND, BAD),
    target(b"http://", NOT_FOUND, BAD),
    Case("a long target", post_to(b"/v1/track?" + b"a=b&" * 900), OK),
    Case("a target that is too long", post_to(b"/v1/" + b"x" * 40_000), BAD),
]  # fmt: skip

HEADERS = [
    header(b"bad header", BAD),
    header(b": x", BAD),
    header(b"A : b", BAD),
    header(b"A: b\r\n c", BAD),
    header(b" A: b", BAD),
    header(b"A: b\rc", BAD),
    header(b"A: b\0c", BAD),
    header(b"A\0: b", BAD),
    header(b"A: \x01\x7f", BAD),
    header(b"\xc3\xa9: b", BAD, LENIENT),
    header(b"A[]: b", BAD, LENIENT),
    header(b"A: caf\xe9", OK),
    header(b"Content_Length: 5", OK),
    header(b"SCRIPT_NAME: /x", OK),
    header(b"Connection: Content-Length, Authentication", OK),
    header(b"Range: bytes=0-1", OK),
    header(b"TE: trailers", OK),
    header(b"If-Match: x", OK),
    header(b'Cookie: "\\\xff;;;=', OK),
    header(b"Content-Type: multipart/form-data; boundary=\xff", OK),
    Case("a long header", with_head(b"A: " + b"x" * 8000), OK),
    Case("a header that is too long", with_head(b"A: " + b"x" * 70_000), BAD),
    Case("40 headers", with_head(*(b"A%d: b" % number for number in range(40))), OK),
    Case("101 headers", with_head(*(b"A%d: b" % number for number in range(101))), OK),
    Case("too many headers", with_head(*(b"A:" for _ in range(8200))), BAD),
    Case("schemes that contradict each other", with_head(b"X-Forwarded-Proto: https", b"X-Forwarded-Ssl: off"), OK),
    Case("two keys", with_head(b"Authentication: Basic bm9ib2R5"), "invalid_authorization"),
    Case("two ways to give a key", with_head(b"Authorization: Basic bm9ib2R5"), "unknown_source"),
    Case("two encodings", with_head(b"Content-Encoding: gzip", b"Content-Encoding: gzip"), UNREADABLE),
    Case("bare line feeds", post().replace(b"\r\n", b"\n"), BAD, LENIENT),
    Case("one bare line feed", with_head(b"A: b\nB: c"), BAD, LENIENT),
    Case("no Host", post(host=b""), OK, BAD),
    Case("two Hosts", with_head(b"Host: y"), BAD),
    host(b"a@b", OK),
    host(b"x:99999", OK),
    host(b"\xff", OK),
    host(b"[::::]:x y", OK, BAD),
    host(b"", OK, BAD),
    host(b"x/y", OK, BAD),
    host(b"x y", OK, BAD),
    Case("an upgrade to h2c", with_head(*H2C), OK),
    Case("an upgrade to a WebSocket", WEBSOCKET, NOT_ALLOWED),
    Case("Expect: 100-continue", with_head(b"Expect: 100-continue"), OK),
    Case("Expect: wonders", with_head(b"Expect: wonders"), BAD, LENIENT),
]  # fmt: skip

LENGTHS = [
    length(b"ten", BAD),
    length(b"-1", BAD),
    length(b"+34", BAD),
    length(b"34 34", BAD),
    length(b"34, 34", BAD),
    length(b"0x22", BAD),
    length(b"", BAD),
    length(b"3_4", BAD),
    length(b"\xd9\xa3", BAD),
    length(b"34.0", BAD),
    length(b"1e1", BAD),
    length(b"\x0b34", BAD),
    length(b"34;", BAD),
    length(b"034", OK),
    length(b" 34 ", OK),
    Case("two lengths", with_length(b"34", b"35"), BAD),
    Case("the same length twice", with_length(b"34", b"34"), BAD),
    Case("no length", with_length(), "invalid_json bad_request"),
    Case("a length that is too short", with_length(b"33"), "invalid_json bad_request"),
]  # fmt: skip

CODINGS = [
    Case("chunked", with_chunks(b"Transfer-Encoding: Chunked"), OK),
    coding(b"rot13", BAD),
    coding(b"chunked, chunked", BAD),
    coding(b"identity", BAD),
    coding(b"chunked;q=1", BAD),
    coding(b"x, chunked", BAD),
    coding(b"\x0bchunked", BAD),
    coding(b"chunked\0", BAD),
    coding(b"chunked, identity", BAD),
    coding(b"", BAD),
    coding(b"xchunked", BAD),
    coding(b"chunked,", BAD),
    coding(b'"chunked"', BAD),
    coding(b"deflate", BAD),
    coding(b"gzip, chunked", LENIENT),
    coding(b"identity, chunked", LENIENT),
    Case("two codings", with_chunks(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"), BAD),
    Case("the same coding twice", with_chunks(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), BAD),
    Case("a space before the colon", with_chunks(b"Transfer-Encoding : chunked"), BAD),
    Case("a folded coding", with_chunks(b"Transfer-Encoding:\r\n chunked"), BAD),
    Case("an underscore instead of the hyphen", with_chunks(b"Transfer_Encoding: chunked"), "invalid_json bad_request"),
    Case("chunks in HTTP/1.0", in_chunks(chunk(EVENT), line=b"POST /v1/track HTTP/1.0"), BAD),
]  # fmt: skip
