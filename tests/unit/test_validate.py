"""POST /v1/validate lists all errors and stores nothing."""

import pytest
from factories import SOURCE_ID, item

TRACK = item()


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        (TRACK, []),
        ({"batch": [TRACK, TRACK]}, []),
        ({"userId": "1", "event": "e"}, [("type", "unknown_type")]),
        (
            {"type": "track", "properties": 1},
            [("properties", "properties_not_object"), ("event", "event_not_defined"), ("userId", "id_required")],
        ),
        (
            {"batch": [TRACK, 1, {"type": "page"}]},
            [("batch[1]", "event_not_object"), ("batch[2].userId", "id_required")],
        ),
        ({"batch": []}, [("batch", "empty_batch")]),
        ({"batch": 1, "context": 2}, [("batch", "batch_not_list"), ("context", "context_not_object")]),
        ([], [("", "event_not_object")]),
        ("{'type': 'track'}", [("", "invalid_json")]),
    ],
)
def test_every_error_is_listed_and_nothing_is_stored(post, query, body, errors):
    status, answer = post("/v1/validate", body)
    assert (status, answer["success"], answer["valid"]) == (200, True, not errors)
    assert [(error["field"], error["code"]) for error in answer["errors"]] == errors
    assert all(error["message"] for error in answer["errors"])
    assert query("SELECT count(*) FROM events") == query("SELECT count(*) FROM rejected") == [(0,)]
    assert query("SELECT count(*) FROM counts") == [(0,)]


def test_validation_needs_a_key(post, log, monkeypatch):
    monkeypatch.setattr("eventlog.sources.CACHE_SECONDS", -1)
    assert post("/v1/validate", TRACK, Authentication=None)[1]["code"] == "missing_write_key"
    assert post("/v1/validate", TRACK | {"writeKey": SOURCE_ID}, Authentication=None)[1]["valid"] is True
    assert post("/v1/validate", TRACK, Authentication="Basic ???")[0] == 401
    log.sources.set_enabled("example", False)
    assert post("/v1/validate", TRACK | {"writeKey": SOURCE_ID}, Authentication=None)[1]["code"] == "source_disabled"


@pytest.mark.parametrize(
    "body",
    [
        {"batch": [1] * 1500},
        {"batch": [TRACK | {"properties": {"numbers": [float("nan")] * 150}}]},
        {"batch": [TRACK | {"properties": {"numbers": [float("nan")] * 60}}] * 3},
        TRACK | {"properties": {"numbers": [float("nan")] * 150}},
    ],
)
def test_at_most_100_errors_are_listed(post, body):
    _, answer = post("/v1/validate", body)
    assert (answer["valid"], len(answer["errors"])) == (False, 100)


def test_every_error_of_an_item_is_listed(post):
    _, answer = post("/v1/validate", {"batch": [TRACK, TRACK | {"properties": [float("nan")] * 50}]})
    assert {error["field"] for error in answer["errors"]} >= {f"batch[1].properties[{n}]" for n in range(50)}
