"""Every code is provoked over HTTP, and all errors have the same shape."""

import json
import os

import pytest
from factories import AUTHENTICATION, TRACK

import errors


def track(**fields):
    return "/v1/track", json.dumps(TRACK | fields), {}


def page(**fields):
    return "/v1/page", json.dumps({"userId": "1"} | fields), {}


# code -> URL, body and headers that provoke it; headers replace those of the example source
PROVOCATIONS = {
    "missing_write_key": ("/v1/track", json.dumps(TRACK), {"Authentication": None}),
    "invalid_authorization": ("/v1/track", json.dumps(TRACK), {"Authentication": "Basic ???"}),
    "unknown_source": ("/v1/track", json.dumps(TRACK), {"Authentication": "Basic bm9ib2R5"}),
    "invalid_json": ("/v1/track", "{'userId': '1'}", {}),
    "invalid_encoding": ("/v1/track", b"not gzip", {"Content-Encoding": "gzip"}),
    "payload_too_large": ("/v1/track", b" " * (8 * 1024 * 1024 + 1), {}),
    "bad_request": ("/v1/batch", "[]", {}),
    "batch_not_list": ("/v1/batch", '{"batch": {}}', {}),
    "empty_batch": ("/v1/batch", '{"batch": []}', {}),
    "batch_too_long": ("/v1/batch", '{"batch": [' + "1," * 25_000 + "1]}", {}),
    "empty_batch_result": ("/v1/batch", '{"batch": [1]}', {}),
    "event_not_object": ("/v1/track", "[]", {}),
    "event_too_large": track(properties={"text": "x" * 512 * 1024}),
    "too_deep": (
        "/v1/track",
        '{"userId": "1", "event": "e", "properties": ' + '{"a":' * 200 + "1" + "}" * 200 + "}",
        {},
    ),
    "invalid_number": ("/v1/track", '{"userId": "1", "event": "e", "properties": {"size": NaN}}', {}),
    "invalid_text": ("/v1/track", '{"userId": "\\ud800", "event": "e"}', {}),
    "id_required": ("/v1/track", '{"event": "Added File"}', {}),
    "id_not_string": track(userId=True),
    "id_invalid": track(userId="a\0b"),
    "group_id_required": ("/v1/group", '{"userId": "1"}', {}),
    "previous_id_required": ("/v1/alias", '{"userId": "1"}', {}),
    "message_id_not_string": track(messageId=[]),
    "message_id_too_long": track(messageId="x" * 256),
    "unknown_type": track(type="trak"),
    "type_mismatch": track(type="page"),
    "event_not_defined": ("/v1/track", '{"userId": "1"}', {}),
    "event_not_string": track(event=["e"]),
    "properties_not_object": track(properties="x"),
    "traits_not_object": ("/v1/identify", '{"userId": "1", "traits": 1}', {}),
    "context_not_object": track(context=[1]),
    "integrations_not_object": track(integrations=True),
    "name_not_string": page(name=1),
    "category_not_string": page(category=1),
    "section_not_string": page(section=1),
    "timestamp_invalid": track(timestamp="yesterday"),
    "not_found": ("/v1/trak", "{}", {}),
}

# These need more than a body; the tests below provoke them.
OTHERS = {"source_disabled", "method_not_allowed", "internal_error", "storage_unavailable"}


def assert_shape(answer):
    assert answer["success"] is False
    assert isinstance(answer["code"], str)
    assert isinstance(answer["message"], str)
    assert answer["message"]
    for error in answer["errors"]:
        assert set(error) == {"field", "code", "message"}
        assert error["code"] in errors.CODES


def test_every_code_has_a_provocation():
    assert set(PROVOCATIONS) | OTHERS == set(errors.CODES)


@pytest.mark.parametrize("code", PROVOCATIONS)
def test_every_code_is_answered_when_provoked(post, code):
    url, body, headers = PROVOCATIONS[code]
    status, answer = post(url, body, **headers)
    assert (answer["code"], status) == (code, errors.CODES[code][0])
    assert_shape(answer)


