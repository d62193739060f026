"""nginx's logs contain no key, address, path, query, user or referrer."""

import re
import socket

import pytest
from nginx import commented
from service import AUTHENTICATION, free_port, wait_until

SECRET = "S3cretKey"
BODY = b'{"userId": "1", "event": "Posted"}'
LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d (\d{3}) (GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|other) ([a-z_]+) \d+ [0-9a-f]{32}"
)


def request(line, *headers, body=BODY):
    secrets = [
        "User-Agent",
        "Referer",
        "Cookie",
        "X-Forwarded-For",
        "X-Request-ID",
        "Origin",
        "X-Other",
    ]
    lines = [line, *headers, *(f"{name}: {SECRET}" for name in secrets), f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


def post(target, method="POST", host=f"Host: {SECRET}.example", **parts):
    key = f"Authorization: {AUTHENTICATION['Authentication']}"  # the user, for nginx
    return request(f"{method} {target} HTTP/1.1", host, key, **parts)


# What is sent -> status, method and class of route in the log.
CASES = [
    (post("/v1/track"), "200 POST call"),
    (post("/v1/t/"), "200 POST call"),
    (post(f"/v1/identify?writeKey={SECRET}"), r"\d+ POST call"),
    (post(f"http://{SECRET}/v1/track?{SECRET}"), "200 POST call"),
    (post(f"/v1/batch?writeKey={SECRET}"), r"\d+ POST batch"),
    (post("/beacon/v1/batch"), r"\d+ POST batch"),
    (post(f"/v1/pixel/track?writeKey={SECRET}&userId={SECRET}", "GET", body=b""), r"\d+ GET pixel"),
    (post(f"/v1/pixel/{SECRET}", "GET", body=b""), r"\d+ GET pixel"),
    (post(f"/v1/projects/{SECRET}/settings", "GET", body=b""), r"\d+ GET settings"),
    (post(f"/v1/projects/{SECRET}/settings", "OPTIONS", body=b""), r"\d+ OPTIONS settings"),
    (post("/v1/validate", body=b"{}"), "200 POST validate"),
    (post("/v1/m"), "200 POST client_metrics"),
    (post(f"/v1/{SECRET}"), "404 POST other"),
    (post(f"/{SECRET}/{SECRET}?{SECRET}", "GET", body=b""), "404 GET other"),
    (post(f"/v1/track/{SECRET}", "PUT"), r"\d+ PUT call"),
    (post("/v1/track", SECRET.upper().replace("3", "E")), "405 other call"),
    (post("/v1/track", SECRET), "400 other other"),
    (post(f"/v1/track?{SECRET}", host=f"Host: {SECRET}/x y"), "400 POST call"),
    (post(f"/v1/track?{SECRET}", host=f"No header {SECRET}"), "400 POST call"),
    (post("/v1/track", host=f"Host: x\r\nX-Large: {SECRET * 10_000}"), "400 POST call"),
    (post(f"/v1/track?{SECRET * 10_000}"), "400 (POST|other) (call|other)"),
    (post(f"/v1/track?{SECRET}", host="Host: x\r\nTransfer-Encoding: " + SECRET), "400 POST call"),
    (f"{SECRET}\r\n\r\n".encode(), "400 other other"),
    (f"GET /{SECRET}\r\n".encode(), "404 GET other"),
]


def ask(port, sent):
    """Send bytes and return what comes back until the connection ends."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(sent)
        try:
            while piece := connection.recv(65536):
                received += piece
        except ConnectionError:
            pass
    return received


def lines(nginx):
    return (nginx.folder / "tracklog.log").read_text().splitlines()


def assert_no_secret(nginx):
    for log in nginx.folder.glob("*.log"):
        text = log.read_text().lower()
        for secret in (
            SECRET.lower(),
            "127.0.0.1",
            "::1",
            "/v1",
            "ilovedata",
            AUTHENTICATION["Authentication"].lower(),
        ):
            assert secret not in text, log


def test_the_access_log_has_status_method_and_class_of_route(nginx):
    for number, (sent, expected) in enumerate(CASES, 1):
        assert ask(nginx.port, sent), sent[:100]
        wait_until(lambda number=number: len(lines(nginx)) == number)
        found = LINE.fullmatch(lines(nginx)[-1])
        assert found, lines(nginx)[-1]
        assert re.fullmatch(expected, " ".join(found.groups())), (sent[:100], expected, found[0])
    assert_no_secret(nginx)


def test_the_id_in_the_access_log_is_that_of_the_answer(nginx):
    answer = ask(nginx.port, post("/v1/track")).decode()
    wait_until(lambda: lines(nginx))
    assert f"X-Request-ID: {lines(nginx)[-1].split()[-1]}\r\n" in answer


@pytest.mark.parametrize("trouble", ["down", "silent", "limited", "cut"])
def test_the_error_log_prints_no_request(start_nginx, trouble):
    """In each of these cases nginx prints the request at its usual level."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1] if trouble in ("silent", "cut") else free_port()
        changes = [
            ("proxy_read_timeout 60s", "proxy_read_timeout 100ms"),
            ("client_body_timeout 30s", "client_body_timeout 1s"),
        ]
        if trouble == "limited":
            changes += commented("limit_req_zone", "limit_req", "limit_req_status")
            changes += [("rate=100r/s", "rate=1r/m"), ("burst=200", "burst=1")]
        nginx = start_nginx(f"127.0.0.1:{port}", changes)
        sent = post(f"/v1/track?writeKey={SECRET}")
        if trouble == "cut":
            sent = sent[:-1]
        for _ in range(3):
            ask(nginx.port, sent)
        ask(nginx.port, post(f"/v1/{SECRET}", body=b"x" * (11 << 20)))
        wait_until(lambda: len(lines(nginx)) >= 4)
    assert_no_secret(nginx)


def test_every_route_of_the_api_has_a_class(nginx, service):
    paths = service.request("GET", "/openapi.json")[1]["paths"]
    paths = [path for path in paths if path.startswith(("/v1/", "/beacon/"))]
    for path in paths:
        ask(nginx.port, post(path))
    wait_until(lambda: len(lines(nginx)) == len(paths))
    assert [path for path, line in zip(paths, lines(nginx), strict=True) if " other " in line] == []
