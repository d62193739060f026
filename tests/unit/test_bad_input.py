"""Which code answers encodings, nesting, numbers, keys, text and gzip at and beyond their limits."""

import gzip
import json
import zlib

import pytest

GOOD = '{"type": "track", "userId": "1", "event": "e"}'
BOM = b"\xef\xbb\xbf"


def with_value(text):
    """Return a call as text, with a JSON value in its properties."""
    return f'{{"userId": "1", "event": "e", "properties": {{"value": {text}}}}}'


def with_field(name, text):
    return f'{{"userId": "1", "event": "e", {json.dumps(name)}: {text}}}'


def with_bytes(content):
    return with_value('"?"').encode().replace(b"?", content)


def nested(levels, opening='{"a":', closing="}"):
    """Return a call that is `levels` deep, counting itself and its properties."""
    return with_value(opening * (levels - 2) + "1" + closing * (levels - 2))


# A body that is not JSON is rejected as a whole.
BODIES = {
    "nothing": (b"", "invalid_json"),
    "blanks": (b" \t\r\n", "invalid_json"),
    "no-break space": (b"\xc2\xa0" + GOOD.encode(), "invalid_json"),
    "form feed": (b"\x0c" + GOOD.encode(), "invalid_json"),
    "byte order mark": (BOM + GOOD.encode(), "ok"),
    "two byte order marks": (BOM + BOM + GOOD.encode(), "invalid_json"),
    "only a byte order mark": (BOM, "invalid_json"),
    "utf-16": (GOOD.encode("utf-16"), "invalid_json"),
    "utf-16-le": (GOOD.encode("utf-16-le"), "invalid_json"),
    "utf-16-be": (GOOD.encode("utf-16-be"), "invalid_json"),
    "utf-32": (GOOD.encode("utf-32"), "invalid_json"),
    "cp037": (GOOD.encode("cp037"), "invalid_json"),
    "latin-1": (with_bytes("café".encode("latin-1")), "invalid_json"),
    "lone continuation byte": (with_bytes(b"\x80"), "invalid_json"),
    "half a character": (with_bytes(b"\xe2\x82"), "invalid_json"),
    "overlong slash": (with_bytes(b"\xc0\xaf"), "invalid_json"),
    "overlong NUL": (with_bytes(b"\xc0\x80"), "invalid_json"),
    "surrogate in UTF-8": (with_bytes(b"\xed\xa0\x80"), "invalid_json"),
    "pair of surrogates in UTF-8": (with_bytes(b"\xed\xa0\xbd\xed\xb8\x80"), "invalid_json"),
    "above U+10FFFF": (with_bytes(b"\xf4\x90\x80\x80"), "invalid_json"),
    "five bytes": (with_bytes(b"\xf8\x88\x80\x80\x80"), "invalid_json"),
    "NUL between tokens": (GOOD.encode().replace(b" ", b"\0"), "invalid_json"),
    "NUL at the end": (GOOD.encode() + b"\0", "invalid_json"),
    "NUL in a string": (with_bytes(b"\0"), "invalid_json"),
    "line break in a string": (with_bytes(b"\n"), "invalid_json"),
    "unknown escape": (with_bytes(b"\\x41"), "invalid_json"),
    "half an escape": (with_bytes(b"\\u12"), "invalid_json"),
    "two calls": ((GOOD * 2).encode(), "invalid_json"),
    "form": (b"userId=1&event=e", "invalid_json"),
    "JSON in a form": (b"data=" + GOOD.encode(), "ok"),
    "gzip without its label": (gzip.compress(GOOD.encode(), mtime=0), "ok"),
    "number 01": (with_value("01").encode(), "invalid_json"),
    "number +1": (with_value("+1").encode(), "invalid_json"),
    "number .5": (with_value(".5").encode(), "invalid_json"),
    "number 1.": (with_value("1.").encode(), "invalid_json"),
    "number 0x10": (with_value("0x10").encode(), "invalid_json"),
    "number 1_000": (with_value("1_000").encode(), "invalid_json"),
    "number 1e": (with_value("1e").encode(), "invalid_json"),
    "number --1": (with_value("--1").encode(), "invalid_json"),
    "number nan": (with_value("nan").encode(), "invalid_json"),
    "number Inf": (with_value("Inf").encode(), "invalid_json"),
    "Arabic digit": (with_value("\u0661").encode(), "invalid_json"),
    "4,301 digits": (with_value("9" * 4301).encode(), "invalid_json"),
    "minus 4,301 digits": (with_value("-" + "9" * 4301).encode(), "invalid_json"),
    "80,000 levels of objects": (nested(80_000).encode(), "invalid_json"),
    "100,000 levels of lists": (nested(100_000, "[", "]").encode(), "invalid_json"),
    "unclosed lists": (b"[" * 100_000, "invalid_json"),
    "unclosed objects": (b'{"a":' * 50_000, "invalid_json"),
}