@pytest.mark.parametrize("code", [code for code in PROVOCATIONS if errors.CODES[code][0] == 400])
def test_a_rejected_body_of_a_known_source_is_kept_once(post, query, code):
    url, body, headers = PROVOCATIONS[code]
    post(url, body, **headers)
    post(url, body, **headers)
    ((source, route, kept_code, kept, cut, times_seen),) = query(
        "SELECT source, route, code, body, cut, times_seen FROM rejected"
    )
    assert (source, route, times_seen) == ("example", url, 2)
    sent = body if isinstance(body, bytes) else body.encode()
    if code == "empty_batch_result":
        assert (kept_code, kept) == ("event_not_object", b"1")
    elif code in ("payload_too_large", "invalid_encoding"):
        assert (kept_code, kept, cut) == (code, sent[: 64 * 1024], 1)
    else:
        assert (kept_code, kept, cut) == (code, sent, 0)
    assert query("SELECT sum(count) FROM counts WHERE outcome = 'rejected'") == [(2,)]


def test_a_body_of_an_unknown_sender_is_not_kept(post, query):
    for code in ("missing_write_key", "invalid_authorization", "unknown_source"):
        url, body, headers = PROVOCATIONS[code]
        post(url, body, **headers)
    post("/v1/track", "no JSON", Authentication=None)
    assert query("SELECT count(*) FROM rejected") == [(0,)]


def test_bodies_of_a_disabled_source_are_kept_unparsed(post, log, query):
    log.sources.set_enabled("example", False)
    status, answer = post("/v1/track", "no JSON")
    assert (status, answer["code"]) == (401, "source_disabled")
    assert query("SELECT code, body FROM rejected") == [("source_disabled", b"no JSON")]


def test_a_wrong_method_is_answered_with_the_allowed_ones(client):
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        response = client.open("/v1/track", method=method)
        assert (response.status_code, response.json["code"]) == (405, "method_not_allowed")
        assert response.headers["Allow"] == "OPTIONS, POST"


def test_an_internal_error_is_answered_in_json(app, post, monkeypatch):
    monkeypatch.setattr("routes.track.accept", lambda schema: 1 / 0)
    status, answer = post("/v1/track", TRACK)
    assert (status, answer["code"]) == (500, "internal_error")
    assert_shape(answer)


def test_a_missing_log_is_answered_with_503_and_retry_after(client, path):
    os.rename(path, path + ".away")
    response = client.post("/v1/track", json=TRACK, headers=AUTHENTICATION)
    assert (response.status_code, response.json["code"]) == (503, "storage_unavailable")
    assert int(response.headers["Retry-After"]) > 0


def test_a_rejection_that_cannot_be_stored_is_answered_503(client, path, post):
    assert post("/v1/track", TRACK)[0] == 200  # the source is known from now on
    os.rename(path, path + ".away")
    status, answer = post("/v1/track", "no JSON")
    assert (status, answer["code"]) == (503, "storage_unavailable")


def test_no_path_is_redirected(client):
    for path in ("/v1//track", "//v1/track", "/v1/track//", "/V1/track", "/", "/v1"):
        response = client.post(path, data="{}")
        assert (response.status_code, response.json["code"]) == (404, "not_found")


def test_every_broken_field_is_reported(post):
    broken = {"type": "page", "event": True, "properties": "x", "timestamp": "now", "messageId": "x" * 256}
    _, answer = post("/v1/track", broken)
    assert {(error["field"], error["code"]) for error in answer["errors"]} == {
        ("type", "type_mismatch"),
        ("event", "event_not_string"),
        ("properties", "properties_not_object"),
        ("timestamp", "timestamp_invalid"),
        ("messageId", "message_id_too_long"),
        ("userId", "id_required"),
    }
    assert answer["code"] == answer["errors"][0]["code"]


def test_an_invalid_value_is_reported_with_its_path(post):
    body = '{"userId": "1", "event": "e", "properties": {"list": [1, {"size": 1e400}], "te\\ud800xt": NaN}}'
    _, answer = post("/v1/track", body)
    assert {(error["field"], error["code"]) for error in answer["errors"]} == {
        ("properties.list[1].size", "invalid_number"),
        ("properties.te\ud800xt", "invalid_number"),
    }


def test_no_error_has_a_status_that_makes_a_client_drop_or_repeat_its_event():
    """Some clients resend a 413 at once, and some drop an event at 410, 422, 460, 501 or 505."""
    assert {status for status, _ in errors.CODES.values()} == {400, 401, 404, 405, 500, 503}
