"""GET /v1/projects/{SOURCE_ID}/settings tells a client library where to send."""

import json
import os
from urllib.parse import quote

import pytest

from app import create_app
from config import Config

SOURCE_ID = "ILoveData123"
URL = f"/v1/projects/{SOURCE_ID}/settings"


def expected(host="localhost", key=SOURCE_ID, **more):
    return {"integrations": {"Segment.io": {"apiKey": key, "apiHost": f"{host}/v1", **more}}}


@pytest.fixture
def noticed(monkeypatch):
    """Let the service notice every change of a source at once."""
    monkeypatch.setattr("eventlog.sources.CACHE_SECONDS", -1)


@pytest.fixture
def get(client):
    """Return a function that fetches the settings, and checks what all answers have in common."""

    def get(url=URL, client=client, **options):
        response = client.get(url, **options)
        assert response.headers["Cache-Control"] == "no-store"
        assert response.content_type == "application/json"
        return response

    return get


def test_the_answer_is_what_the_contract_says(get):
    response = get()
    assert (response.status_code, response.json) == (200, expected(protocol="http"))


def test_nothing_is_stored(get, query):
    get()
    assert query("SELECT count(*) FROM events") == query("SELECT count(*) FROM counts") == [(0,)]


def test_a_trailing_slash_makes_no_difference(get):
    assert get(URL + "/").json == get().json


@pytest.mark.parametrize("key", ["a/b", "a+b/c==", "ü", "a b", "a?b#c", "%41", "settings", "😀"])
def test_any_key_can_be_in_the_path(get, log, key):
    log.sources.add("other", key)
    assert get(f"/v1/projects/{quote(key, safe='')}/settings").json == expected(key=key, protocol="http")


def test_both_keys_of_a_source_get_themselves(get, log):
    log.sources.add_key("example", "second")
    assert get("/v1/projects/second/settings").json == expected(key="second", protocol="http")
    assert get().json == expected(protocol="http")


@pytest.mark.parametrize(
    "key", ["nobody", "iLoveData123", "ILoveData123:", " ILoveData123", "%00", "%ff", "%ed%a0%80", "..", "x" * 8000]
)
def test_an_unknown_key_is_not_found(get, key):
    response = get(f"/v1/projects/{key}/settings")
    assert (response.status_code, response.json["code"]) == (404, "not_found")
    assert response.json["errors"] == []


def test_a_disabled_source_is_not_found(get, log, noticed):
    log.sources.set_enabled("example", False)
    assert get().status_code == 404
    log.sources.set_enabled("example", True)
    assert get().status_code == 200


def test_a_retired_key_is_not_found(get, log, noticed):
    log.sources.add_key("example", "second")
    log.sources.retire_key("example", SOURCE_ID)
    assert get().status_code == 404
    assert get("/v1/projects/second/settings").status_code == 200


def test_a_removed_source_is_not_found(get, log, noticed):
    assert get().status_code == 200
    log.sources.remove("example")
    assert get().status_code == 404


def test_a_log_that_cannot_be_read_is_unavailable(get, path):
    os.rename(path, path + ".away")
    response = get()
    assert (response.status_code, response.json["code"]) == (503, "storage_unavailable")
    assert response.headers["Retry-After"]


def test_a_source_found_before_is_served_while_the_log_is_away(get, path, noticed):
    get()
    os.rename(path, path + ".away")
    assert get().json == expected(protocol="http")
    assert get("/v1/projects/nobody/settings").status_code == 503


@pytest.mark.parametrize("url", ["/v1/projects", "/v1/projects//settings", f"/v1/projects/{SOURCE_ID}", URL + "/x"])
def test_other_paths_are_not_found(client, url):
    assert client.get(url).status_code == 404


def test_a_post_is_answered_with_405(client):
    response = client.post(URL)
    assert (response.status_code, response.json["code"]) == (405, "method_not_allowed")
    assert "GET" in response.headers["Allow"]


# Host


@pytest.mark.parametrize(
    "host",
    [
        "events.example.com",
        "events.example.com:8000",
        "events.example.com:80",
        "events.example.com:443",
        "127.0.0.1:8000",
        "[::1]:8000",
        "EVENTS.example.com",
    ],
)
def test_the_host_is_the_requests_with_its_port(get, host):
    assert get(headers={"Host": host}).json == expected(host, protocol="http")