# A call that is JSON but cannot be stored. In a batch, only that item is rejected.
EVENTS = {
    "null": ("null", "event_not_object"),
    "true": ("true", "event_not_object"),
    "one": ("1", "event_not_object"),
    "string": ('"e"', "event_not_object"),
    "list": ("[]", "event_not_object"),
    "only NaN": ("NaN", "event_not_object"),
    "only 1e400": ("1e400", "event_not_object"),
    "only a surrogate": ('"\\ud800"', "event_not_object"),
    "NaN": (with_value("NaN"), "invalid_number"),
    "Infinity": (with_value("Infinity"), "invalid_number"),
    "-Infinity": (with_value("-Infinity"), "invalid_number"),
    "1e400": (with_value("1e400"), "invalid_number"),
    "-1e400": (with_value("-1e400"), "invalid_number"),
    "float of 400 digits": (with_value("9" * 400 + ".5"), "invalid_number"),
    "1e309 in lists": (with_value("[[{}, 1e309]]"), "invalid_number"),
    "surrogate in userId": (with_field("userId", '"\\ud800"'), "invalid_text"),
    "surrogate in anonymousId": (with_field("anonymousId", '"\\ud800"'), "invalid_text"),
    "surrogate in messageId": (with_field("messageId", '"\\ud800"'), "invalid_text"),
    "surrogate in timestamp": (with_field("timestamp", '"\\ud800"'), "timestamp_invalid"),
    "NUL in userId": (with_field("userId", '"a\\u0000b"'), "id_invalid"),
    "NUL in anonymousId": (with_field("anonymousId", '"a\\u0000b"'), "id_invalid"),
    "NUL in messageId": (with_field("messageId", '"a\\u0000b"'), "id_invalid"),
    "userId NaN": (with_field("userId", "NaN"), "invalid_number"),
    "userId 1e400": (with_field("userId", "1e400"), "invalid_number"),
    "messageId NaN": (with_field("messageId", "NaN"), "invalid_number"),
    "messageId 1e400": (with_field("messageId", "1e400"), "invalid_number"),
    "timestamp NaN": (with_field("timestamp", "NaN"), "invalid_number"),
    "timestamp 1e400": (with_field("timestamp", "1e400"), "invalid_number"),
    "timestamp of 4,300 digits": (with_field("timestamp", "9" * 4300), "timestamp_invalid"),
    "timestamp with NUL": (with_field("timestamp", '"2015-11-10T00:45:23\\u0000"'), "timestamp_invalid"),
    "timestamp 1e300": (with_field("timestamp", "1e300"), "timestamp_invalid"),
    "201 levels of objects": (nested(201), "too_deep"),
    "201 levels of lists": (nested(201, "[", "]"), "too_deep"),
    "900 levels": (nested(900), "too_deep"),
    "key of 600 kB": (with_field("k" * 600_000, "1"), "event_too_large"),
    "60,000 keys": (with_value("{" + ",".join(f'"{n}": 0' for n in range(60_000)) + "}"), "event_too_large"),
    "one key 100,000 times": (with_value("{" + ",".join(['"k": 0'] * 100_000) + "}"), "event_too_large"),
    "messageId of 256 characters": (with_field("messageId", '"' + "é" * 256 + '"'), "message_id_too_long"),
    "messageId of 4,300 digits": (with_field("messageId", "9" * 4300), "message_id_too_long"),
}

