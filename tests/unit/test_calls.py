"""An accepted call is stored in its canonical form."""

import dataclasses
import json
import os

import pytest

import schemas

NOW = "2015-11-10T01:00:00.000Z"


@pytest.fixture
def at_one(monkeypatch):
    """Set the time of every request to NOW."""
    from ingest import incoming

    class Clock(incoming.datetime):
        @classmethod
        def now(cls, zone):
            return cls(2015, 11, 10, 1, tzinfo=zone)

    monkeypatch.setattr(incoming, "datetime", Clock)


MINIMAL = {
    "identify": {},
    "track": {"event": "Added File"},
    "page": {},
    "screen": {},
    "group": {"groupId": "5678"},
    "alias": {"previousId": "1234"},
}


def test_every_call_has_a_minimal_event():
    assert set(MINIMAL) == set(schemas.CALLS)


@pytest.mark.parametrize("call", MINIMAL)
@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("slash", ["", "/"])
def test_every_call_is_stored_by_its_routes(post, stored, call, short, slash):
    status, answer = post(f"/v1/{call[0] if short else call}{slash}", {"userId": "1"} | MINIMAL[call])
    assert status == 200
    (event,) = stored()
    assert event["type"] == call
    assert answer == {"success": True, "messageId": event["messageId"]}
    assert event == MINIMAL[call] | {
        "type": call, "messageId": answer["messageId"], "userId": "1",
        "originalTimestamp": event["receivedAt"], "timestamp": event["receivedAt"], "receivedAt": event["receivedAt"],
    }  # fmt: skip


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "image/png", "nonsense"]
)
def test_the_content_type_does_not_matter(post, content_type):
    assert post("/v1/track", {"userId": "1", "event": "e"}, Content_Type=content_type)[0] == 200


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"userId": 42}, {"userId": "42"}),
        ({"userId": 1.5}, {"userId": "1.5"}),
        ({"userId": 2**70}, {"userId": str(2**70)}),
        ({"userID": "1"}, {"userId": "1"}),
        ({"userID": "old", "userId": "new"}, {"userId": "new"}),
        ({"userID": "old", "userId": None}, {"userId": "old"}),
        ({"anonymousID": "a"}, {"anonymousId": "a"}),
        ({"userId": "1", "groupID": 7, "groupId": None}, {"userId": "1", "groupId": "7"}),
        ({"userId": " ", "anonymousId": "a"}, {"anonymousId": "a"}),
        ({"userId": "1", "anonymousId": ""}, {"userId": "1"}),
        ({"userId": "1", "messageId": 5}, {"userId": "1", "messageId": "5"}),
        ({"userId": "1", "type": "GROUP"}, {"userId": "1"}),
        ({"userId": "1", "type": None}, {"userId": "1"}),
        ({"userId": "1", "traits": []}, {"userId": "1", "traits": {}}),
        ({"userId": "1", "traits": None, "context": None}, {"userId": "1"}),
        (
            {"userId": "1", "unknown": {"kept": [None, True, 1e-7]}},
            {"userId": "1", "unknown": {"kept": [None, True, 1e-7]}},
        ),
        ({"userId": "1", "huge": 10**4299}, {"userId": "1", "huge": 10**4299}),
        ({"userId": "1", "receivedAt": "never"}, {"userId": "1"}),
        ({"userId": "1", "text": "a\0b\u2028é😀"}, {"userId": "1", "text": "a\0b\u2028é😀"}),
    ],
)
def test_a_field_is_stored_as_sent_or_in_canonical_form(post, stored, given, kept):
    status, answer = post("/v1/group", {"groupId": "5678"} | given)
    assert status == 200
    (event,) = stored()
    for server_set in ("messageId", "timestamp", "originalTimestamp", "receivedAt", "type"):
        value = event.pop(server_set)
        assert kept.get(server_set, value) == value
    assert event == {"groupId": "5678"} | {name: value for name, value in kept.items() if name != "messageId"}
    assert answer["messageId"] == kept.get("messageId", answer["messageId"])


