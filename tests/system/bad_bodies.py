"""Bad and unusual bodies, hidden requests, and requests that break off, with the answers of gunicorn and nginx."""

from raw_requests import (
    BAD,
    CHUNKS,
    EVENT,
    KEY,
    LAST,
    LENIENT,
    NOT_ALLOWED,
    NOT_FOUND,
    OK,
    SMUGGLED,
    UNREADABLE,
    Case,
    chunk,
    in_chunks,
    post,
    with_length,
)

TOO_LARGE, NO_EVENT_OR_BAD = "payload_too_large", "event_not_defined | bad_request"
OTHER_KEY = b"Authentication: Basic bm9ib2R5\r\n"
UNKNOWN = b"POST /v1/no HTTP/1.1"
LARGE = b"Content-Length: 99999999\r\n"


def chunk_of(content: bytes, *answers: str) -> Case:
    return Case(f"chunk {content!r}", in_chunks(content), *answers)


def trailer(line: bytes, *answers: str) -> Case:
    return Case(f"trailer {line!r}", in_chunks(chunk(EVENT), b"0\r\n%b\r\n\r\n" % line), *answers)


def length_and_coding(value: bytes, *answers: str) -> Case:
    sent = post(LAST + SMUGGLED, b"Transfer-Encoding: %b\r\n" % value)
    return Case(f"a length and coding {value!r}", sent, *answers)


def half_chunk(digits: int, *answers: str) -> Case:
    return Case(f"half a chunk with a size of {digits} digits", in_chunks(b"f" * digits + b"\r\n{}\r\n"), *answers)


CHUNKED_BODIES = [
    Case("many chunks", in_chunks(b"".join(chunk(bytes([byte])) for byte in EVENT)), OK),
    Case("chunks above the limit", in_chunks(chunk(b" " * (1 << 20)) * 9), TOO_LARGE),
    Case("a chunk with an extension", in_chunks(b"22;a=b\r\n" + EVENT + b"\r\n"), OK),
    chunk_of(b"xyz\r\n{}\r\n", UNREADABLE, BAD),
    chunk_of(b"-1\r\n{}\r\n", UNREADABLE, BAD),
    chunk_of(b"+2\r\n{}\r\n", UNREADABLE, BAD),
    chunk_of(b"0x2\r\n{}\r\n", UNREADABLE, BAD),
    chunk_of(b"0_2\r\n{}\r\n", UNREADABLE, BAD),
    chunk_of(b" 2\r\n{}\r\n", UNREADABLE, BAD),
    chunk_of(b"2\r\n{}abc", UNREADABLE, BAD),
    chunk_of(b"\r\n{}\r\n", UNREADABLE, BAD),
    chunk_of(b'2;a="\n"\r\n{}\r\n', UNREADABLE, BAD),
    chunk_of(b"2\r{}\r\n", UNREADABLE, BAD),
    chunk_of(b"2 \r\n{}\r\n", UNREADABLE, NO_EVENT_OR_BAD),
    chunk_of(b"2\n{}\n", UNREADABLE, NO_EVENT_OR_BAD),
    chunk_of(b"2;\n{}\r\n", UNREADABLE, NO_EVENT_OR_BAD),
    Case("a long extension", in_chunks(b"2;" + b"a" * 100_000 + b"\r\n{}\r\n"), UNREADABLE, NO_EVENT_OR_BAD),
    Case("no last chunk", in_chunks(chunk(EVENT), end=b""), UNREADABLE, BAD),
    Case("a trailer", in_chunks(chunk(EVENT), b"0\r\nA: b\r\n\r\n"), OK),
    Case("a key in a trailer", in_chunks(chunk(EVENT), b"0\r\nAuthentication: Basic bm9ib2R5\r\n\r\n"), OK),
    trailer(b"bad trailer", UNREADABLE, LENIENT),
    trailer(b"Content-Length: 5", UNREADABLE, LENIENT),
    Case("a long trailer", in_chunks(chunk(EVENT), b"0\r\nA: " + b"b" * 100_000 + b"\r\n\r\n"), UNREADABLE, LENIENT),
]  # fmt: skip