# A call that looks no better, but is stored as it was sent.
KEPT = {
    "4,300 digits": with_value("9" * 4300),
    "minus 4,300 digits": with_value("-" + "9" * 4300),
    "2**70": with_value(str(2**70)),
    "2**64": with_value(str(2**64)),
    "-2**63": with_value(str(-(2**63))),
    "-0": with_value("-0"),
    "-0.0": with_value("-0.0"),
    "1e-400": with_value("1e-400"),
    "largest float": with_value("1.7976931348623157e308"),
    "smallest float": with_value("5e-324"),
    "1E+2": with_value("1E+2"),
    "float of 24 digits": with_value("123456789.123456789123456789"),
    "float of 5,000 digits": with_value("9" * 5000 + "e-4990"),
    "userId of 20 digits": with_field("userId", str(2**64)),
    "userId of 4,300 digits": with_field("userId", "9" * 4300),
    "200 levels of objects": nested(200),
    "200 levels of lists": nested(200, "[", "]"),
    "1,000 objects in a list": with_value("[" + ",".join(["{}"] * 1000) + "]"),
    "key of 400 kB": with_value('{"' + "k" * 400_000 + '": 1}'),
    "20,000 keys": with_value("{" + ",".join(f'"{n}": 0' for n in range(20_000)) + "}"),
    "one key 40,000 times": with_value("{" + ",".join(f'"k": {n}' for n in range(40_000)) + "}"),
    "fields twice": '{"userId": "0", "userId": "1", "event": "first", "event": "last"}',
    "empty key": with_value('{"": 1}'),
    "punctuation as keys": with_value(r'{"a.b": 1, "[0]": 1, "\"": 1, "$": 1}'),
    "__proto__": with_value('{"__proto__": 1}'),
    "escapes in keys": with_value(r'{"\u0000": 1, "\ud83d\ude00": 1}'),
    "unusual characters": with_value(r'"\u0000\u0001\u007f\u2028\ufeff\uffff\udbff\udfff"'),
    "SQL": with_field("name", json.dumps("'); DROP TABLE events; --")),
}

ZIPPED = gzip.compress(GOOD.encode(), mtime=0)
NAMED = b"\x1f\x8b\x08\x08" + ZIPPED[4:10] + b"a name\0" + ZIPPED[10:]
BOMB = gzip.compress(b" " * 32 * 1024 * 1024, mtime=0)
ENCODED = {
    "gzip": (ZIPPED, "gzip", "ok"),
    "gzip with a file name": (NAMED, "gzip", "ok"),
    "gzip without compression": (gzip.compress(GOOD.encode(), 0, mtime=0), "gzip", "ok"),
    "GZIP": (ZIPPED, "GZIP", "ok"),
    "x-gzip": (ZIPPED, "x-gzip", "ok"),
    "gzip of nothing": (gzip.compress(b"", mtime=0), "gzip", "invalid_json"),
    "gzip twice": (gzip.compress(ZIPPED, mtime=0), "gzip", "invalid_json"),
    "bomb": (BOMB, "gzip", "payload_too_large"),
    "cut to 0 bytes": (b"", "gzip", "invalid_encoding"),
    "cut to 1 byte": (ZIPPED[:1], "gzip", "invalid_encoding"),
    "cut to 2 bytes": (ZIPPED[:2], "gzip", "invalid_encoding"),
    "cut to 9 bytes": (ZIPPED[:9], "gzip", "invalid_encoding"),
    "cut to 10 bytes": (ZIPPED[:10], "gzip", "invalid_encoding"),
    "cut to 20 bytes": (ZIPPED[:20], "gzip", "invalid_encoding"),
    "without its last 8 bytes": (ZIPPED[:-8], "gzip", "invalid_encoding"),
    "without its last byte": (ZIPPED[:-1], "gzip", "invalid_encoding"),
    "cut bomb": (BOMB[:1000], "gzip", "invalid_encoding"),
    "one byte more": (ZIPPED + b"\0", "gzip", "invalid_encoding"),
    "two members": (ZIPPED * 2, "gzip", "invalid_encoding"),
    "wrong checksum": (ZIPPED[:-8] + b"\0\0\0\0" + ZIPPED[-4:], "gzip", "invalid_encoding"),
    "wrong length": (ZIPPED[:-4] + b"\0\0\0\1", "gzip", "invalid_encoding"),
    "not compressed": (GOOD.encode(), "gzip", "invalid_encoding"),
    "zlib": (zlib.compress(GOOD.encode()), "gzip", "invalid_encoding"),
    "raw deflate": (zlib.compress(GOOD.encode())[2:-4], "gzip", "invalid_encoding"),
    "br": (GOOD.encode(), "br", "invalid_encoding"),
    "deflate": (GOOD.encode(), "deflate", "invalid_encoding"),
    "compress": (GOOD.encode(), "compress", "invalid_encoding"),
    "zstd": (GOOD.encode(), "zstd", "invalid_encoding"),
    "gzip, gzip": (GOOD.encode(), "gzip, gzip", "invalid_encoding"),
    "gzip;q=1": (GOOD.encode(), "gzip;q=1", "invalid_encoding"),
    "utf-8": (GOOD.encode(), "utf-8", "invalid_encoding"),
    "not ASCII": (GOOD.encode(), "\xe9", "invalid_encoding"),
    "empty": (GOOD.encode(), "", "ok"),
    "identity": (GOOD.encode(), "identity", "ok"),
    "IDENTITY": (GOOD.encode(), " IDENTITY ", "ok"),
}