@pytest.mark.parametrize("host", ['"', "\\", '","x":"', "</script>", "a b", "\xff\xfe", "\x7f", "../", "x" * 8000, "'"])
def test_a_hostile_host_cannot_break_the_json(get, host):
    response = get(environ_overrides={"HTTP_HOST": host})
    answer = json.loads(response.get_data().decode("ascii"))
    assert answer == expected(host, protocol="http")


@pytest.mark.parametrize("absent", [{"HTTP_HOST": ""}, {}])
def test_without_a_host_the_servers_own_address_is_named(app, absent):
    """HTTP/1.0 needs no Host."""
    environ = {
        **{"REQUEST_METHOD": "GET", "PATH_INFO": URL, "wsgi.url_scheme": "http"},
        **{"SERVER_NAME": "10.0.0.1", "SERVER_PORT": "8000", **absent},
    }
    started = []
    body = b"".join(app(environ, lambda status, headers: started.append(status)))
    assert (started, json.loads(body)) == (["200 OK"], expected("10.0.0.1:8000", protocol="http"))


# Scheme


@pytest.fixture
def behind(log, path, get):
    """Return a function that fetches the settings through a number of trusted proxies and tells the protocol."""
    apps = []

    def behind(proxies, forwarded, own="http"):
        apps.append(create_app(Config(database=path, trusted_proxies=proxies)))
        headers = {} if forwarded is None else {"X-Forwarded-Proto": forwarded}
        response = get(client=apps[-1].test_client(), headers=headers, environ_overrides={"wsgi.url_scheme": own})
        return response.json["integrations"]["Segment.io"].get("protocol", "https")

    yield behind
    for app in apps:
        app.extensions["eventlog"].close()


@pytest.mark.parametrize("own", ["http", "https"])
@pytest.mark.parametrize("forwarded", ["https", "http", "https, http", None])
def test_without_trusted_proxies_the_connection_decides(behind, forwarded, own):
    assert behind(0, forwarded, own) == own


@pytest.mark.parametrize(
    ("proxies", "forwarded", "protocol"),
    [
        (1, "https", "https"),
        (1, "http", "http"),
        (1, "HTTPS", "https"),
        (1, " https ", "https"),
        (1, "https, http", "http"),  # the client's own claim, and what nginx says
        (1, "http, https", "https"),
        (1, ", https", "https"),
        (1, None, "http"),
        (1, "", "http"),
        (1, ",", "http"),
        (1, "gopher", "http"),
        (1, '"https"', "http"),
        (2, "https, http", "https"),  # a balancer with TLS in front of an nginx without
        (2, "http,https", "http"),
        (2, "http, https, http", "https"),
        (2, "https", "https"),  # the second one passes on what the first one says
    ],
)
def test_the_outermost_trusted_proxy_tells_the_scheme(behind, proxies, forwarded, protocol):
    assert behind(proxies, forwarded) == protocol


# CORS


def test_a_page_of_any_origin_may_read_it(get):
    response = get(headers={"Origin": "https://example.com"})
    assert response.headers["Access-Control-Allow-Origin"] == "https://example.com"
    assert response.headers["Access-Control-Allow-Credentials"] == "true"
    assert response.headers["Vary"] == "Origin"


@pytest.mark.parametrize("key", ["nobody", "a/b"])
def test_a_page_may_read_that_a_key_is_unknown(get, key):
    response = get(f"/v1/projects/{key}/settings", headers={"Origin": "https://example.com"})
    assert (response.status_code, response.headers["Access-Control-Allow-Origin"]) == (404, "https://example.com")


@pytest.mark.parametrize("key", [SOURCE_ID, "nobody", "a/b"])
def test_a_preflight_needs_no_key(client, key):
    response = client.options(f"/v1/projects/{key}/settings", headers={"Origin": "https://example.com"})
    assert response.status_code == 204
    assert "GET" in response.headers["Access-Control-Allow-Methods"]


def test_only_allowed_origins_may_read_it(log, path):
    app = create_app(Config(database=path, allowed_origins="https://example.com"))
    client = app.test_client()
    origins = [
        client.get(URL, headers={"Origin": origin}).headers.get("Access-Control-Allow-Origin")
        for origin in ("https://example.com", "https://other.example")
    ]
    assert origins == ["https://example.com", None]
    app.extensions["eventlog"].close()
