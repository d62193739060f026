"""What SDKs fetch before they send: a real service, the shipped nginx.conf, and a library that knows only its host."""

import http.client
import json
import socket
import ssl

import pytest
from library import Library
from needs import need
from service import SOURCE_ID, wait_until
from test_clients import site  # noqa: F401

URL = f"/v1/projects/{SOURCE_ID}/settings"
WAYS = ["direct", "nginx", "nginx with TLS"]


@pytest.fixture(params=WAYS)
def endpoint(request):
    """Return the URL of a running tracklog."""
    if request.param == "direct":
        return f"http://127.0.0.1:{request.getfixturevalue('running').port}"
    nginx = request.getfixturevalue("nginx")
    return f"https://127.0.0.1:{nginx.tls_port}" if "TLS" in request.param else f"http://127.0.0.1:{nginx.port}"


def fetch(endpoint, path=URL, **headers):
    """Return the status, the headers and the parsed answer."""
    scheme, _, host = endpoint.partition("://")
    context = ssl._create_unverified_context()
    connection = (
        http.client.HTTPSConnection(host, timeout=30, context=context)
        if scheme == "https"
        else http.client.HTTPConnection(host, timeout=30)
    )
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    answer = response.status, response.headers, json.loads(response.read())
    connection.close()
    return answer


def settings(host, scheme, key=SOURCE_ID):
    protocol = {"protocol": "http"} if scheme == "http" else {}
    return {"integrations": {"Segment.io": {"apiKey": key, "apiHost": f"{host}/v1", **protocol}}}


def test_the_answer_names_the_host_that_was_asked_and_its_scheme(endpoint):
    scheme, _, host = endpoint.partition("://")
    status, headers, answer = fetch(endpoint, Origin="https://shop.example")
    assert (status, answer) == (200, settings(host, scheme))
    assert headers.get_all("Cache-Control") == ["no-store"]
    assert headers.get_all("Access-Control-Allow-Origin") == ["https://shop.example"]
    assert fetch(endpoint, Host="events.example.com:4443")[2] == settings("events.example.com:4443", scheme)


@pytest.mark.parametrize("claimed", ["https", "http", "https, https"])
def test_a_client_cannot_claim_another_scheme(endpoint, claimed):
    scheme, _, host = endpoint.partition("://")
    assert fetch(endpoint, **{"X-Forwarded-Proto": claimed})[2] == settings(host, scheme)


@pytest.mark.parametrize("host", ['"', "\\", '","x":"', "a'b", "</script>", "x" * 2000])
def test_a_hostile_host_gets_valid_json(shared, host):
    with socket.create_connection(("127.0.0.1", shared.port), 30) as connection:
        connection.sendall(f"GET {URL} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 200"):
        assert json.loads(body) == settings(host, "http")
    else:
        assert (head[:12], json.loads(body)["code"]) == (b"HTTP/1.1 400", "bad_request")


def test_a_client_without_a_host_gets_an_address(shared):
    with socket.create_connection(("127.0.0.1", shared.port), 30) as connection:
        connection.sendall(f"GET {URL} HTTP/1.0\r\n\r\n".encode())
        body = connection.makefile("rb").read().partition(b"\r\n\r\n")[2]
    assert json.loads(body) == settings(f"127.0.0.1:{shared.port}", "http")


def test_a_key_is_found_until_it_is_retired(endpoint, service, basic):
    scheme, _, host = endpoint.partition("://")
    service.flask("sources", "rotate", "example", "--source-id", "second/key")
    assert fetch(endpoint, "/v1/projects/second/key/settings")[2] == settings(host, scheme, "second/key")
    assert service.post("/v1/track", {"userId": "1", "event": "e"}, basic("second/key"))[0] == 200
    service.flask("sources", "rotate", "example", "--retire", SOURCE_ID)
    wait_until(lambda: fetch(endpoint)[0] == 404)
    assert fetch(endpoint)[2]["code"] == "not_found"
    wait_until(lambda: service.post("/v1/track", {"userId": "1", "event": "e"})[1].get("code") == "unknown_source")
    assert service.post("/v1/track", {"userId": "1", "event": "e"}, basic("second/key"))[0] == 200
    service.flask("sources", "disable", "example")
    wait_until(lambda: fetch(endpoint, "/v1/projects/second/key/settings")[0] == 404)


def test_a_library_that_knows_only_its_host_starts_and_sends(endpoint, service, site):  # noqa: F811
    need("chromium")
    with Library("analytics_next", endpoint, f"{site}/analytics_next_cdn.html") as library:
        library.wait_for("done")
        wait_until(lambda: service.query("SELECT 1 FROM tracks"))
    assert service.query("SELECT event, message_id FROM tracks") == [("Tour Started", *library.made())]
    assert {line["request"] for line in library.said("request")} - {"null"} == {site, endpoint}
    assert [line["url"].removeprefix(endpoint) for line in library.said("answer")] == [URL, "/v1/t"]
