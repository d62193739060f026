"""The work and the memory for one body are bounded."""

import gzip
import json
import threading
import zlib
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from factories import AUTHENTICATION, SOURCE_ID, item
from hypothesis import given, settings
from hypothesis import strategies as st

from app import create_app
from config import Config
from parsing import json_batch, json_text
from parsing.json_values import OVERSIZED
from serving import gunicorn_patches

GOOD = json.dumps(item(writeKey=SOURCE_ID))
KIB = 1024


def go_on():
    """Replace a pause."""


def padded(size):
    """Return the body of a batch with one valid event, padded to `size` bytes."""
    body = '{"writeKey": "ILoveData123", "batch": [' + GOOD + "]}"
    return body + " " * (size - len(body))


@pytest.mark.parametrize("headers", [{}, {"Content_Encoding": "gzip"}], ids=["plain", "gzip"])
def test_a_body_with_its_key_inside_has_at_most_512_kib(post, query, headers):
    def send(url, size, key=None):
        body = padded(size).encode()
        return post(url, gzip.compress(body) if headers else body, Authentication=key, **headers)

    assert send("/v1/batch", 512 * KIB)[1]["stored"] == 1
    status, answer = send("/v1/batch", 512 * KIB + 1)
    assert (status, answer["code"]) == (401, "missing_write_key")
    assert "needs its key in a header or the query" in answer["message"]
    assert query("SELECT count(*) FROM rejected") == [(0,)]
    assert send("/v1/batch?writeKey=ILoveData123", 512 * KIB + 1)[0] == 200
    assert send("/v1/batch", 512 * KIB + 1, AUTHENTICATION["Authentication"])[0] == 200


def test_a_smaller_body_limit_is_reported_as_such(path, log):
    client = create_app(Config(database=path, max_body_bytes=1000)).test_client()
    page = {"Origin": "https://example.com"}  # of others without a key, the key is asked first
    assert client.post("/v1/batch", data=padded(1001), headers=page).json["code"] == "payload_too_large"


@pytest.mark.parametrize("url", ["/v1/track", "/v1/batch", "/v1/validate"])
def test_a_body_may_have_1000_members(post, url):
    def codes(number):
        body = {"type": "track", "userId": "1", "event": "e"} | {str(each): each for each in range(number - 3)}
        answer = post(url, body)[1]
        return {answer.get("code")} | {error["code"] for error in answer.get("errors", [])}

    assert "payload_too_large" not in codes(1000)
    assert "payload_too_large" in codes(1001)


@pytest.mark.parametrize("opening", ["[", "{"])
def test_a_body_may_have_500_000_opening_brackets(opening):
    body = b'["' + opening.encode() * 499_999 + b'"]'
    assert json_text.decode(body) == body.decode()
    with pytest.raises(json_text.ApiError) as refusal:
        json_text.decode(body + b"[")
    assert refusal.value.code == "payload_too_large"


LONG = {
    "a list": "[" + "1," * 300_000 + "1]",
    "an object": '{"a": {"b]": [' + '"}", ' * 200_000 + "1]}}",
    "a text": '"' + "x" * 600_000 + '"',
    "a text of escapes": '"' + '\\"\\\\]' * 150_000 + '"',
    "a number": "1." + "5" * 600_000,
    "lists": "[" + "[],{}," * 100_000 + "0]",
}


@pytest.mark.parametrize("name", LONG)
def test_an_item_above_the_event_limit_is_rejected_alone(post, query, name):
    status, answer = post("/v1/batch", f'{{"batch": [{GOOD}, {LONG[name]} , {GOOD}], "a": {LONG[name]}, "b": 1}}')
    assert (status, answer["stored"], [each["code"] for each in answer["rejected"]]) == (200, 2, ["event_too_large"])
    assert query("SELECT body FROM rejected") == [(LONG[name].encode(),)]


