"""What legacy senders post, direct and through the shipped nginx: each row is stored or rejected as documented."""

import base64
import gzip
import http.client
import json
import uuid
from urllib.parse import quote, quote_plus

import pytest
from nginx import Nginx
from service import AUTHENTICATION, Service

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = '{"userId": "1", "event": "Added File", "properties": {"text": "a+b&c=é"}}'
BASE64 = base64.b64encode(JSON.encode()).decode()
BATCH = '{"batch": [{"type": "track", "userId": "1", "event": "e"}]}'
TRACK = {"userId": "1", "event": "e"}


def at(time):
    return json.dumps(TRACK | {"timestamp": time})


# path, body, headers; then the fields that are stored, or the code
ROWS = {
    "gzip without its label": ("/v1/track", gzip.compress(JSON.encode(), mtime=0), {}, {"event": "Added File"}),
    "form with JSON": ("/v1/track", "data=" + quote_plus(JSON), FORM, json.loads(JSON)),
    "form with base64": ("/v1/track", "data=" + quote(BASE64), FORM, json.loads(JSON)),
    "form after another field": ("/v1/track", "v=1&data=" + quote(JSON), FORM, json.loads(JSON)),
    "form without its label": ("/v1/track", "data=" + BASE64, {}, json.loads(JSON)),
    "JSON labelled as a form": ("/v1/track", JSON, FORM, json.loads(JSON)),
    "form with a batch": ("/v1/batch", "data=" + quote(BATCH), FORM, {"event": "e"}),
    "form without data": ("/v1/track", "userId=1&event=e", FORM, "invalid_json"),
    "multipart": ("/v1/track", "--x\r\n\r\n{}\r\n--x--", {"Content-Type": "multipart/form-data"}, "invalid_json"),
    "batch on the route of a call": ("/v1/track", BATCH, {}, "bad_request"),
    "call on the route of a batch": ("/v1/batch", JSON, {}, "batch_not_list"),
    "half an emoji": ("/v1/track", r'{"userId": "1", "event": "\ud83d"}', {}, {"event": "\ufffd"}),
    "half an emoji in a name": ("/v1/track", r'{"userId": "1", "event": "e", "\ud83d": 1}', {}, {"\ufffd": 1}),
    "half an emoji in an id": ("/v1/track", r'{"userId": "\ud83d", "event": "e"}', {}, "invalid_text"),
    "number as event": ("/v1/track", '{"userId": "1", "event": 404}', {}, {"event": "404"}),
    "basic form": ("/v1/track", at("20151110T004523Z"), {}, {"timestamp": "2015-11-10T00:45:23.000Z"}),
    "14 digits": ("/v1/track", at("20151110004523"), {}, {"timestamp": "2015-11-10T00:45:23.000Z"}),
    "8 digits": ("/v1/track", at("20151110"), {}, {"timestamp": "2015-11-10T00:00:00.000Z"}),
    "space before the offset": ("/v1/track", at("2015-11-10 00:45:23 -0100"), {}, {"timestamp": "2015-11-10T01:45:23.000Z"}),
    "zone in brackets": ("/v1/track", at("2015-11-10T01:45:23+01:00[Europe/Paris]"), {}, {"timestamp": "2015-11-10T00:45:23.000Z"}),
    "HTTP date": ("/v1/track", at("Tue, 10 Nov 2015 00:45:23 GMT"), {}, {"timestamp": "2015-11-10T00:45:23.000Z"}),
    "second 60": ("/v1/track", at("2016-12-31T23:59:60Z"), {}, {"timestamp": "2017-01-01T00:00:00.000Z"}),
    "hour 24": ("/v1/track", at("2015-11-09T24:00:00Z"), {}, {"timestamp": "2015-11-10T00:00:00.000Z"}),
    "microseconds": ("/v1/track", at(1447116323412345), {}, {"timestamp": "2015-11-10T00:45:23.412Z"}),
    "nanoseconds": ("/v1/track", at("1447116323412345678"), {}, {"timestamp": "2015-11-10T00:45:23.412Z"}),
    "spaces around a time": ("/v1/track", at(" 2015-11-10 "), {}, {"timestamp": "2015-11-10T00:00:00.000Z"}),
    "no time": ("/v1/track", at("yesterday"), {}, "timestamp_invalid"),
}  # fmt: skip


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("legacy")
    with Service(folder).with_source() as service:
        service.environment["TRACKLOG_TRUSTED_PROXIES"] = "1"
        service.start()
        nginx = Nginx(folder, f"127.0.0.1:{service.port}")
        service.ports = {"direct": service.port, "nginx": nginx.port}
        yield service
        nginx.stop()


def post(port, path, body, headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", path, body if isinstance(body, bytes) else body.encode(), AUTHENTICATION | headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


@pytest.mark.parametrize("way", ["direct", "nginx"])
@pytest.mark.parametrize("case", ROWS)
def test_a_legacy_body_is_stored_or_rejected_as_documented(service, way, case):
    path, body, headers, expected = ROWS[case]
    (newest,) = service.query("SELECT coalesce(max(id), 0) FROM events")[0]
    status, answer = post(service.ports[way], path, body, headers)
    events = service.query("SELECT payload FROM events WHERE id > ?", newest)
    if isinstance(expected, str):
        assert (status, answer["code"], events) == (400, expected, [])
    else:
        assert status == 200
        ((payload,),) = events
        event = json.loads(payload)
        assert {name: event[name] for name in expected} == expected


@pytest.mark.parametrize("way", ["direct", "nginx"])
def test_a_bearer_token_leads_to_the_next_place_with_a_key(service, way):
    message_id = str(uuid.uuid4())
    headers = {"Authorization": "Bearer x", "Authentication": AUTHENTICATION["Authentication"]}
    body = json.dumps(TRACK | {"messageId": message_id})
    assert post(service.ports[way], "/v1/track?writeKey=nobody", body, headers)[0] == 200
    assert message_id in service.message_ids()