@pytest.mark.parametrize("message_id", ["", "  ", None])
def test_a_blank_message_id_is_replaced(post, stored, message_id):
    """The server's own messageIds sort by time."""
    made = [post("/v1/track", {"userId": "1", "event": "e", "messageId": message_id})[1]["messageId"] for _ in range(3)]
    assert made == sorted(made)
    assert len({event["messageId"] for event in stored()}) == 3


@pytest.mark.parametrize(
    ("given", "timestamp", "original"),
    [
        ({}, NOW, NOW),
        ({"timestamp": "2015-11-10T00:45:23.412Z"}, "2015-11-10T00:45:23.412Z", "2015-11-10T00:45:23.412Z"),
        ({"originalTimestamp": "2015-11-10 00:45"}, "2015-11-10T00:45:00.000Z", "2015-11-10 00:45"),
        ({"timestamp": 1447116323412}, "2015-11-10T00:45:23.412Z", 1447116323412),
        # The client's clock is an hour fast: the event was ten minutes before it was sent.
        (
            {"timestamp": "2015-11-10T01:50:00Z", "sentAt": "2015-11-10T02:00:00Z"},
            "2015-11-10T00:50:00.000Z",
            "2015-11-10T01:50:00Z",
        ),
        (
            {"timestamp": "2015-11-10T00:45:23Z", "sentAt": "unreadable"},
            "2015-11-10T00:45:23.000Z",
            "2015-11-10T00:45:23Z",
        ),
        ({"timestamp": "2015-11-10T00:45:23Z", "sentAt": None}, "2015-11-10T00:45:23.000Z", "2015-11-10T00:45:23Z"),
        # A clock that was never set does not correct a time.
        (
            {"timestamp": "2015-11-10T00:45:23Z", "sentAt": "1970-01-01T00:00:09Z"},
            "2015-11-10T00:45:23.000Z",
            "2015-11-10T00:45:23Z",
        ),
        (
            {"timestamp": "2015-11-10T00:45:23Z", "sentAt": "1989-12-31T23:59:59.999Z"},
            "2015-11-10T00:45:23.000Z",
            "2015-11-10T00:45:23Z",
        ),
        # A correction that leaves the years 1 to 9999 is not applied.
        ({"timestamp": "0001-01-02", "sentAt": "9999-12-31"}, "0001-01-02T00:00:00.000Z", "0001-01-02"),
        # It was forwarded, so it was corrected before.
        (
            {"timestamp": "2014-01-01T01:00:00+01:00", "originalTimestamp": "x 2013", "sentAt": "2010-01-01"},
            None,
            None,
        ),
        (
            {"timestamp": "2014-01-01T01:00:00+01:00", "originalTimestamp": "2013-1-1", "sentAt": "2010-01-01"},
            "2014-01-01T00:00:00.000Z",
            "2013-1-1",
        ),
    ],
)
def test_times_are_corrected_by_the_senders_clock(post, stored, at_one, given, timestamp, original):
    status, _ = post("/v1/track", {"userId": "1", "event": "e"} | given)
    if timestamp is None:
        assert status == 400
        return
    (event,) = stored()
    assert (event["timestamp"], event["originalTimestamp"], event["receivedAt"]) == (timestamp, original, NOW)


def test_columns_agree_with_the_payload(post, query):
    post("/v1/track", {"userId": "1", "anonymousId": "a", "event": "Added File", "messageId": "m"})
    post("/v1/page", {"anonymousId": "a", "name": "Home"})
    post("/v1/identify", {"userId": "1", "name": ["not a title"]})
    assert query("SELECT source, type, user_id, anonymous_id, name FROM events ORDER BY id") == [
        ("example", "track", "1", "a", "Added File"),
        ("example", "page", None, "a", "Home"),
        ("example", "identify", "1", None, None),
    ]
    assert query("SELECT message_id FROM events WHERE id = 1") == [("m",)]


def test_healthz_answers_without_a_log(client, path):
    os.remove(path)
    response = client.get("/healthz")
    assert (response.status_code, response.json) == (200, {"status": "ok"})


