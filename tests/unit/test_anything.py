"""Any input gets an answer, and the log has only what was sent and SQLite can read."""

import json
import tracemalloc
from base64 import b64encode
from itertools import islice
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from errors import CODES, ApiError
from parsing import json_batch, json_text

# All that json.loads can make, which is more than JSON: NaN, Infinity, lone surrogates.
TEXT = st.text(st.characters(exclude_categories=[]), max_size=8)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
KNOWN = st.sampled_from(
    ["type", "userId", "anonymousId", "userID", "groupID", "messageId", "timestamp", "originalTimestamp", "sentAt", "context",
     "integrations", "event", "properties", "traits", "name", "category", "section", "groupId", "previousId", "writeKey"]
)  # fmt: skip
GOOD = st.sampled_from(
    ["track", "Page", "1", 1, "2015-11-10T00:45:23.412Z", 1447116323412, 10**400, {}, {"a": [1]}, [], None]
)
EVENT = st.dictionaries(KNOWN | TEXT, GOOD | ANY, max_size=8)
GOOD_ITEM = EVENT.map(lambda event: {"type": "page", "userId": "1", **event})
DOTTED = st.lists(TEXT, min_size=1, max_size=3).map(".".join)
ROUTES = st.sampled_from(["identify", "track", "page", "screen", "group", "alias"])

many = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


LONGEST = 512 * 1024  # characters of an event


def go_on():
    """Replace a pause."""


def assert_answer(status, answer):
    assert status in (200, 400)
    assert answer["success"] is (status == 200)
    assert status == 200 or answer["code"] in CODES


# The fields that the server may change. All others are stored as sent.
CHANGED = {
    "type",
    "messageId",
    "timestamp",
    "originalTimestamp",
    "receivedAt",
    "writeKey",
    "userID",
    "anonymousID",
    "groupID",
}

# Fields that are left out if they are null or blank.
BLANK_IS_ABSENT = {
    *["userId", "anonymousId", "groupId", "previousId", "event", "properties", "traits", "name", "category", "section"],
    *["context", "integrations"],
}


@pytest.fixture
def added(query):
    """Return a function that checks and returns the payloads that were added since its last call."""
    last = [0]

    def added():
        rows = query("SELECT id, payload, json_valid(payload) FROM events WHERE id > ? ORDER BY id", *last)
        assert all(is_valid for _, _, is_valid in rows)
        last[0] = max([last[0], *(id for id, _, _ in rows)])
        return [json.loads(payload) for _, payload, _ in rows]

    return added


def assert_kept(sent, stored):
    for name, value in sent.items():
        if name in stored and name not in CHANGED:
            assert stored[name] == value or stored[name] == json.dumps(value) or (stored[name], value) == ({}, [])
        else:
            assert name in CHANGED or name in BLANK_IS_ABSENT, name


@many
@given(route=ROUTES, event=EVENT | ANY)
def test_any_json_value_is_answered_and_stored_as_sent(post, added, route, event):
    status, answer = post(f"/v1/{route}", json.dumps(event))
    assert_answer(status, answer)
    stored = added()
    assert len(stored) == (status == 200 and not answer.get("duplicate"))
    for each in stored:
        assert (each["messageId"], each["type"]) == (answer["messageId"], route)
        assert_kept(event, each)


@many
@given(
    batch=st.lists(EVENT | ANY | GOOD_ITEM, max_size=4),
    envelope=st.dictionaries(st.sampled_from(["context", "integrations", "sentAt"]), ANY),
)
def test_any_batch_is_answered_and_stored_as_sent(post, added, batch, envelope):
    """Send a batch of any values. The counts in the answer add up."""
    status, answer = post("/v1/batch", json.dumps({**envelope, "batch": batch}))
    assert_answer(status, answer)
    stored = added()
    assert len(stored) == answer.get("stored", 0)
    if "received" in answer:
        assert answer["received"] == len(batch) == answer["stored"] + answer["duplicates"] + answer["rejectedCount"]
        refused = {each["index"] for each in answer["rejected"]}
        good = [item for index, item in enumerate(batch) if index not in refused]
        if not answer["duplicates"]:
            for item, each in zip(good, stored, strict=True):
                assert_kept({name: value for name, value in item.items() if name not in envelope}, each)


def is_utf_8(fields):
    """Return whether a query can hold the fields. It cannot hold a lone surrogate."""
    try:
        return bool(json.dumps(fields, ensure_ascii=False).encode())
    except UnicodeEncodeError:
        return False


