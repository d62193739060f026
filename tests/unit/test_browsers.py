"""Browsers and mail programs get CORS, pictures and beacons, and leave their address."""

import base64
import json
import os

import pytest
from factories import AUTHENTICATION

from app import create_app
from config import Config
from routes.pixel import TRANSPARENT_GIF

PAGE = {"userId": "1", "name": "Home"}
ORIGIN = {"Origin": "https://shop.example"}


def encoded(value):
    return base64.b64encode(json.dumps(value).encode()).decode()


@pytest.fixture
def client_with(path):
    """Return a function that makes a client of an application with other settings."""
    return lambda **settings: create_app(Config(database=path, **settings)).test_client()


# CORS


def test_a_preflight_is_allowed_on_every_route_without_a_key(app, client):
    routes = [rule.rule for rule in app.url_map.iter_rules() if rule.rule.startswith(("/v1/", "/beacon/"))]
    assert len(routes) > 30
    for route in routes:
        asked = ORIGIN | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-a"}
        response = client.options(route.replace("<type>", "page"), headers=asked)
        assert (response.status_code, response.data) == (204, b"")
        for name, value in {
            "Access-Control-Allow-Origin": "https://shop.example",
            "Access-Control-Allow-Credentials": "true",
            "Access-Control-Allow-Methods": "POST, GET, OPTIONS",
            "Access-Control-Allow-Headers": "content-type,x-a",
            "Access-Control-Max-Age": "86400",
            "Vary": "Origin",
        }.items():
            assert response.headers[name] == value


@pytest.mark.parametrize(
    ("url", "headers", "status"),
    [
        ("/v1/page", AUTHENTICATION, 200),
        ("/v1/page", {}, 401),
        ("/v1/track", AUTHENTICATION, 400),
        ("/v1/nothing", {}, 404),
        ("/v1/m", {}, 200),
    ],
)
def test_a_page_may_read_every_answer(client, log, url, headers, status):
    response = client.post(url, data=json.dumps(PAGE), headers=headers | ORIGIN)
    assert response.status_code == status
    assert response.headers["Access-Control-Allow-Origin"] == "https://shop.example"
    assert response.headers["Access-Control-Expose-Headers"] == "Retry-After"
    assert response.headers["Vary"] == "Origin"
    assert len(response.headers.getlist("Content-Length")) == 1


def test_only_a_page_gets_cors_headers(client, log):
    response = client.post("/v1/page", data=json.dumps(PAGE), headers=AUTHENTICATION)
    assert not [name for name, _ in response.headers if name.startswith("Access-Control") or name == "Vary"]
    assert "Access-Control-Allow-Origin" not in client.get("/healthz", headers=ORIGIN).headers


def test_only_the_origins_of_the_setting_are_allowed(client_with, log):
    client = client_with(allowed_origins="https://a.example https://b.example")
    for origin, allowed in (("https://b.example", "https://b.example"), ("https://c.example", None)):
        response = client.options("/v1/page", headers={"Origin": origin})
        assert response.headers.get("Access-Control-Allow-Origin") == allowed
        assert response.headers["Vary"] == "Origin"


# Beacons and their metrics


def test_a_beacon_names_its_source_in_the_query(client, log, stored):
    batch = json.dumps({"batch": [PAGE | {"type": "page"}]})
    response = client.post("/beacon/v1/batch?writeKey=ILoveData123", data=batch, content_type="text/plain")
    assert (response.status_code, response.json["stored"]) == (200, 1)
    assert client.post("/beacon/v1/batch?writeKey=nobody", data=batch).json["code"] == "unknown_source"
    assert "ILoveData123" not in json.dumps(stored())


def test_metrics_of_browser_libraries_are_not_stored(client, query):
    for path in ("/v1/m", "/v1/m/"):
        response = client.post(path, data=b'{"series": [{"type": "Counter"}]}')
        assert (response.status_code, response.json) == (200, {"success": True})
    assert query("SELECT count(*) FROM events") == query("SELECT count(*) FROM rejected") == [(0,)]


# The pixel


def get_pixel(client, path, status, headers=None):
    response = client.get(path, headers=headers or {})
    assert (response.status_code, response.data) == (status, TRANSPARENT_GIF)
    assert response.content_type == "image/gif"
    assert response.headers["Cache-Control"] == "no-store"
    assert len(response.headers.getlist("Content-Length")) == 1
    return response


DATA = encoded({"writeKey": "ILoveData123", "userId": "1", "event": "Opened", "properties": {"subject": "a>b?c ü"}})


@pytest.mark.parametrize(
    "fields",
    [
        f"data={DATA}",
        f"data={DATA.rstrip('=')}",
        f"data={DATA.replace('+', '-').replace('/', '_')}",
        f"data={DATA.replace('+', '%2B').replace('=', '%3D')}",
        f"writeKey=ILoveData123&data={encoded({'userId': '1', 'event': 'Opened', 'properties': {'subject': 'a>b?c ü'}})}",
        "writeKey=ILoveData123&userId=1&event=Opened&properties.subject=a%3Eb?c+%C3%BC",
    ],
)
def test_a_pixel_is_an_event_in_the_query(client, log, stored, fields):
    get_pixel(client, f"/v1/pixel/track?{fields}", 200)
    (event,) = stored()
    assert (event["type"], event["userId"], event["event"]) == ("track", "1", "Opened")
    assert event["properties"] == {"subject": "a>b?c ü"}
    assert "ILoveData123" not in json.dumps(event)


@pytest.mark.parametrize("type", ["identify", "track", "Page", "screen", "group", "alias"])
def test_every_call_has_a_pixel(client, log, stored, type):
    fields = "userId=1&event=e&groupId=2&previousId=3&traits.name=n&properties.a.b=c"
    get_pixel(client, f"/v1/pixel/{type}?writeKey=ILoveData123&{fields}", 200)
    (event,) = stored()
    assert event["type"] == type.lower()
    assert event["properties"] == {"a": {"b": "c"}}


