"""JSON that its sender wrapped: gzip without a label, and forms with the JSON in a field `data`."""

import base64
import gzip
import json
from urllib.parse import quote, quote_plus, urlencode

import pytest
from factories import TRACK

FORM = "application/x-www-form-urlencoded"
EVENT = TRACK | {"properties": {"text": "a+b c&d=e%20é~~~???", "emoji": "\U0001f418"}}
JSON = json.dumps(EVENT, ensure_ascii=False)
BASE64 = base64.b64encode(JSON.encode()).decode()
URL_SAFE = base64.urlsafe_b64encode(JSON.encode()).decode()

# body, Content-Type
FORMS = {
    "JSON": ("data=" + quote(JSON, safe=""), FORM),
    "JSON with spaces as +": ("data=" + quote_plus(JSON), FORM),
    "JSON after spaces": ("data=%20%0a" + quote(JSON, safe=""), FORM),
    "JSON, not labelled": ("data=" + quote(JSON, safe=""), "text/plain"),
    "JSON, no label at all": ("data=" + quote(JSON, safe=""), None),
    "label with a charset": ("data=" + quote(JSON, safe=""), FORM + "; charset=UTF-8"),
    "label in capitals": ("v=1&data=" + quote(JSON, safe=""), FORM.upper()),
    "field after others": ("v=1&data=" + quote(JSON, safe=""), FORM),
    "field before others": ("data=" + quote(JSON, safe="") + "&v=1&ip=1", FORM),
    "JSON after a byte order mark": ("data=" + quote("\ufeff" + JSON, safe=""), FORM),
    "base64": ("data=" + quote(BASE64, safe=""), FORM),
    "base64, not percent-encoded": ("data=" + BASE64, FORM),
    "base64 with spaces for +": ("data=" + BASE64.replace("+", " "), FORM),
    "base64 without padding": ("data=" + BASE64.rstrip("="), FORM),
    "base64 in lines": ("data=" + quote(base64.encodebytes(JSON.encode()), safe=""), FORM),
    "base64, URL-safe": ("data=" + URL_SAFE, FORM),
    "base64, not labelled": ("data=" + BASE64, "application/json"),
    "JSON itself, labelled as a form": (JSON, FORM),
    "JSON itself after blanks": (" \r\n\t" + JSON, FORM),
    "JSON itself after a byte order mark": ("\ufeff" + JSON, FORM),
    "JSON itself with &data= in it": (json.dumps(EVENT | {"x": "&data=1"}), FORM),
}


@pytest.mark.parametrize("case", FORMS)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_a_form_with_an_event_in_data_is_stored(post, stored, case, packed):
    body, content_type = FORMS[case]
    body = gzip.compress(body.encode(), mtime=0) if packed else body.encode()
    assert post("/v1/track", body, Content_Type=content_type)[0] == 200
    (event,) = stored()
    assert {name: event[name] for name in EVENT} == EVENT


@pytest.mark.parametrize("value", [JSON, BASE64], ids=["JSON", "base64"])
def test_a_form_with_a_batch_in_data_is_stored(post, stored, value):
    batch = json.dumps({"batch": [EVENT | {"type": "track"}] * 2})
    value = batch if value == JSON else base64.b64encode(batch.encode()).decode()
    assert post("/v1/batch", urlencode({"data": value}), Content_Type=FORM)[1]["stored"] == 2
    assert [event["properties"] for event in stored()] == [EVENT["properties"]] * 2


def test_a_form_names_its_source_in_its_json(client, stored):
    body = urlencode({"data": json.dumps(EVENT | {"writeKey": "ILoveData123"})})
    assert client.post("/v1/track", data=body, content_type=FORM).status_code == 200
    assert "writeKey" not in stored()[0]


REJECTED_FORMS = {
    "neither JSON nor base64": ("data=%7Buser", "invalid_json"),
    "single quotes": ("data=" + quote("{'userId': '1'}"), "invalid_json"),
    "no base64": ("data=*", "invalid_encoding"),
    "a JSON list": ("data=" + quote(f"[{JSON}]"), "invalid_encoding"),
    "percent signs alone": ("data=%%%2%zz%" + "%" * 40_000, "invalid_encoding"),
    "base64 of no JSON": ("data=" + base64.b64encode(b"hello").decode(), "invalid_json"),
    "base64 of no UTF-8": ("data=" + base64.b64encode(b'{"\xff": 1}').decode(), "invalid_json"),
    "one digit of base64": ("data=A", "invalid_encoding"),
    "no value": ("data=", "invalid_json"),
    "an invalid event": (urlencode({"data": '{"userId": "1"}'}), "event_not_defined"),
    "base64 of an invalid event": (urlencode({"data": base64.b64encode(b'{"userId": "1"}')}), "event_not_defined"),
    "after another field": ("v=1&data=" + quote('{"userId": "1"}'), "event_not_defined"),
}


@pytest.mark.parametrize("case", REJECTED_FORMS)
def test_a_rejected_form_is_kept_as_sent_and_replayed_alike(post, query, runner, case):
    body, code = REJECTED_FORMS[case]
    status, answer = post("/v1/track", body, Content_Type=FORM)
    assert (status, answer["code"]) == (400, code)
    assert query("SELECT code, CAST(body AS TEXT) FROM rejected") == [(code, body)]
    result = runner.invoke(args=["rejected", "replay", "1"])
    assert result.exit_code == 1
    assert answer["message"] in result.output


