"""Libraries of 2012 to 2014 have other names for some fields; what uses the present ones keeps its own fields."""

import json
from pathlib import Path

import pytest

WHEN = "2013-12-31T17:00:00+00:00"
STORED_WHEN = "2013-12-31T17:00:00.000Z"

# What each library posts to /v1/import, and its events as they are stored. The key is in the body alone.
LIBRARIES = json.loads((Path(__file__).parents[1] / "old_libraries.json").read_text())


def without_stamps(event, *names):
    return {name: value for name, value in event.items() if name not in ("receivedAt", "timestamp", *names)}


@pytest.mark.parametrize("name", LIBRARIES)
def test_what_a_library_of_2012_to_2014_posts_is_stored_under_the_present_names(client, stored, name):
    body, expected = LIBRARIES[name].values()
    response = client.post("/v1/import", json=body)
    assert (response.status_code, response.json["stored"], response.json["rejected"]) == (200, len(expected), [])
    for event, fields in zip(stored(), expected, strict=True):
        assert event["timestamp"] == STORED_WHEN
        made = () if "messageId" in fields else ("messageId",)
        assert without_stamps(event, *made) == fields | {"originalTimestamp": WHEN}
    again = client.post("/v1/import", json=body).json
    assert again["duplicates"] == sum("messageId" in fields for fields in expected)


def test_analytics_go_of_2014_is_stored_with_its_request_ids_as_unknown_fields(client, stored):
    """It has the key in a header and writes `type`, so its requestId is no messageId. Its aliases name no user."""
    context = {"library": {"name": "analytics-go", "version": "0.0.1"}}
    track = {"type": "track", "event": "e", "properties": {"UserId": "1"}, "timestamp": WHEN, "userId": "1", "anonymousId": "", "requestId": "r"}  # fmt: skip
    alias = {"type": "alias", "previousId": "0", "timestamp": WHEN, "requestId": "r"}
    response = client.post(
        "/v1/import",
        json={"context": context, "requestId": "b", "batch": [track, alias]},
        headers={"Authorization": "Basic SUxvdmVEYXRhMTIzOg=="},
    )
    assert [(each["code"], each["messageId"]) for each in response.json["rejected"]] == [("id_required", None)]
    (event,) = stored()
    assert (event["requestId"], event["context"]) == ("r", context)


TRACK = {"userId": "1", "event": "e"}


@pytest.fixture
def post_item(post, stored):
    """Post one batch item, and return its event, or None and the element of `rejected`."""

    def post_item(item):
        answer = post("/v1/batch", {"batch": [item]})[1]
        return stored()[-1] if answer["stored"] else None, next(iter(answer["rejected"]), None)

    return post_item


@pytest.mark.parametrize(
    ("item", "fields"),
    [
        ({"action": "track", "requestId": "r"}, {"type": "track", "messageId": "r"}),
        ({"action": "TRACK", "requestId": 5}, {"type": "track", "messageId": "5"}),
        ({"action": "track", "requestId": "r", "messageId": None}, {"type": "track", "messageId": "r"}),
        ({"action": "track", "requestId": "r", "messageId": " "}, {"type": "track", "messageId": "r"}),
        ({"type": None, "action": "track", "requestId": "r"}, {"type": "track", "messageId": "r"}),
        ({"action": "track", "requestId": "r", "messageId": "m"}, {"type": "track", "messageId": "m", "requestId": "r"}),
        ({"action": "track", "messageId": "m"}, {"type": "track", "messageId": "m"}),
        ({"type": "track", "requestId": "r", "messageId": "m"}, {"messageId": "m", "requestId": "r"}),
        ({"type": "track", "action": "click", "messageId": "m"}, {"messageId": "m", "action": "click"}),
        ({"type": "track", "action": "page", "messageId": "m"}, {"messageId": "m", "action": "page"}),
        ({"type": "track", "action": {"a": 1}, "requestId": [], "messageId": "m"}, {"messageId": "m", "action": {"a": 1}, "requestId": []}),
        ({"type": "track", "from": "a", "to": "b", "messageId": "m"}, {"messageId": "m", "from": "a", "to": "b"}),
        ({"action": "track", "from": "a", "to": "b", "messageId": "m"}, {"messageId": "m", "from": "a", "to": "b"}),
        ({"type": "track", "secret": "hush", "messageId": "m"}, {"messageId": "m", "secret": "hush"}),
    ],
)  # fmt: skip
def test_action_and_request_id_count_only_in_an_item_without_a_type(post_item, item, fields):
    event, _ = post_item(TRACK | item)
    assert without_stamps(event, "originalTimestamp") == TRACK | {"type": "track"} | fields