# As on the API's page, from which legacy servers were written.
SLIPS = [
    ("{'userId': '1234'}", "line 1, column 2", "double quotes"),
    ('{"userId": "1234",\n "traits": {"hasTowel": True}}', "line 2, column 25", "true instead of True"),
    ('{"userId": "1234"\n "event": "Added File"}', "line 2, column 2", "a comma before"),
    ('{"userId": "1234", "event": Added File}', "line 1, column 29", '"Added" in double quotes'),
    ("{userId: 1234}", "line 1, column 2", '"userId" in double quotes'),
    ('{"userId": None}', "line 1, column 12", "null instead of None"),
    ('{"userId": "1234",}', "line 1", "remove the comma"),
    ('{"userId" "1234"}', "line 1, column 11", "a colon before"),
    ('{"userId": “1234”}', "line 1, column 12", "double quotes"),
    ('{"userId": "1234" // Arthur\n}', "line 1, column 19", "no comments"),
    ('{"userId": "1234"', "line 1, column 18", "ends too early"),
    ("", "line 1, column 1", "empty"),
    ('{"userId": "1234"}}', "line 1, column 19", "Extra data"),
    ('{"userId": "a\tb"}', "line 1, column 14", "control character"),
    ('{"userId":\n ' + "1" * 4301 + "}", "line 2, column 2", "4,300 digits"),
]


@pytest.mark.parametrize(("body", "place", "advice"), SLIPS)
@pytest.mark.parametrize("url", ["/v1/identify", "/v1/batch"])
def test_a_slip_is_answered_with_its_place_and_advice(post, url, body, place, advice):
    status, answer = post(url, body.encode())
    assert (status, answer["code"]) == (400, "invalid_json")
    assert place in answer["message"]
    assert advice in answer["message"]


def test_limits_are_settings_and_exact(app, post):
    body = json.dumps({"userId": "1", "event": "e", "messageId": "x" * 10})
    settings = app.extensions["config"]
    exact = dataclasses.replace(settings, max_body_bytes=len(body), max_event_bytes=len(body))
    app.extensions["config"] = exact
    assert post("/v1/track", body)[0] == 200
    app.extensions["config"] = dataclasses.replace(exact, max_body_bytes=len(body) - 1)
    assert post("/v1/track", body)[1]["code"] == "payload_too_large"
    app.extensions["config"] = dataclasses.replace(exact, max_event_bytes=len(body) - 1)
    assert post("/v1/track", body)[1]["code"] == "event_too_large"


def test_a_blank_id_is_taken_from_its_old_spelling(post, stored):
    for blank in ("", " ", None):
        assert post("/v1/track", {"userId": blank, "userID": "old", "event": "e"})[0] == 200
    assert [event["userId"] for event in stored()] == ["old"] * 3


def test_a_blank_message_id_is_absent_however_long(post):
    status, answer = post("/v1/track", {"userId": "1", "event": "e", "messageId": " " * 300})
    assert status == 200
    assert answer["messageId"].strip()


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (404, "404"),
        (0, "0"),
        (-1.5, "-1.5"),
        (1e22, "1e+22"),
        (10**40, "1" + "0" * 40),
        (" ", " "),
    ],
)
def test_a_number_as_event_becomes_its_text(post, stored, query, event, text):
    assert post("/v1/track", {"userId": "1", "event": event})[0] == 200
    assert stored()[0]["event"] == text
    assert query("SELECT name FROM events") == [(text,)]


@pytest.mark.parametrize("field", ["timestamp", "originalTimestamp", "sentAt"])
@pytest.mark.parametrize("blank", ["", " ", "\t\n"])
def test_a_blank_time_is_absent(post, stored, field, blank):
    assert post("/v1/track", {"userId": "1", "event": "e", field: blank})[0] == 200
    (event,) = stored()
    assert event["timestamp"] == event["originalTimestamp"] == event["receivedAt"]


def test_a_blank_time_leaves_the_other_one_to_count(post, stored):
    times = {"originalTimestamp": "", "timestamp": "2015-11-10T00:45:23.412Z"}
    post("/v1/track", {"userId": "1", "event": "e", **times})
    assert stored()[0]["timestamp"] == stored()[0]["originalTimestamp"] == "2015-11-10T00:45:23.412Z"