def test_an_item_above_the_event_limit_needs_no_key(path, log):
    client = create_app(Config(database=path, max_event_bytes=200)).test_client()
    answer = client.post(
        "/v1/batch", data=f'{{"batch": [{GOOD}, {LONG["a list"][-1000:].replace("1,", "[", 1)}, {GOOD}]}}'
    )
    assert answer.json["stored"] == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"batch": [' + "[" + "1, " * 200_000, "line 1, column 12: Unterminated"),
        ('{"batch": [\n"' + "x" * 600_000, "line 2, column 600002: the text ends too early"),
        (LONG["a list"] + "1", "column 600004: Extra data"),
        (f'{{"batch": [{LONG["a list"]}\n 1]}}', "line 2, column 2: write a comma"),
        (f'{{"batch": [{LONG["a list"]},\n{{"a" 1}}, 1]}}', "line 2, column 6: write a colon"),
        (f'{{"batch": [1, {{"a" 1}}, {LONG["a list"]}]}}', "line 1, column 20: write a colon"),
        (f'{{"batch": [1.5e5, "{"9" * 5000}", 0.{"9" * 5000},\n -{"9" * 4301}, {LONG["a list"]}]}}', "line 2, column 2"),
    ],
)  # fmt: skip
def test_an_error_in_a_long_body_has_its_place(post, text, message):
    status, answer = post("/v1/batch", text)
    assert (status, answer["code"]) == (400, "invalid_json")
    assert message in answer["message"]


VALUES = st.recursive(
    st.none() | st.integers() | st.floats(allow_nan=False) | st.text('ab"\\]}[{é😀1.e-', max_size=60),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=500, deadline=None)
@given(
    items=st.lists(VALUES, max_size=8),
    longest=st.integers(1, 60),
    separators=st.sampled_from([(",", ":"), (" , ", " : ")]),
)
def test_a_window_changes_no_value_and_no_text(items, longest, separators):
    text = json.dumps({"batch": items, "other": items}, separators=separators, ensure_ascii=False)
    parsed = json_batch.parse_batch(text, 1000, longest, go_on)
    for parsed_item, sent in zip(parsed["batch"], items, strict=True):
        assert json.loads(parsed_item.text) == sent
        assert parsed_item.value == sent if len(parsed_item.text) <= longest else parsed_item.value in (sent, OVERSIZED)
    assert parsed["other"] in (items, OVERSIZED)


def test_the_total_of_a_batchs_shared_fields_is_bounded(post):
    def code(context, items, **members):
        batch = {"context": {"text": "x" * context}, "batch": [json.loads(GOOD)] * items, **members}
        return post("/v1/validate", batch)[1]["errors"]

    assert code(3000, 2000) == []
    assert [error["code"] for error in code(3000, 3000)] == ["payload_too_large"]
    sent_at = "2015-11-10T02:00:00." + "0" * 3000 + "Z"
    assert [error["code"] for error in code(0, 3000, sentAt=sent_at)] == ["payload_too_large"]


def test_the_depth_of_a_wide_event_is_found():
    wide = [[] for _ in range(100_000)]
    for levels, is_too_deep in ((200, False), (201, True)):
        value = wide
        for _ in range(levels - 2):
            value = [value, 1]
        assert json_text.is_too_deep(value, "[" * 500) is is_too_deep


@pytest.fixture
def another_large_body(client, monkeypatch):
    """Return a context in which another request with a large body is being parsed."""

    @contextmanager
    def another_large_body():
        parse, arrived, go_on = json_batch.parse_batch, threading.Event(), threading.Event()

        def wait_and_parse(*arguments):
            if threading.current_thread() is other:
                arrived.set()
                go_on.wait(60)
            return parse(*arguments)

        monkeypatch.setattr(json_batch, "parse_batch", wait_and_parse)
        options = {"data": padded(600 * KIB), "headers": AUTHENTICATION}
        other = threading.Thread(target=client.post, args=("/v1/batch",), kwargs=options)
        other.start()
        try:
            assert arrived.wait(60)
            yield
        finally:
            go_on.set()
            other.join()

    return another_large_body


