"""A batch is validated item by item and stored in one transaction."""

import dataclasses
import gzip
import inspect
import json
from collections import Counter
from datetime import datetime, timedelta

import pytest
from factories import item

from ingest.incoming import Yielder
from parsing import timestamps
from parsing.json_batch import parse_batch


def test_one_bad_event_never_rejects_its_batch(post, stored):
    status, answer = post(
        "/v1/batch", {"batch": [item(messageId="a"), item(messageId="a"), {"type": "track", "messageId": 7}]}
    )
    assert status == 200
    rejected = answer.pop("rejected")
    assert answer == {"success": True, "received": 3, "stored": 1, "duplicates": 1, "rejectedCount": 1}
    assert [(each["index"], each["messageId"], each["code"]) for each in rejected] == [(2, "7", "event_not_defined")]
    assert {error["code"] for error in rejected[0]["errors"]} == {"event_not_defined", "id_required"}
    assert len(stored()) == 1


def test_all_types_go_in_one_batch(post, query):
    batch = [
        {"type": "identify", "userId": "1"},
        {"type": "Track", "userId": "1", "event": "e"},
        {"type": "PAGE", "userId": "1"},
        {"type": "screen", "userId": "1"},
        {"type": "group", "userId": "1", "groupId": "g"},
        {"type": "alias", "userId": "1", "previousId": "0"},
    ]
    for route in ("/v1/batch", "/v1/b", "/v1/import", "/v1/batch/"):
        assert post(route, {"batch": batch})[1]["stored"] == 6
    assert [type for (type,) in query("SELECT type FROM events WHERE id <= 6 ORDER BY id")] == [
        "identify", "track", "page", "screen", "group", "alias",
    ]  # fmt: skip


@pytest.mark.parametrize("type", [None, "", "trak", 5, ["track"], "tracK\u0130"])
def test_an_item_needs_a_valid_type(post, type):
    status, answer = post("/v1/batch", {"batch": [{"type": type, "userId": "1", "event": "e"}, item()]})
    assert (status, answer["rejected"][0]["code"]) == (200, "unknown_type")


def test_a_batchs_context_is_merged_under_each_items_own(post, stored):
    batch = {
        "context": {"library": {"name": "batch"}, "ip": "1.2.3.4"},
        "integrations": {"All": True},
        "batch": [item(), item(context={"ip": "5.6.7.8"}), item(context=[], integrations=None)],
    }
    post("/v1/batch", batch)
    first, second, third = stored()
    assert first["context"] == third["context"] == batch["context"]
    assert second["context"] == {"library": {"name": "batch"}, "ip": "5.6.7.8"}
    assert [event["integrations"] for event in (first, second, third)] == [{"All": True}] * 3


def test_a_batch_with_an_invalid_context_is_rejected_whole(post, query):
    body = json.dumps({"context": "x", "batch": [item()]})
    assert post("/v1/batch", body)[1]["code"] == "context_not_object"
    assert query("SELECT body FROM rejected") == [(body.encode(),)]


def test_the_batchs_sent_at_serves_the_items_without_one(post, stored):
    late = {"timestamp": "2015-11-10T01:50:00Z"}
    batch = [item(**late), item(**late, sentAt="2015-11-10T01:50:00Z"), item(**late, sentAt="unreadable")]
    post("/v1/batch", {"sentAt": "2015-11-10T02:00:00Z", "batch": batch})
    first, second, third = stored()
    assert first["timestamp"] == third["timestamp"]
    assert second["timestamp"] == second["receivedAt"]
    received, happened = (datetime.fromisoformat(first[name]) for name in ("receivedAt", "timestamp"))
    assert received - happened == timedelta(minutes=10)
    assert first["sentAt"] == "2015-11-10T02:00:00Z"


