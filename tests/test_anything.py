"""Whatever is sent: an answer of ours, and in the log only what SQLite can read and equals what was sent."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import strictjson
from errors import CODES, Refused

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
GOOD = st.sampled_from(["track", "Page", "1", 1, "2015-11-10T00:45:23.412Z", 1447116323412, {}, {"a": [1]}, [], None])
EVENT = st.dictionaries(KNOWN | TEXT, GOOD | ANY, max_size=8)
ROUTES = st.sampled_from(["identify", "track", "page", "screen", "group", "alias"])

many = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def assert_answer(status, answer):
    assert status in (200, 400)
    assert answer["success"] is (status == 200)
    assert status == 200 or answer["code"] in CODES


@many
@given(route=ROUTES, event=EVENT | ANY)
def test_any_json_value_is_answered_and_stored_as_it_was_sent(post, query, route, event):
    before = query("SELECT count(*) FROM events")[0][0]
    status, answer = post(f"/v1/{route}", json.dumps(event))
    assert_answer(status, answer)
    rows = query("SELECT payload, json_valid(payload), message_id FROM events WHERE id > 0 ORDER BY id")[before:]
    if status == 200 and not answer.get("duplicate"):
        ((payload, is_valid, message_id),) = rows
        stored = json.loads(payload)
        assert (is_valid, message_id, stored["type"]) == (1, answer["messageId"], route)
        known = {
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
        for name, value in event.items():
            if name in stored and name not in known:
                assert stored[name] == value or stored[name] == json.dumps(value) or (stored[name], value) == ({}, [])


@many
@given(
    batch=st.lists(EVENT | ANY, max_size=4),
    envelope=st.dictionaries(st.sampled_from(["context", "integrations", "sentAt"]), ANY),
)
def test_any_batch_is_answered_and_adds_up(post, batch, envelope):
    status, answer = post("/v1/batch", json.dumps({**envelope, "batch": batch}))
    assert_answer(status, answer)
    if "received" in answer:
        assert answer["received"] == len(batch) == answer["stored"] + answer["duplicates"] + answer["rejectedCount"]


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
def test_a_batch_is_parsed_to_what_json_loads_makes_of_it(value):
    text = json.dumps({"batch": [value, value], "other": value})
    parsed = strictjson.parse_batch(text, 1000, lambda: None)
    assert repr([item.value for item in parsed["batch"]]) == repr(json.loads(text)["batch"])
    assert all(repr(json.loads(item.text)) == repr(item.value) for item in parsed["batch"])
    assert repr(parsed["other"]) == repr(json.loads(text)["other"])


@settings(max_examples=500, deadline=None)
@given(text=st.text('{}[]":, \n0123ab\\batch', max_size=30))
def test_a_batch_is_refused_where_and_why_json_loads_refuses_it(text):
    def outcome(parse):
        try:
            return parse(text)
        except Refused as refused:
            return refused.message

    def plain(value):
        return {**value, "batch": [item.value for item in value["batch"]]} if _has_items(value) else value

    assert plain(outcome(lambda text: strictjson.parse_batch(text, 1000, lambda: None))) == outcome(strictjson.parse)


def _has_items(value):
    return isinstance(value, dict) and isinstance(value.get("batch"), list)


@settings(max_examples=500, deadline=None)
@given(value=ANY)
def test_faults_are_found_exactly_where_a_value_cannot_be_encoded(value):
    try:
        strictjson.encode(value)
    except strictjson.Unwritable:
        assert strictjson.faults(value)
    else:
        assert not strictjson.faults(value)


def test_the_faults_of_a_hostile_event_are_listed_in_bounded_space():
    hostile = {"k" * 200_000: {str(number): float("nan") for number in range(50_000)}}
    faults = strictjson.faults(hostile)
    assert len(faults) == 100
    assert all(len(fault["field"]) < 500 for fault in faults)


@pytest.mark.parametrize("text", ['{"é": "😀\\n"}', '"\\u00e9"', "[1]"])
def test_ascii_escaping_changes_no_value(text):
    assert json.loads(strictjson.ascii_escaped(text)) == json.loads(text)