def test_a_form_of_a_disabled_source_is_replayed(post, log, stored, runner):
    log.sources.set_enabled("example", False)
    assert post("/v1/track", urlencode({"v": 1, "data": BASE64}), Content_Type=FORM)[0] == 401
    log.sources.set_enabled("example", True)
    assert runner.invoke(args=["rejected", "replay", "1"]).exit_code == 0
    assert stored()[0]["properties"] == EVENT["properties"]


@pytest.mark.parametrize(
    ("body", "content_type", "advice"),
    [
        ("userId=1&event=e", FORM, "a form; send JSON, or a form with the JSON in a field named data"),
        ("userId=1", "text/plain", "a form"),
        ("properties[x]=1&userId=2", FORM, "a form"),
        ("user%49d=1", None, "a form"),
        (quote(JSON, safe=""), FORM, "a form"),
        ("json=" + quote(JSON), FORM, "a form"),
        ('--x\r\nContent-Disposition: form-data; name="data"\r\n\r\n{}\r\n--x--\r\n', "multipart/form-data; boundary=x", "multipart"),
    ],
)  # fmt: skip
def test_another_form_is_rejected_with_advice(post, body, content_type, advice):
    status, answer = post("/v1/track", body, Content_Type=content_type)
    assert (status, answer["code"]) == (400, "invalid_json")
    assert advice in answer["message"]


def test_the_examples_have_every_digit_of_base64_that_a_form_changes():
    assert {"+", "/", "="} <= set(BASE64)


def test_the_limits_hold_for_what_a_form_holds(post):
    brackets = "[" * 500_001
    assert post("/v1/track", "data=" + quote('{"x": ' + brackets))[1]["code"] == "payload_too_large"
    large = base64.b64encode(json.dumps(EVENT | {"x": "y" * 600_000}).encode()).decode()
    assert post("/v1/track", "data=" + large)[1]["code"] == "event_too_large"
    assert post("/v1/track", "data=" + "%20" * 3_000_000)[1]["code"] == "payload_too_large"


ZIPPED = gzip.compress(JSON.encode(), mtime=0)


@pytest.mark.parametrize("encoding", [None, "", "identity", "gzip", "deflate", "utf-8", "gzip, gzip", "br"])
@pytest.mark.parametrize("content_type", [None, "application/json", FORM])
def test_gzip_is_inflated_whatever_its_label(post, stored, encoding, content_type):
    assert post("/v1/track", ZIPPED, Content_Encoding=encoding, Content_Type=content_type)[0] == 200
    assert stored()[0]["properties"] == EVENT["properties"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (ZIPPED[:-8], "invalid_encoding"),
        (ZIPPED * 2, "invalid_encoding"),
        (ZIPPED[:10], "invalid_encoding"),
        (b"\x1f\x8b", "invalid_encoding"),
        (b"\x1f", "invalid_json"),
        (gzip.compress(ZIPPED, mtime=0), "invalid_json"),
        (gzip.compress(b" " * 9_000_000, mtime=0), "payload_too_large"),
    ],
    ids=["cut", "two members", "only its header", "only its magic bytes", "half of them", "twice", "bomb"],
)
def test_gzip_without_a_label_is_held_to_the_same_rules(post, query, body, code):
    assert post("/v1/track", body)[1]["code"] == code
    assert query("SELECT code FROM rejected") == [(code,)]


@pytest.mark.parametrize("route", ["identify", "track", "page", "screen", "group", "alias", "t"])
def test_a_batch_on_the_route_of_a_call_is_sent_to_the_right_one(post, query, route):
    status, answer = post(f"/v1/{route}", {"batch": [EVENT | {"type": "track"}]})
    assert (status, answer["code"]) == (400, "bad_request")
    assert "/v1/batch" in answer["message"]
    assert query("SELECT count(*) FROM rejected") == [(1,)]


def test_a_list_on_the_route_of_a_call_is_sent_to_the_right_one(post):
    status, answer = post("/v1/track", [EVENT])
    assert (status, answer["code"]) == (400, "event_not_object")
    assert "/v1/batch" in answer["message"]


@pytest.mark.parametrize(
    ("body", "code", "route"),
    [
        (EVENT | {"type": "track"}, "batch_not_list", "/v1/track"),
        (EVENT, "batch_not_list", "/v1/track"),
        ({"userId": "1", "traits": {}, "type": "Identify"}, "batch_not_list", "/v1/identify"),
        ({"userId": "1"}, "batch_not_list", "/v1/identify"),
        ({"userId": "1", "groupId": "2"}, "batch_not_list", "/v1/group"),
        ({"userId": "1", "previousId": "2"}, "batch_not_list", "/v1/alias"),
        ({"userId": "1", "name": "Home"}, "batch_not_list", "/v1/page"),
        ([EVENT], "bad_request", "batch"),
    ],
)
def test_a_call_on_the_route_of_a_batch_is_sent_to_the_right_one(post, body, code, route):
    for url in ("/v1/batch", "/v1/import"):
        status, answer = post(url, body)
        assert (status, answer["code"]) == (400, code)
        assert route in answer["message"]


def test_an_event_with_a_field_batch_is_an_event(post, stored):
    assert post("/v1/track", EVENT | {"batch": [1]})[0] == 200
    assert stored()[0]["batch"] == [1]
