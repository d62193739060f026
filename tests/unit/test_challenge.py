"""Clients that send their key only when they are asked for it are asked. A browser, which would ask its user, is not."""

import gzip
import json

import pytest

from app import create_app
from config import Config

EVENT = {"userId": "1", "event": "Added File"}
CHALLENGE = 'Basic realm="tracklog"'
WAITING = {
    "nothing": {},
    ".NET": {"Content-Type": "application/json; charset=utf-8", "Expect": "100-continue"},
    "Java": {"User-Agent": "Java/1.8.0_121", "Accept": "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"},
    "wget": {"User-Agent": "Wget/1.21.3", "Accept": "*/*", "Accept-Encoding": "identity"},
    "urllib": {"User-Agent": "Python-urllib/2.7", "Connection": "close"},
    "curl": {"User-Agent": "curl/7.88.1", "Accept": "*/*"},
    "an agent that only mentions Mozilla": {"User-Agent": "Tours/1.0 (like Mozilla/5.0)"},
    "another case": {"User-Agent": "mozilla/5.0"},
    "a cookie": {"Cookie": "a=b"},
    "other fetch metadata": {"Sec-Fetch-Site": "none"},
}
BROWSERS = {
    "a page's fetch": {"Origin": "https://example.com"},
    "a sandboxed page": {"Origin": "null"},
    "an empty origin": {"Origin": ""},
    "fetch metadata": {"Sec-Fetch-Mode": "no-cors"},
    "a form's post": {"Sec-Fetch-Mode": "navigate"},
    "an image": {"Referer": "https://example.com/"},
    "an empty referrer": {"Referer": ""},
    "an old browser": {"User-Agent": "Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1)"},
    "a new browser": {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"},
}


def challenge_of(client, url="/v1/track", body=EVENT, method="POST", **headers):
    """Return the code of a refusal with 401, and its challenge."""
    data = body if isinstance(body, (bytes, str)) else json.dumps(body)
    response = client.open(url, method=method, data=data, headers={"User-Agent": ""} | headers)
    assert response.status_code == 401 or not response.headers.get("WWW-Authenticate")
    return (response.get_json(silent=True) or {}).get("code"), response.headers.get("WWW-Authenticate")


@pytest.mark.parametrize("name", WAITING)
def test_a_client_that_waits_for_a_challenge_gets_one(client, name):
    assert challenge_of(client, **WAITING[name]) == ("missing_write_key", CHALLENGE)


@pytest.mark.parametrize("name", BROWSERS)
def test_no_answer_makes_a_browser_ask_for_a_password(client, name):
    assert challenge_of(client, **BROWSERS[name]) == ("missing_write_key", None)
    assert challenge_of(client, body="{", **BROWSERS[name]) == ("invalid_json", None)
    assert challenge_of(client, body=b" " * 600_000, **BROWSERS[name]) == ("missing_write_key", None)


def test_every_route_that_needs_a_key_challenges(app, client):
    rules = [rule.rule for rule in app.url_map.iter_rules() if "POST" in rule.methods and rule.rule != "/v1/m"]
    assert len(rules) >= 17
    for rule in rules:
        assert challenge_of(client, rule, {"batch": []}) == ("missing_write_key", CHALLENGE), rule
        assert challenge_of(client, rule, "{") == ("missing_write_key", CHALLENGE), rule


def test_neither_a_pixel_nor_a_preflight_challenges(app, client):
    for query in ("", "?userId=1", "?data=!", "?data=e30=", "?writeKey=", "?secret=Nobody"):
        assert challenge_of(client, "/v1/pixel/page" + query, "", "GET")[1] is None
    for rule in app.url_map.iter_rules():
        for method in ("OPTIONS", "GET", "HEAD", "PUT"):
            assert challenge_of(client, rule.rule.replace("<type>", "page"), "", method)[1] is None


@pytest.mark.parametrize(
    ("headers", "body", "code"),
    [
        ({"Authorization": "Basic Tm9ib2R5"}, EVENT, "unknown_source"),
        ({"Authorization": "Basic ???"}, EVENT, "invalid_authorization"),
        ({"Authorization": ""}, EVENT, "invalid_authorization"),
        ({"Authorization": "Bearer x"}, EVENT, "invalid_authorization"),
        ({"Authentication": "Bearer x"}, EVENT, "invalid_authorization"),
        ({"Authentication": "Basic Tm9ib2R5"}, EVENT, "unknown_source"),
        ({}, EVENT | {"writeKey": "Nobody"}, "unknown_source"),
        ({}, EVENT | {"writeKey": ""}, "invalid_authorization"),
        ({}, EVENT | {"secret": "Nobody"}, "unknown_source"),
        ({"Authorization": "Basic T2Zm"}, EVENT, "source_disabled"),
        ({}, EVENT | {"writeKey": "Off"}, "source_disabled"),
    ],
)
def test_a_wrong_key_gets_no_challenge(client, log, headers, body, code):
    """Some clients would send the same key again and again."""
    log.sources.add("off", "Off")
    log.sources.set_enabled("off", False)
    assert challenge_of(client, body=body, **headers) == (code, None)


@pytest.mark.parametrize("url", ["/v1/track?writeKey=Nobody", "/v1/track?writeKey="])
def test_a_wrong_key_in_the_query_gets_no_challenge(client, url):
    assert challenge_of(client, url)[1] is None


UNREADABLE = {
    "no JSON": ({}, b"{'userId': 1}"),
    "nothing": ({}, b""),
    "not UTF-8": ({}, b'{"a": "\xff"}'),
    "no gzip": ({"Content-Encoding": "gzip"}, b"{}"),
    "half of gzip": ({"Content-Encoding": "gzip"}, gzip.compress(b"{}")[:-9]),
    "another encoding": ({"Content-Encoding": "br"}, b"{}"),
    "too many brackets": ({}, b"[" * 500_001),
    "too many members": ({}, json.dumps({str(number): 1 for number in range(1001)}).encode()),
}


@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.parametrize("url", ["/v1/track", "/v1/batch", "/v1/validate"])
def test_a_body_that_cannot_be_read_for_its_key_is_challenged_and_not_kept(client, log, query, name, url):
    headers, body = UNREADABLE[name]
    assert challenge_of(client, url, body, **headers) == ("missing_write_key", CHALLENGE)
    code, challenge = challenge_of(client, url, body, **headers, Origin="https://example.com")
    assert (code in ("invalid_json", "invalid_encoding", "payload_too_large"), challenge) == (True, None)
    assert query("SELECT count(*) FROM rejected") == [(0,)]
    answer = client.post(url, data=body, headers={**headers, "Authorization": "Basic SUxvdmVEYXRhMTIz"})
    assert code in (answer.json.get("code"), *(error["code"] for error in answer.json["errors"]))
    assert query("SELECT count(*) FROM rejected") == [(0 if url == "/v1/validate" else 1,)]


def test_a_body_above_any_limit_is_challenged(path, log):
    """Its sender then sends it with its key, and its beginning is kept."""
    client = create_app(Config(database=path, max_body_bytes=1000)).test_client()
    assert challenge_of(client, body=b" " * 1001) == ("missing_write_key", CHALLENGE)
    client = create_app(Config(database=path)).test_client()
    assert challenge_of(client, body=b" " * (512 * 1024 + 1)) == ("missing_write_key", CHALLENGE)


def test_success_and_other_errors_have_no_challenge(client):
    for url, body in (("/v1/track", {"writeKey": "ILoveData123"}), ("/v1/m", "{"), ("/v1/trak", EVENT)):
        assert "WWW-Authenticate" not in client.post(url, data=json.dumps(body)).headers