@pytest.mark.parametrize(
    ("item", "fields"),
    [
        ({"type": "track", "requestId": "r"}, {"requestId": "r"}),
        ({"type": "TRACK", "action": "track", "requestId": "r"}, {"action": "track", "requestId": "r"}),
        ({"type": "track", "action": "click", "requestId": {}}, {"action": "click", "requestId": {}}),
        ({"type": "track", "requestId": None}, {"requestId": None}),
    ],
)
def test_a_modern_items_request_id_is_no_message_id(post_item, item, fields):
    """One request id may be on many events; all of them are stored."""
    first, _ = post_item(TRACK | item)
    second, _ = post_item(TRACK | item)
    assert first["messageId"] != second["messageId"]
    assert without_stamps(first, "originalTimestamp", "messageId") == TRACK | {"type": "track"} | fields


@pytest.mark.parametrize("fields", [
    {"action": "click"}, {"action": "page"}, {"action": 5}, {"requestId": "r"}, {"action": "track", "requestId": "r"},
    {"from": "a"}, {"to": "b"}, {"from": {"a": 1}, "to": [2]}, {"secret": "hush"},
    {"action": "track", "requestId": "r", "from": "a", "to": "b", "secret": "hush"},
])  # fmt: skip
@pytest.mark.parametrize("message_id", [{}, {"messageId": "m"}])
def test_the_old_names_are_unknown_fields_of_a_single_call(post, stored, fields, message_id):
    answer = post("/v1/track", TRACK | fields | message_id)[1]
    (event,) = stored()
    assert without_stamps(event, "originalTimestamp", "messageId", "type") == TRACK | fields
    assert event["messageId"] == answer["messageId"] != "r"
    assert answer["messageId"] == message_id.get("messageId", answer["messageId"])


ALIASES = [
    ({"from": "0", "to": "1"}, {"previousId": "0", "userId": "1"}),
    ({"from": 0, "to": 1.5}, {"previousId": "0", "userId": "1.5"}),
    ({"from": "0", "userId": "1"}, {"previousId": "0", "userId": "1"}),
    ({"previousId": "0", "to": "1"}, {"previousId": "0", "userId": "1"}),
    ({"from": "0", "to": "1", "previousId": None, "userId": ""}, {"previousId": "0", "userId": "1"}),
    ({"from": "0", "to": "1", "previousId": "p", "userId": "u"}, {"from": "0", "to": "1", "previousId": "p", "userId": "u"}),
    ({"from": "0", "to": "1", "previousId": "p"}, {"from": "0", "previousId": "p", "userId": "1"}),
    ({"from": "0", "to": "1", "userId": "u"}, {"to": "1", "previousId": "0", "userId": "u"}),
    ({"from": "0", "to": "1", "userID": "u"}, {"to": "1", "previousId": "0", "userId": "u"}),
    ({"from": {"a": 1}, "to": [], "previousId": "p", "userId": "u"}, {"from": {"a": 1}, "to": [], "previousId": "p", "userId": "u"}),
    ({"from": None, "to": None, "previousId": "p", "userId": "u"}, {"from": None, "to": None, "previousId": "p", "userId": "u"}),
]  # fmt: skip


@pytest.mark.parametrize(("given", "fields"), ALIASES)
def test_from_and_to_count_in_an_alias_that_lacks_their_present_names(post, post_item, stored, query, given, fields):
    assert post("/v1/alias", given)[0] == 200
    assert post_item({"type": "alias"} | given)[0]
    assert post_item({"action": "alias"} | given)[0]
    assert post("/v1/validate", {"type": "alias"} | given)[1]["valid"] is True
    for event in stored():
        assert without_stamps(event, "originalTimestamp", "messageId", "type") == fields
    assert set(query("SELECT user_id FROM events")) == {(fields["userId"],)}


@pytest.mark.parametrize(
    ("given", "errors"),
    [
        ({"from": "0"}, {("userId", "id_required")}),
        ({"to": "1"}, {("previousId", "previous_id_required")}),
        ({"from": " ", "to": ""}, {("userId", "id_required"), ("previousId", "previous_id_required")}),
        ({"from": [0], "to": "1"}, {("previousId", "id_not_string")}),
        ({"from": "0", "to": True}, {("userId", "id_not_string")}),
        ({"from": "a\0b", "to": "1"}, {("previousId", "id_invalid")}),
    ],
)
def test_from_and_to_follow_the_rules_of_their_present_names(post, post_item, given, errors):
    found = [
        post("/v1/alias", given)[1]["errors"],
        post_item({"action": "alias"} | given)[1]["errors"],
        post("/v1/validate", {"type": "alias"} | given)[1]["errors"],
    ]
    assert [{(each["field"], each["code"]) for each in each} for each in found] == [errors] * 3


