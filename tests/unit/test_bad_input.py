"""Encodings, nesting, numbers, keys, text and gzip at their limits and past them: which code each is answered with."""

import gzip
import json
import zlib

import pytest

GOOD = '{"type": "track", "userId": "1", "event": "e"}'
BOM = b"\xef\xbb\xbf"


def with_value(text):
    """Return a call's text with a value in its properties."""
    return f'{{"userId": "1", "event": "e", "properties": {{"value": {text}}}}}'


def with_field(name, text):
    return f'{{"userId": "1", "event": "e", {json.dumps(name)}: {text}}}'


def with_bytes(content):
    return with_value('"?"').encode().replace(b"?", content)


def nested(levels, opening='{"a":', closing="}"):
    """Return a call that is `levels` deep: itself, its properties, and what is in them."""
    return with_value(opening * (levels - 2) + "1" + closing * (levels - 2))


# A body that is no JSON is refused as a whole.
BODIES = {
    "nothing": (b"", "invalid_json"),
    "blanks": (b" \t\r\n", "invalid_json"),
    "a no-break space": (b"\xc2\xa0" + GOOD.encode(), "invalid_json"),
    "a form feed": (b"\x0c" + GOOD.encode(), "invalid_json"),
    "a byte order mark": (BOM + GOOD.encode(), "ok"),
    "two byte order marks": (BOM + BOM + GOOD.encode(), "invalid_json"),
    "nothing but a byte order mark": (BOM, "invalid_json"),
    **{encoding: (GOOD.encode(encoding), "invalid_json") for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp037")},
    "latin-1": (with_bytes("café".encode("latin-1")), "invalid_json"),
    "a continuation byte alone": (with_bytes(b"\x80"), "invalid_json"),
    "a character cut in half": (with_bytes(b"\xe2\x82"), "invalid_json"),
    "an overlong slash": (with_bytes(b"\xc0\xaf"), "invalid_json"),
    "an overlong NUL": (with_bytes(b"\xc0\x80"), "invalid_json"),
    "a surrogate in UTF-8": (with_bytes(b"\xed\xa0\x80"), "invalid_json"),
    "a pair of surrogates in UTF-8": (with_bytes(b"\xed\xa0\xbd\xed\xb8\x80"), "invalid_json"),
    "a character past the last": (with_bytes(b"\xf4\x90\x80\x80"), "invalid_json"),
    "five bytes": (with_bytes(b"\xf8\x88\x80\x80\x80"), "invalid_json"),
    "a NUL between": (GOOD.encode().replace(b" ", b"\0"), "invalid_json"),
    "a NUL after": (GOOD.encode() + b"\0", "invalid_json"),
    "a NUL in a string": (with_bytes(b"\0"), "invalid_json"),
    "a line break in a string": (with_bytes(b"\n"), "invalid_json"),
    "a wrong escape": (with_bytes(b"\\x41"), "invalid_json"),
    "half an escape": (with_bytes(b"\\u12"), "invalid_json"),
    "two calls": ((GOOD * 2).encode(), "invalid_json"),
    "a form": (b"userId=1&event=e", "invalid_json"),
    "a form around it": (b"data=" + GOOD.encode(), "invalid_json"),
    "gzip without its label": (gzip.compress(GOOD.encode()), "invalid_json"),
    **{f"the number {text}": (with_value(text).encode(), "invalid_json") for text in ("01", "+1", ".5", "1.", "0x10", "1_000", "1e", "--1", "nan", "Inf", "\u0661")},
    "an integer of 4,301 digits": (with_value("9" * 4301).encode(), "invalid_json"),
    "a negative one": (with_value("-" + "9" * 4301).encode(), "invalid_json"),
    "80,000 levels of objects": (nested(80_000).encode(), "invalid_json"),
    "100,000 levels of lists": (nested(100_000, "[", "]").encode(), "invalid_json"),
    "100,000 levels without an end": (b"[" * 100_000, "invalid_json"),
    "objects without an end": (b'{"a":' * 50_000, "invalid_json"),
}  # fmt: skip

# A call that is JSON, and cannot be kept: in a batch it is refused alone.
EVENTS = {
    **{text: (text, "event_not_object") for text in ("null", "true", "1", '"e"', "[]", "NaN", "1e400", '"\\ud800"')},
    **{f"the value {text}": (with_value(text), "invalid_number") for text in ("NaN", "Infinity", "-Infinity", "1e400", "-1e400", "9" * 400 + ".5", "[[{}, 1e309]]")},
    **{f"the text {text}": (with_value(text), "invalid_text") for text in ('"\\ud800"', '"\\udc00"', '"\\ude00\\ud83d"', '"\\ud800\\ud800\\udc00"', '{"\\ud800": 1}')},
    "a surrogate in a field's name": (with_field("\ud800", "1"), "invalid_text"),
    **{f"a surrogate in {name}": (with_field(name, '"\\ud800"'), "invalid_text") for name in ("userId", "anonymousId", "messageId", "event", "unknown")},
    **{f"a NUL in {name}": (with_field(name, '"a\\u0000b"'), "id_invalid") for name in ("userId", "anonymousId", "messageId")},
    **{f"{name} that is {text}": (with_field(name, text), "invalid_number") for name in ("userId", "messageId") for text in ("NaN", "1e400")},
    **{f"timestamp that is {text[:9]}": (with_field("timestamp", text), code) for text, code in (("NaN", "invalid_number"), ("1e400", "invalid_number"), ("9" * 4300, "timestamp_invalid"), ('"\\ud800"', "invalid_text"), ('"2015-11-10T00:45:23\\u0000"', "timestamp_invalid"), ("1e300", "timestamp_invalid"))},
    "201 levels of objects": (nested(201), "too_deep"),
    "201 levels of lists": (nested(201, "[", "]"), "too_deep"),
    "900 levels": (nested(900), "too_deep"),
    "a key of half a megabyte": (with_field("k" * 600_000, "1"), "event_too_large"),
    "more keys than an event may hold": (with_value("{" + ",".join(f'"{n}": 0' for n in range(60_000)) + "}"), "event_too_large"),
    "the same key until it is too large": (with_value("{" + ",".join(['"k": 0'] * 100_000) + "}"), "event_too_large"),
    "an id of 256 characters": (with_field("messageId", '"' + "é" * 256 + '"'), "message_id_too_long"),
    "an id of 4,300 digits": (with_field("messageId", "9" * 4300), "message_id_too_long"),
}  # fmt: skip

# What looks no better, and is kept as it came.
KEPT = {
    "an integer of 4,300 digits": with_value("9" * 4300),
    "a negative one": with_value("-" + "9" * 4300),
    **{f"the value {text}": with_value(text) for text in (str(2**70), str(2**64), str(-(2**63)), "-0", "-0.0", "1e-400", "1.7976931348623157e308", "5e-324", "1E+2", "123456789.123456789123456789")},
    "a float of 5,000 digits": with_value("9" * 5000 + "e-4990"),
    "an id of 20 digits": with_field("userId", str(2**64)),
    "an id of 4,300 digits": with_field("userId", "9" * 4300),
    "200 levels of objects": nested(200),
    "200 levels of lists": nested(200, "[", "]"),
    "many brackets side by side": with_value("[" + ",".join(["{}"] * 1000) + "]"),
    "a key of 400,000 characters": with_value('{"' + "k" * 400_000 + '": 1}'),
    "20,000 keys": with_value("{" + ",".join(f'"{n}": 0' for n in range(20_000)) + "}"),
    "the same key 40,000 times": with_value("{" + ",".join(f'"k": {n}' for n in range(40_000)) + "}"),
    "a field twice": '{"userId": "0", "userId": "1", "event": "first", "event": "last"}',
    "odd keys": with_value('{"": 1, "a.b": 1, "[0]": 1, "\\"": 1, "$": 1, "__proto__": 1, "\\u0000": 1, "\\ud83d\\ude00": 1}'),
    "odd text": with_value('"\\u0000\\u0001\\u007f\\u2028\\ufeff\\uffff\\udbff\\udfff"'),
    "SQL": with_field("name", json.dumps("'); DROP TABLE events; --")),
}  # fmt: skip

ZIPPED = gzip.compress(GOOD.encode())
NAMED = b"\x1f\x8b\x08\x08" + ZIPPED[4:10] + b"a name\0" + ZIPPED[10:]
BOMB = gzip.compress(b" " * 32 * 1024 * 1024)
ENCODED = {
    "gzip": (ZIPPED, "gzip", "ok"),
    "gzip with a file's name": (NAMED, "gzip", "ok"),
    "gzip, stored": (gzip.compress(GOOD.encode(), 0), "gzip", "ok"),
    "gzip in capitals": (ZIPPED, "GZIP", "ok"),
    "gzip by its old name": (ZIPPED, "x-gzip", "ok"),
    "nothing, zipped": (gzip.compress(b""), "gzip", "invalid_json"),
    "gzip twice": (gzip.compress(ZIPPED), "gzip", "invalid_json"),
    "a bomb": (BOMB, "gzip", "payload_too_large"),
    **{f"cut to {length}": (ZIPPED[:length], "gzip", "invalid_encoding") for length in (0, 1, 2, 9, 10, 20, len(ZIPPED) - 8, len(ZIPPED) - 1)},
    "a bomb, cut": (BOMB[:1000], "gzip", "invalid_encoding"),
    "a byte too much": (ZIPPED + b"\0", "gzip", "invalid_encoding"),
    "two members": (ZIPPED * 2, "gzip", "invalid_encoding"),
    "a wrong checksum": (ZIPPED[:-8] + b"\0\0\0\0" + ZIPPED[-4:], "gzip", "invalid_encoding"),
    "a wrong length": (ZIPPED[:-4] + b"\0\0\0\1", "gzip", "invalid_encoding"),
    "no gzip": (GOOD.encode(), "gzip", "invalid_encoding"),
    "zlib": (zlib.compress(GOOD.encode()), "gzip", "invalid_encoding"),
    "deflate": (zlib.compress(GOOD.encode())[2:-4], "gzip", "invalid_encoding"),
    **{encoding: (GOOD.encode(), encoding, "invalid_encoding") for encoding in ("br", "deflate", "compress", "zstd", "gzip, gzip", "gzip;q=1", "utf-8", "\xe9")},
    **{f"encoding {encoding!r}": (GOOD.encode(), encoding, "ok") for encoding in ("", "identity", " IDENTITY ")},
}  # fmt: skip


def code_of(answer):
    return "ok" if answer["success"] else answer["code"]


@pytest.fixture
def kept(query):
    """Return how many events and how many refusals are kept, having seen that SQLite can read them."""

    def kept():
        assert query("SELECT count(*) FROM events WHERE NOT json_valid(payload)") == [(0,)]
        assert len(query("SELECT properties FROM tracks")) == query("SELECT count(*) FROM events")[0][0]
        return query("SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM rejected)")[0]

    return kept


@pytest.mark.parametrize("case", BODIES)
@pytest.mark.parametrize("url", ["/v1/track", "/v1/batch"])
def test_a_body_is_json_in_utf_8_or_refused_as_a_whole_and_kept(post, kept, url, case):
    body, code = BODIES[case]
    if url == "/v1/batch" and code == "ok":
        code = "batch_not_list"
    assert code_of(post(url, body)[1]) == code
    assert kept() == ((1, 0) if code == "ok" else (0, 1))


@pytest.mark.parametrize("case", EVENTS)
def test_what_cannot_be_kept_refuses_the_event_that_holds_it(post, kept, case):
    text, code = EVENTS[case]
    status, answer = post("/v1/track", text)
    assert (status, answer["code"]) == (400, code)
    assert kept() == (0, 1)


@pytest.mark.parametrize("case", EVENTS)
def test_what_cannot_be_kept_does_not_refuse_its_batch(post, kept, case):
    text, code = EVENTS[case]
    item = text.replace("{", '{"type": "track", ', 1)
    status, answer = post("/v1/batch", f'{{"batch": [{GOOD}, {item}, {GOOD}]}}')
    assert (status, answer["stored"], [each["code"] for each in answer["rejected"]]) == (200, 2, [code])
    assert kept() == (2, 1)


@pytest.mark.parametrize("case", KEPT)
def test_what_looks_no_better_is_stored_as_it_came(post, kept, stored, case):
    sent = json.loads(KEPT[case])
    sent["userId"] = str(sent["userId"])
    assert post("/v1/track", KEPT[case])[0] == 200
    assert kept() == (1, 0)
    (event,) = stored()
    assert repr({name: event[name] for name in sent}) == repr(sent)


@pytest.mark.parametrize("case", ENCODED)
def test_a_body_is_what_its_encoding_says_or_refused_and_kept(post, kept, query, case):
    body, encoding, code = ENCODED[case]
    status, answer = post("/v1/track", body, Content_Encoding=encoding)
    assert code_of(answer) == code
    assert status == (200 if code == "ok" else 400)
    assert kept() == ((1, 0) if code == "ok" else (0, 1))


def test_of_a_gzip_bomb_only_the_beginning_is_kept(post, query):
    post("/v1/track", BOMB, Content_Encoding="gzip")
    assert query("SELECT length(body), cut FROM rejected") == [(64 * 1024, 1)]


def test_a_body_nested_deeper_than_can_be_read_is_refused_by_one_of_two_codes(post, kept):
    """How deep that is depends on the stack that is in use."""
    for levels in range(901, 1100, 20):
        assert post("/v1/track", nested(levels))[1]["code"] in ("too_deep", "invalid_json")
    assert kept() == (0, 10)