# Each hides a request in the body of another.
HIDDEN_REQUESTS = [
    Case("a length that ends early", post(LAST + SMUGGLED, CHUNKS, length=b"Content-Length: 5\r\n"), BAD),
    Case("a length and chunks", post(LAST + SMUGGLED, CHUNKS), BAD),
    Case("chunks and a length", post(chunk(SMUGGLED) + LAST, length=CHUNKS + b"Content-Length: 4\r\n"), BAD),
    length_and_coding(b"identity", BAD),
    length_and_coding(b"\x0bchunked", BAD),
    length_and_coding(b"chunked, x", BAD),
    length_and_coding(b"xchunked", BAD),
    Case("a last chunk with an extension", in_chunks(b"0;a=b\r\n\r\n" + post()), "invalid_json ok bad_request"),
    Case("the body of a GET", post(SMUGGLED, line=b"GET /v1/pixel/track HTTP/1.1"), "gif"),
    Case("the body of a HEAD", post(SMUGGLED, line=b"HEAD /v1/track HTTP/1.1"), NOT_ALLOWED),
    Case("the body of a preflight", post(SMUGGLED, line=b"OPTIONS /v1/track HTTP/1.1"), "nothing"),
    Case("the body of an unknown path", post(SMUGGLED, line=UNKNOWN), NOT_FOUND),
    Case("the chunks of an unknown path", in_chunks(chunk(SMUGGLED), line=UNKNOWN), NOT_FOUND),
    Case("a body sent without waiting for 100", post(SMUGGLED, b"Expect: 100-continue\r\n", line=UNKNOWN), NOT_FOUND),
    Case("the body of an unknown source", post(SMUGGLED).replace(KEY, OTHER_KEY, 1), "unknown_source"),
    Case("three requests at once", post() * 3, "ok ok ok"),
    Case("a request after an empty one", post(b"") + post(), "invalid_json ok"),
]  # fmt: skip

# The client shuts its side of the connection after these.
BROKEN_OFF = [
    Case("an empty connection", b"", ""),
    Case("half a line", b"POST /v1/tr", ""),
    Case("half a head", b"POST /v1/track HTTP/1.1\r\nHost: x\r\n", ""),
    Case("half a body", with_length(b"1000"), UNREADABLE, ""),
    Case("half a chunk's size", in_chunks(b"5", b""), UNREADABLE, ""),
    Case("half a chunk", in_chunks(b"5\r\n{", b""), UNREADABLE, ""),
    Case("no last chunk", in_chunks(chunk(EVENT), b""), UNREADABLE, ""),
    Case("half a trailer", in_chunks(chunk(EVENT), b"0\r\nA"), UNREADABLE, ""),
    Case("the beginning of a large body", with_length(b"1" + b"0" * 12), TOO_LARGE),
    Case("the beginning of a body of 10**30 bytes", with_length(b"1" + b"0" * 30), TOO_LARGE, BAD),
    half_chunk(16, UNREADABLE, BAD),
    half_chunk(17, UNREADABLE, BAD),
    half_chunk(5000, UNREADABLE, BAD),
    # nginx has its own pages for these, and would also refuse the body.
    Case("a large body and chunks", post(b"", CHUNKS, length=LARGE), BAD),
    Case("a large body, another method", post(b"", line=b"TRACE /v1/track HTTP/1.1", length=LARGE), NOT_ALLOWED),
    Case("a large body, no Host", post(b"", host=b"", length=LARGE), TOO_LARGE, BAD),
    Case("a large body, no such path", post(b"", line=b"POST /nowhere HTTP/1.1", length=LARGE), NOT_FOUND, TOO_LARGE),
]  # fmt: skip
