"""Half an emoji, cut by its sender: a lone surrogate, which UTF-8 cannot hold."""

import json

import pytest
from factories import AT

HALF, REPLACED = "\ud83d", "\ufffd"
TRACK = {"type": "track", "userId": "1", "event": "e"}

STORED = {
    "high half": ({"properties": {"text": "a\ud83d"}}, {"properties": {"text": "a\ufffd"}}),
    "low half": ({"properties": {"text": "\ude00b"}}, {"properties": {"text": "\ufffdb"}}),
    "halves in the wrong order": ({"x": "\ude00\ud83d"}, {"x": "\ufffd\ufffd"}),
    "half before a pair": ({"x": "\ud83d\U0001f600"}, {"x": "\ufffd\U0001f600"}),
    "in a list": ({"x": ["é", ["\ud83d"]]}, {"x": ["é", ["\ufffd"]]}),
    "in a field name": ({"na\ud83dme": 1}, {"na\ufffdme": 1}),
    "in a nested name": ({"traits": {"\ud83d": {"\ude00": 1}}}, {"traits": {"\ufffd": {"\ufffd": 1}}}),
    "two names that become one": ({"x": {"\ud83d": 1} | {"\ude00": 2}}, {"x": {"\ufffd": 2}}),
    "in context": ({"context": {"page": {"title": "\ud83d"}}}, {"context": {"page": {"title": "\ufffd"}}}),
    "in event": ({"event": "Added \ud83d"}, {"event": "Added \ufffd"}),
    "beside exact numbers": ({"x": ["\ud83d", 10**30, 1.5e300]}, {"x": ["\ufffd", 10**30, 1.5e300]}),
}


@pytest.mark.parametrize("case", STORED)
@pytest.mark.parametrize("route", ["/v1/track", "/v1/batch"])
def test_half_a_character_is_stored_as_the_replacement(post, stored, query, route, case):
    sent, expected = STORED[case]
    body = TRACK | sent
    assert post(route, body if route == "/v1/track" else {"batch": [body]})[0] == 200
    assert {name: stored()[0][name] for name in expected} == expected
    assert query("SELECT name FROM events") == [(expected.get("event", "e"),)]
    assert query("SELECT count(*) FROM events WHERE json_valid(payload)") == [(1,)]


@pytest.mark.parametrize("name", ["name", "category", "section"])
def test_the_name_of_a_page_may_have_half_a_character(post, stored, query, name):
    assert post("/v1/page", {"userId": "1", name: HALF})[0] == 200
    assert stored()[0][name] == REPLACED
    assert query("SELECT name FROM events") == [(REPLACED if name == "name" else None,)]


def test_the_defaults_of_a_batch_may_have_half_a_character(post, stored):
    context = {"app": {"name": HALF}}
    assert post("/v1/batch", {"context": context, "batch": [TRACK, TRACK]})[1]["stored"] == 2
    assert [event["context"] for event in stored()] == [{"app": {"name": REPLACED}}] * 2


@pytest.mark.parametrize(
    ("route", "name"),
    [
        ("track", "userId"),
        ("track", "userID"),
        ("track", "anonymousId"),
        ("track", "anonymousID"),
        ("track", "messageId"),
        ("group", "groupId"),
        ("group", "groupID"),
        ("alias", "previousId"),
        ("alias", "userId"),
    ],
)
def test_an_id_with_half_a_character_is_rejected(post, query, route, name):
    body = {"userId": "1", "event": "e", "groupId": "1", "previousId": "1"} | {name: f"a{HALF}"}
    if name == "userID":
        del body["userId"]
    if name == "groupID":
        del body["groupId"]
    status, answer = post(f"/v1/{route}", body)
    assert (status, answer["code"]) == (400, "invalid_text")
    assert [error["field"] for error in answer["errors"]] == [name.replace("ID", "Id")]
    assert query("SELECT code FROM rejected") == [("invalid_text",)]


@pytest.mark.parametrize("name", ["requestId", "from", "to"])
def test_an_id_with_an_old_name_and_half_a_character_is_rejected(post, query, name):
    old = {"action": "alias", "requestId": "r", "from": "1", "to": "2"} | {name: HALF}
    status, answer = post("/v1/import", {"batch": [old, TRACK]})
    assert (status, answer["stored"], answer["rejected"][0]["code"]) == (200, 1, "invalid_text")
    assert query("SELECT code FROM rejected") == [("invalid_text",)]


@pytest.mark.parametrize("name", ["requestId", "from", "to", "secret", "action"])
def test_a_field_that_is_no_id_may_have_half_a_character(post, stored, name):
    assert post("/v1/batch", {"batch": [TRACK | {name: HALF}]})[0] == 200
    assert stored()[0][name] == REPLACED


def test_an_import_replaces_half_a_character(stored, query, runner):
    event = TRACK | {"messageId": "m", "timestamp": AT, "receivedAt": AT, "event": HALF, "x": "\u0041\n"}
    lines = [{"id": 1, "source": "example", "event": event}]
    lines += [{"id": 2, "source": "example", "event": event | {"messageId": "n", "event": "\U0001f600"}}]
    text = "\n".join(map(json.dumps, lines)) + "\n"
    assert runner.invoke(args=["events", "import", "-"], input=text).exit_code == 0
    assert [each["event"] for each in stored()] == [REPLACED, "\U0001f600"]
    payloads = [payload for (payload,) in query("SELECT payload FROM events ORDER BY id")]
    assert payloads[1] == json.dumps(lines[1]["event"]), "the text of a valid line is kept"