def test_a_rejected_item_is_kept_as_its_own_json_in_ascii(post, query):
    text = '{"type": "track", "userId": "1", "event": "é😀", "size": NaN, "text": "\\ud800"}'
    status, answer = post("/v1/batch", '{"batch": [1, ' + text + "  ]}")
    assert (status, answer["code"]) == (400, "empty_batch_result")
    assert [each["code"] for each in answer["rejected"]] == ["event_not_object", "invalid_number"]
    assert answer["errors"] == []
    kept = [bytes(body).decode("ascii") for (body,) in query("SELECT body FROM rejected ORDER BY id")]
    assert kept == ["1", text.replace("é", "\\u00e9").replace("😀", "\\ud83d\\ude00")]


def test_the_list_of_rejections_ends_at_1000_and_all_are_kept(post, query):
    bad = [{"type": "track", "number": number} for number in range(1500)]
    _, answer = post("/v1/batch", {"batch": [*bad, item()]})
    assert (len(answer["rejected"]), answer["rejectedCount"], answer["stored"]) == (1000, 1500, 1)
    assert query("SELECT count(*) FROM rejected") == [(1500,)]


def test_the_errors_of_a_batch_are_bounded(post, query):
    """An item has at most ten; after 100 in total, each further item has only its first."""
    bad = [
        {"type": "identify", "userId": "1", "number": number, "traits": {"x": [float("nan")] * 9}}
        for number in range(15)
    ]
    worse = [each | {"traits": {"x": [float("nan")] * 500}} for each in bad]
    for batch, counts in ((bad, [9] * 12 + [1] * 3), (worse, [10] * 10 + [1] * 5)):
        _, answer = post("/v1/batch", {"batch": [*batch, item()]})
        assert [len(each["errors"]) for each in answer["rejected"]] == counts
        assert [each["errors"][0]["field"] for each in answer["rejected"]] == ["traits.x[0]"] * 15
        kept = query("SELECT errors FROM rejected ORDER BY id DESC LIMIT 15")[::-1]
        assert [json.loads(errors) for (errors,) in kept] == [each["errors"] for each in answer["rejected"]]


def test_a_call_has_at_most_100_errors(post, query):
    _, answer = post("/v1/identify", {"userId": "1", "traits": {"x": [float("nan")] * 500}})
    assert len(answer["errors"]) == 100
    assert [json.loads(errors) for (errors,) in query("SELECT errors FROM rejected")] == [answer["errors"]]


def test_a_batch_of_duplicates_only_is_a_success(post):
    post("/v1/batch", {"batch": [item(messageId="a")]})
    status, answer = post("/v1/batch", {"batch": [item(messageId="a")]})
    assert (status, answer["stored"], answer["duplicates"]) == (200, 0, 1)


def test_a_context_that_many_items_multiply_is_rejected(post):
    batch = {"context": {"text": "x" * 100_000}, "batch": [item()] * 1000}
    assert post("/v1/batch", batch)[1]["code"] == "payload_too_large"


def test_a_context_with_nan_rejects_the_batch(post):
    status, answer = post("/v1/batch", '{"context": {"size": NaN}, "batch": [{"type": "identify", "userId": "1"}]}')
    assert (status, answer["code"], answer["errors"][0]["field"]) == (400, "invalid_number", "context.size")


def test_the_event_limit_counts_merged_fields(app, post):
    app.extensions["config"] = dataclasses.replace(app.extensions["config"], max_event_bytes=250)
    batch = {"context": {"text": "x" * 150}, "batch": [item(text="x" * 50), {"type": "identify", "userId": "1"}]}
    _, answer = post("/v1/batch", batch)
    assert [each["code"] for each in answer["rejected"]] == ["event_too_large"]
    assert answer["stored"] == 1


def test_a_long_batch_yields_in_every_phase(post, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "ingest.incoming.Yielder.__call__",
        lambda self: calls.append(inspect.currentframe().f_back.f_globals["__name__"]),
    )
    body = json.dumps({"batch": [item(text="x" * 10_000)] * 100}).encode()
    assert post("/v1/batch", gzip.compress(body), Content_Encoding="gzip")[0] == 200
    assert Counter(calls) == {
        "parsing.json_batch": 100,
        "ingest.checking": 100,
        "ingest.incoming": 10,  # while the body is received and inflated
        "parsing.json_text": 2,
    }