def code_of(answer):
    return "ok" if answer["success"] else answer["code"]


@pytest.fixture
def kept(query):
    """Return a function that checks that SQLite can read the log, and returns its numbers of events and rejections."""

    def kept():
        assert query("SELECT count(*) FROM events WHERE NOT json_valid(payload)") == [(0,)]
        assert len(query("SELECT properties FROM tracks")) == query("SELECT count(*) FROM events")[0][0]
        return query("SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM rejected)")[0]

    return kept


@pytest.mark.parametrize("case", BODIES)
@pytest.mark.parametrize("url", ["/v1/track", "/v1/batch"])
def test_a_body_that_is_not_json_in_utf_8_is_rejected(post, kept, url, case):
    body, code = BODIES[case]
    if url == "/v1/batch" and code == "ok":
        code = "batch_not_list"
    assert code_of(post(url, body)[1]) == code
    assert kept() == ((1, 0) if code == "ok" else (0, 1))


@pytest.mark.parametrize("case", EVENTS)
def test_a_value_that_cannot_be_stored_rejects_its_call(post, kept, case):
    text, code = EVENTS[case]
    status, answer = post("/v1/track", text)
    assert (status, answer["code"]) == (400, code)
    assert kept() == (0, 1)


@pytest.mark.parametrize("case", EVENTS)
def test_a_value_that_cannot_be_stored_rejects_only_its_item(post, kept, case):
    text, code = EVENTS[case]
    item = text.replace("{", '{"type": "track", ', 1)
    status, answer = post("/v1/batch", f'{{"batch": [{GOOD}, {item}, {GOOD}]}}')
    assert (status, answer["stored"], [each["code"] for each in answer["rejected"]]) == (200, 2, [code])
    assert kept() == (2, 1)


@pytest.mark.parametrize("case", KEPT)
def test_an_unusual_but_valid_call_is_stored_as_sent(post, kept, stored, case):
    sent = json.loads(KEPT[case])
    sent["userId"] = str(sent["userId"])
    assert post("/v1/track", KEPT[case])[0] == 200
    assert kept() == (1, 0)
    (event,) = stored()
    assert repr({name: event[name] for name in sent}) == repr(sent)


@pytest.mark.parametrize("case", ENCODED)
def test_a_body_is_decoded_as_labelled_or_rejected(post, kept, query, case):
    body, encoding, code = ENCODED[case]
    status, answer = post("/v1/track", body, Content_Encoding=encoding)
    assert code_of(answer) == code
    assert status == (200 if code == "ok" else 400)
    assert kept() == ((1, 0) if code == "ok" else (0, 1))


def test_only_the_beginning_of_a_gzip_bomb_is_kept(post, query):
    post("/v1/track", BOMB, Content_Encoding="gzip")
    assert query("SELECT length(body), cut FROM rejected") == [(64 * 1024, 1)]


def test_a_body_nested_too_deep_to_parse_is_rejected(post, kept):
    """The code depends on how much of the stack is in use."""
    for levels in range(901, 1100, 20):
        assert post("/v1/track", nested(levels))[1]["code"] in ("too_deep", "invalid_json")
    assert kept() == (0, 10)


def test_a_context_nested_too_deep_to_encode_is_rejected(post):
    """Whatever can be parsed can be refused, also where encoding it would need more of the stack."""
    for levels in range(900, 1000):
        deep = "[" * levels + "]" * levels
        batch = f'{{"context": {{"a": {deep}}}, "batch": [{GOOD}]}}'
        assert post("/v1/batch", batch)[1]["code"] in ("too_deep", "invalid_json")


def test_a_byte_is_counted_after_a_byte_order_mark(post):
    _, answer = post("/v1/track", BOM + b'{\n"userId": "\xe9"}')
    assert answer["message"] == "line 2, column 12: the byte 0xe9 is not UTF-8"