@pytest.mark.parametrize(
    ("item", "code", "shown"),
    [
        ({"action": "track", "requestId": "r", "event": None}, "event_not_defined", "r"),
        ({"action": "track", "requestId": 7, "event": None}, "event_not_defined", "7"),
        ({"action": "trak", "requestId": "r"}, "unknown_type", "r"),
        ({"action": 5, "requestId": "r"}, "unknown_type", "r"),
        ({"action": None, "requestId": "r"}, "unknown_type", None),
        ({"requestId": "r"}, "unknown_type", None),
        ({"type": "", "action": "track", "requestId": "r"}, "unknown_type", None),
        ({"type": "track", "requestId": "r", "event": None}, "event_not_defined", None),
        ({"action": "track", "requestId": "r", "messageId": "m", "event": None}, "event_not_defined", "m"),
        ({"action": "track", "requestId": ["r"]}, "message_id_not_string", None),
        ({"action": "track", "requestId": True}, "message_id_not_string", None),
        ({"action": "track", "requestId": "r" * 256}, "message_id_too_long", None),
        ({"action": "track", "requestId": "r" * 255, "event": None}, "event_not_defined", "r" * 255),
    ],
)
def test_a_refused_item_shows_the_request_id_where_it_counts(post_item, query, item, code, shown):
    event, rejected = post_item(TRACK | item)
    assert (event, rejected["code"], rejected["messageId"]) == (None, code, shown)
    ((body, kept_code),) = query("SELECT body, code FROM rejected")
    assert (json.loads(body), kept_code) == (TRACK | item, code)


def test_validate_follows_the_same_rules(post):
    good = TRACK | {"action": "track", "requestId": "r"}
    bad = {"action": "track", "requestId": [], "userId": "1"}
    assert post("/v1/validate", {"batch": [good, good | {"type": "track"}]})[1]["valid"] is True
    assert [(each["field"], each["code"]) for each in post("/v1/validate", {"batch": [good, bad]})[1]["errors"]] == [
        ("batch[1].messageId", "message_id_not_string"),
        ("batch[1].event", "event_not_defined"),
    ]


def test_a_replay_follows_the_same_rules(post, runner, stored, tmp_path):
    post("/v1/import", {"batch": [{"action": "track", "requestId": "r", "userId": "1"}, {"from": "0"}]})
    post("/v1/alias", {"from": "9"})
    for id, fixed in enumerate(
        [{"action": "track", "requestId": "r", "userId": "1", "event": "e"}, {"action": "alias", "from": "0", "to": "1"}, {"from": "0", "to": "2"}], 1
    ):  # fmt: skip
        file = tmp_path / "fixed.json"
        file.write_text(json.dumps(fixed))
        result = runner.invoke(args=["rejected", "replay", str(id), "--body", str(file)])
        assert result.exit_code == 0, result.output
    track, item, alias = stored()
    assert (track["type"], track["messageId"]) == ("track", "r")
    assert (item["type"], item["previousId"], item["userId"]) == ("alias", "0", "1")
    assert (alias["previousId"], alias["userId"]) == ("0", "2")
    assert not {"action", "requestId", "from", "to"} & {*track, *item, *alias}


def test_an_import_follows_the_same_rules(runner, stored, query):
    stamps = {"messageId": "m", "timestamp": STORED_WHEN, "receivedAt": STORED_WHEN, "originalTimestamp": WHEN}
    events = [
        {"type": "alias", "from": "0", "to": "1"} | stamps,
        {"type": "track", "userID": "1", "event": "e"} | stamps | {"messageId": "m2"},
        {"type": "track", "userId": "1", "event": "e", "action": "click", "requestId": "r", "from": "0", "to": "1"}
        | stamps | {"messageId": "m3"},
        {"type": "alias", "previousId": "p", "userId": "u", "from": "0", "to": "1"} | stamps | {"messageId": "m4"},
        {"action": "track", "userId": "1", "event": "e"} | stamps | {"messageId": "m5"},
    ]  # fmt: skip
    lines = [json.dumps({"id": id, "source": "example", "event": event}) for id, event in enumerate(events, 1)]
    result = runner.invoke(args=["events", "import", "-"], input="\n".join(lines[:4]))
    assert result.exit_code == 0, result.output
    assert stored() == [
        {"type": "alias", "previousId": "0", "userId": "1"} | stamps,
        {"type": "track", "userId": "1", "event": "e"} | stamps | {"messageId": "m2"},
        *events[2:4],
    ]
    assert query("SELECT user_id FROM events ORDER BY id") == [("1",), ("1",), ("1",), ("u",)]
    assert "unknown_type" in runner.invoke(args=["events", "import", "-"], input=lines[4]).output