def test_a_large_body_waits_for_another_one_but_not_forever(another_large_body, post, log, query, monkeypatch):
    monkeypatch.setattr("ingest.incoming.LARGE_BODY_WAIT_SECONDS", 0.01)
    monkeypatch.setattr("eventlog.sources.CACHE_SECONDS", -1)
    with another_large_body():
        status, answer = post("/v1/batch", padded(600 * KIB))
        assert (status, answer["code"]) == (503, "storage_unavailable")
        assert post("/v1/batch", padded(500 * KIB))[0] == 200
        assert post("/v1/track", gzip.compress(padded(600 * KIB).encode()), Content_Encoding="gzip")[0] == 503
        log.sources.set_enabled("example", False)
        assert post("/v1/batch", padded(600 * KIB))[0] == 503
    assert query("SELECT count(*) FROM rejected") == [(0,)]


@pytest.mark.parametrize("url", ["/v1/batch", "/v1/validate"])
def test_too_many_large_bodies_are_no_trouble_with_the_log(app, another_large_body, client, caplog, monkeypatch, url):
    monkeypatch.setattr("ingest.incoming.LARGE_BODY_WAIT_SECONDS", 0.01)
    failures = []
    monkeypatch.setattr(app.extensions["metrics"], "count_log_failure", lambda: failures.append(1))
    with another_large_body():
        response = client.post(url, data=padded(600 * KIB), headers=AUTHENTICATION)
    assert (response.status_code, response.json["code"]) == (503, "storage_unavailable")
    assert "large bodies" in response.json["message"]
    assert int(response.headers["Retry-After"]) > 0
    assert failures == []
    assert [record for record in caplog.records if record.name.startswith("tracklog")] == []


@pytest.mark.parametrize("url", ["/v1/track", "/v1/batch", "/v1/validate", "/v1/nothing"])
@pytest.mark.parametrize(
    "body",
    [padded(600 * KIB), "x" * 600 * KIB, b"\xff" * 600 * KIB],
    ids=["batch", "no JSON", "no UTF-8"],
)
def test_a_large_body_always_makes_way_for_the_next(post, monkeypatch, url, body):
    monkeypatch.setattr("ingest.incoming.LARGE_BODY_WAIT_SECONDS", 0.01)
    post(url, body)
    assert post("/v1/batch", padded(600 * KIB))[0] == 200


def test_gzip_data_without_content_is_read_in_steps(post, monkeypatch):
    pauses = []
    monkeypatch.setattr("ingest.incoming.Yielder.__call__", lambda self: pauses.append(1))
    packer = zlib.compressobj(wbits=-15)
    data = packer.compress(b"{}") + packer.flush(zlib.Z_FULL_FLUSH)
    body = b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + data + b"\0\0\0\xff\xff" * 400_000
    assert post("/v1/track", body, Content_Encoding="gzip")[1]["code"] == "invalid_encoding"
    assert len(pauses) > 15 + 15  # while it is received, and while it is inflated


@pytest.mark.parametrize(("unread", "is_kept"), [(0, True), (100_000, True), (10**12, False)])
def test_a_connection_is_kept_if_its_request_can_be_drained(monkeypatch, unread, is_kept):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    left = [unread]

    def read(size):
        given = min(size, left[0])
        left[0] -= given
        return b"x" * given

    sock = SimpleNamespace(settimeout=lambda seconds: None, send=len, sendall=lambda data: None)
    request = SimpleNamespace(
        method="POST", version=(1, 1), should_close=lambda: False, body=SimpleNamespace(read=read)
    )
    response = gunicorn_patches.Response(request, sock, SimpleNamespace(is_ssl=False, sendfile=False))
    response.start_response("200 OK", [("Content-Length", "0")])
    response.close()
    assert response.should_close() is not is_kept