@many
@example(route="identify", fields={"userId": "0", "": "", ".": ""})
@given(route=ROUTES | TEXT, fields=st.dictionaries(KNOWN | DOTTED, TEXT, max_size=6).filter(is_utf_8))
def test_any_pixel_is_answered_and_stored_as_sent(client, log, added, route, fields):
    """Send any query to a pixel. Every answer with a route is a picture."""
    query = urlencode({**fields, "writeKey": "ILoveData123"}, encoding="utf-8", errors="surrogatepass")
    response = client.get(f"/v1/pixel/{quote(route, safe='', errors='surrogatepass')}?{query}")
    assert response.status_code in (200, 400, 404)
    assert response.content_type == "image/gif" or response.status_code == 404
    stored = added()
    assert len(stored) <= (response.status_code == 200)
    objects = {name.partition(".")[0] for name in fields if "." in name}  # their dotted fields replace a plain one
    for each in stored:
        assert_kept({name: value for name, value in fields.items() if "." not in name and name not in objects}, each)


@many
@given(
    data=st.text("ABCDefgh0123+/-_= %", max_size=20)
    | EVENT.map(lambda event: b64encode(json.dumps(event).encode()).decode())
)
def test_any_data_of_a_pixel_is_answered_with_a_picture(client, log, added, data):
    response = client.get("/v1/pixel/page?" + urlencode({"data": data, "writeKey": "ILoveData123"}))
    assert (response.status_code in (200, 400), response.content_type) == (True, "image/gif")
    assert len(added()) <= (response.status_code == 200)


@many
@given(
    route=ROUTES | st.just("batch"), body=EVENT | ANY | st.builds(lambda batch: {"batch": batch}, ANY | st.lists(EVENT))
)
def test_anything_without_a_key_is_answered(post, query, route, body):
    status, answer = post(f"/v1/{route}", json.dumps(body), Authentication=None)
    assert (status, answer["success"]) in ((401, False), (400, False))
    assert query("SELECT count(*) FROM events") == [(0,)]


@many
@given(body=st.binary(max_size=60), route=ROUTES | st.just("batch"), encoding=st.sampled_from(["", "gzip"]))
def test_any_bytes_are_answered(post, body, route, encoding):
    assert_answer(*post(f"/v1/{route}", body, Content_Encoding=encoding))


@settings(max_examples=500, deadline=None)
@given(value=ANY)
def test_a_batch_is_parsed_to_the_values_of_json_loads(value):
    text = json.dumps({"batch": [value, value], "other": value})
    parsed = json_batch.parse_batch(text, 1000, LONGEST, go_on)
    assert repr([item.value for item in parsed["batch"]]) == repr(json.loads(text)["batch"])
    assert all(repr(json.loads(item.text)) == repr(item.value) for item in parsed["batch"])
    assert repr(parsed["other"]) == repr(json.loads(text)["other"])


@settings(max_examples=500, deadline=None)
@given(text=st.text('{}[]":, \n0123ab\\batch', max_size=30))
def test_a_batch_parser_rejects_what_json_loads_rejects(text):
    def outcome(parse):
        try:
            return parse(text)
        except ApiError as refused:
            return refused.message

    def plain(value):
        return {**value, "batch": [item.value for item in value["batch"]]} if _has_items(value) else value

    assert plain(outcome(lambda text: json_batch.parse_batch(text, 1000, LONGEST, go_on))) == outcome(
        lambda text: json_text.parse(text).value
    )


def _has_items(value):
    return isinstance(value, dict) and isinstance(value.get("batch"), list)


@settings(max_examples=500, deadline=None)
@given(value=ANY)
def test_defects_are_found_only_in_values_that_cannot_be_encoded(value):
    try:
        json_text.encode(value)
    except ValueError:
        assert list(json_text.find_defects(value, go_on))
    else:
        assert not list(json_text.find_defects(value, go_on))


def test_the_names_of_defects_are_bounded():
    hostile = {"k" * 200_000: {str(number): float("nan") for number in range(50_000)}}
    assert all(len(fault["field"]) < 500 for fault in islice(json_text.find_defects(hostile, go_on), 100))


def test_no_more_defects_are_searched_for_than_needed():
    """The defects of 4,000 items with 100 each once took 300 MB."""
    hostile = [float("nan")] * 100_000

    def peak(most):
        tracemalloc.start()
        try:
            list(islice(json_text.find_defects(hostile, go_on), most))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(10) < peak(None) / 2


@pytest.mark.parametrize("text", ['{"é": "😀\\n"}', '"\\u00e9"', "[1]"])
def test_ascii_escaping_changes_no_value(text):
    assert json.loads(json_text.escape_non_ascii(text, go_on)) == json.loads(text)