@pytest.mark.parametrize("size", [10, 20_000], ids=["read by msgspec", "read strictly"])
def test_reading_yields_after_each_member_of_a_batch(size):
    yields = []
    text = json.dumps({"batch": [], **{str(number): "x" * size for number in range(30)}})
    parse_batch(text, 100, 1_000_000, lambda: yields.append(None))
    assert len(yields) >= 30


def test_a_yielder_sleeps_after_every_slice_of_time(monkeypatch):
    naps, now = [], [0.0]
    monkeypatch.setattr("ingest.incoming.monotonic", lambda: now[0])
    monkeypatch.setattr("time.sleep", naps.append)
    yield_control = Yielder()
    for moment in (0.001, 0.009, 0.011, 0.012, 0.020, 0.022):
        now[0] = moment
        yield_control()
    assert naps == [Yielder.SLEEP_SECONDS] * 2
    assert Yielder.SLEEP_SECONDS > 0  # sleep(0) is not enough under gevent


@pytest.mark.parametrize("field", ["context", "integrations"])
@pytest.mark.parametrize("wrong", ["", 0, False, "x", [1]])
def test_an_items_own_object_is_validated_before_merging(post, field, wrong):
    _, answer = post("/v1/batch", {field: {"a": 1}, "batch": [item(**{field: wrong})]})
    assert answer["rejected"][0]["code"] == f"{field}_not_object"


def test_a_batchs_context_is_at_most_as_large_as_an_event(post):
    status, answer = post("/v1/batch", {"context": {"a": [[]] * 300_000}, "batch": [item()]})
    assert (status, answer["code"]) == (400, "event_too_large")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("a", "a"),
        (7, "7"),
        (True, None),
        ("x" * 256, None),
        ("x" * 255, "x" * 255),
        ({}, None),
    ],
    ids=["text", "number", "boolean", "256 characters", "255 characters", "object"],
)
def test_a_rejection_has_the_message_id_if_it_is_valid(post, given, told):
    _, answer = post("/v1/batch", {"batch": [item(), {"type": "track", "messageId": given}]})
    assert answer["rejected"][0]["messageId"] == told


def test_a_batch_that_is_too_long_is_not_parsed_to_its_end(post):
    status, answer = post("/v1/batch", '{"batch": [' + "10," * 1_000_000 + "this is no JSON")
    assert (status, answer["code"]) == (400, "batch_too_long")


@pytest.mark.parametrize(
    ("place", "sent_at"), [("batch", "2015-11-10T02:00:00.001Z"), ("items", "2015-11-10T02:00:00.002Z")]
)
def test_the_sent_at_of_a_batch_is_read_once(post, stored, monkeypatch, place, sent_at):
    read = []
    parse = timestamps.parse_timestamp
    monkeypatch.setattr(timestamps, "parse_timestamp", lambda value: read.append(value) or parse(value))
    fields = {"sentAt": sent_at}
    items = [item(timestamp="2015-11-10T01:00:00.123Z", **(fields if place == "items" else {}))] * 20
    assert post("/v1/batch", {"batch": items} | (fields if place == "batch" else {}))[1]["stored"] == 20
    assert read.count(sent_at) == 1
    assert {event["sentAt"] for event in stored()} == {sent_at}
    assert {event["timestamp"] for event in stored()} != {items[0]["timestamp"]}


@pytest.mark.parametrize("sent_at", [1, True, [], {}, None, "x", "1970-01-01T00:00:00Z", 1e300])
def test_a_sent_at_that_is_no_time_is_ignored(post, stored, sent_at):
    times = {"timestamp": "2015-11-10T01:00:00.123Z"}
    for last in ("2015-11-10T02:00:00.123Z", sent_at):
        assert post("/v1/batch", {"batch": [item(**times)], "sentAt": last})[0] == 200
    assert stored()[1]["timestamp"] == times["timestamp"]