@pytest.mark.parametrize(
    ("url", "status", "code"),
    [
        ("track?writeKey=ILoveData123&userId=1", 400, "event_not_defined"),
        ("trak?writeKey=ILoveData123&userId=1", 400, "unknown_type"),
        ("track?writeKey=ILoveData123&data=!", 400, "invalid_encoding"),
        ("track?writeKey=ILoveData123&data=e30x", 400, "invalid_json"),
        ("track?writeKey=ILoveData123&userId=1&event=e&" + ".".join("a" * 2000) + "=1", 400, "too_deep"),
        ("track?userId=1&event=e", 401, None),
        ("track?writeKey=&userId=1&event=e", 401, None),
        ("track?data=!", 400, None),
    ],
)
def test_a_rejected_pixel_has_an_error_status_and_is_kept(client, log, query, url, status, code):
    get_pixel(client, f"/v1/pixel/{url}", status)
    assert query("SELECT code FROM rejected") == ([(code,)] if code else [])
    assert not query("SELECT * FROM rejected WHERE instr(body, 'ILoveData123')")


def test_a_pixel_of_a_missing_log_says_when_to_retry(client, log, path):
    os.rename(path, path + ".away")
    response = get_pixel(client, "/v1/pixel/track?userId=1&event=e", 503, headers=AUTHENTICATION)
    assert int(response.headers["Retry-After"]) > 0


def test_a_head_request_for_a_pixel_stores_nothing(client, log, stored):
    response = client.head("/v1/pixel/page?writeKey=ILoveData123&userId=1")
    assert (response.status_code, response.headers["Allow"]) == (405, "GET, OPTIONS")
    assert stored() == []


# context.ip


@pytest.mark.parametrize(
    ("headers", "context", "stored_context"),
    [
        (ORIGIN, None, {"ip": "127.0.0.1"}),
        (ORIGIN, {"ip": "10.0.0.1"}, {"ip": "10.0.0.1"}),
        (ORIGIN, {"ip": None, "a": 1}, {"ip": "127.0.0.1", "a": 1}),
        ({}, {"direct": True}, {"direct": True, "ip": "127.0.0.1"}),
        ({}, {"direct": "yes"}, {"direct": "yes"}),
        ({}, None, None),
    ],
)
def test_the_address_of_a_users_own_device_is_stored(post, stored, headers, context, stored_context):
    post("/v1/page", PAGE | {"context": context}, **headers)
    post("/v1/batch", {"context": context, "batch": [PAGE | {"type": "page"}]}, **headers)
    assert [event.get("context") for event in stored()] == [stored_context] * 2


@pytest.mark.parametrize(
    ("proxies", "forwarded", "seen"),
    [
        (0, "1.1.1.1", "127.0.0.1"),
        (1, "1.1.1.1, 2.2.2.2", "2.2.2.2"),
        (2, "1.1.1.1, 2.2.2.2,3.3.3.3", "2.2.2.2"),
        (2, "1.1.1.1", "127.0.0.1"),
        (1, "2001:db8::1", "2001:db8::1"),
        (1, "::ffff:1.2.3.4", "1.2.3.4"),
        (1, "1.1.1.1, 2.2.2.2:5678", "2.2.2.2"),
        (1, '1.1.1.1,"2.2.2.2"', "2.2.2.2"),
        (1, '1.1.1.1, "2.2.2.2:5678" ', "2.2.2.2"),
        (1, "[2001:db8::1]", "2001:db8::1"),
        (1, "[2001:db8::1]:5678", "2001:db8::1"),
        (1, '"[2001:db8::1]"', "2001:db8::1"),
        (1, '"[2001:DB8::1]:5678"', "2001:db8::1"),
        (1, "[::ffff:1.2.3.4]:5678", "1.2.3.4"),
        (2, '"[2001:db8::1]:5678", 3.3.3.3:1, 4.4.4.4', "3.3.3.3"),
        (1, "2001:db8::1:5678", "2001:db8::1:5678"),
        (1, "unknown", None),
        (1, "[unknown]:1", None),
        (1, '""', None),
        (1, "[", None),
        (1, ":", None),
        (1, None, None),
    ],
)
def test_the_address_is_seen_through_trusted_proxies_only(client_with, log, stored, proxies, forwarded, seen):
    headers = AUTHENTICATION | ORIGIN | ({"X-Forwarded-For": forwarded} if forwarded else {})
    address = "127.0.0.1" if forwarded else ""  # as on a unix socket
    client = client_with(trusted_proxies=proxies)
    client.post("/v1/page", data=json.dumps(PAGE), headers=headers, environ_overrides={"REMOTE_ADDR": address})
    assert stored()[0].get("context") == ({"ip": seen} if seen else None)


@pytest.mark.parametrize(
    ("policy", "address", "kept"),
    [
        ("keep", "203.0.113.77", "203.0.113.77"),
        ("truncate", "203.0.113.77", "203.0.113.0"),
        ("truncate", "2001:db8:1:2:3::4", "2001:db8:1::"),
        ("truncate", "::ffff:203.0.113.77", "203.0.113.0"),
        ("drop", "203.0.113.77", None),
    ],
)
def test_the_policy_says_how_much_of_an_address_is_stored(client_with, log, stored, policy, address, kept):
    client = client_with(ip_policy=policy)
    client.post(
        "/v1/page", data=json.dumps(PAGE), headers=AUTHENTICATION | ORIGIN, environ_overrides={"REMOTE_ADDR": address}
    )
    assert stored()[0].get("context") == ({"ip": kept} if kept else None)
