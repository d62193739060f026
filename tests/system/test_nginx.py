"""Behind the nginx that is shipped."""

import gzip
import http.client
import json
import re
import socket
import ssl
import statistics
import threading
import time
from contextlib import ExitStack, contextmanager

import pytest
from nginx import commented
from service import AUTHENTICATION, PROJECT, Clients, free_port, wait_until

EVENT = {"userId": "1", "event": "Posted"}
ORIGIN = {"Origin": "https://shop.example"}


def ask(port, method, path, body=None, headers=AUTHENTICATION, context=None):
    """Return status, headers and the JSON of the answer."""
    if context:
        connection = http.client.HTTPSConnection("localhost", port, timeout=60, context=context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.headers, json.loads(response.read())
    finally:
        connection.close()


def post(port, event, **headers):
    return ask(port, "POST", "/v1/track", json.dumps(event), AUTHENTICATION | headers)


def assert_refusal(answer, headers, code):
    assert headers["Content-Type"] == "application/json"
    assert (answer["success"], answer["code"], answer["errors"]) == (False, code, [])
    assert answer["message"]


def test_an_event_passes_and_names_the_address_of_its_client(nginx, service):
    status, headers, answer = post(nginx.port, EVENT, **ORIGIN, **{"X-Forwarded-For": "6.6.6.6"})
    assert (status, answer["success"]) == (200, True)
    assert headers.get_all("Access-Control-Allow-Origin") == ["https://shop.example"]
    assert service.query("SELECT json_extract(payload, '$.context.ip') FROM events") == [("127.0.0.1",)]


def test_an_event_passes_through_tls(nginx, service):
    context = ssl.create_default_context(cafile=nginx.folder / "certificate.pem")
    assert ask(nginx.tls_port, "POST", "/v1/track", json.dumps(EVENT), context=context)[0] == 200
    assert service.query("SELECT count(*) FROM events") == [(1,)]


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/v1", "/beacon"])
def test_only_the_api_is_exposed(nginx, path):
    status, headers, answer = ask(nginx.port, "GET", path)
    assert status == 404
    assert_refusal(answer, headers, "not_found")


def test_metrics_are_told_on_a_server_of_their_own(service, start_nginx):
    """The one that docs/deploy.md has for Prometheus."""
    documented = re.search(r"^server \{.*?^\}", (PROJECT / "docs" / "deploy.md").read_text(), re.DOTALL | re.MULTILINE)[
        0
    ]
    port, beside = free_port(), "# To limit the request rate per client"
    inside = documented.replace("127.0.0.1:9464", f"127.0.0.1:{port}")
    service.start()
    nginx = start_nginx(f"127.0.0.1:{service.port}", [(beside, f"{inside}\n{beside}")])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    assert (answer.status, b"tracklog_log_available 1.0" in answer.read()) == (200, True)
    connection.close()
    assert ask(nginx.port, "GET", "/metrics")[0] == 404


def test_a_batch_of_4_mb_passes_and_is_stored(nginx, service):
    item = {"type": "track", "userId": "1", "event": "Posted", "properties": {"text": "x" * 20_000}}
    status, _, answer = ask(nginx.port, "POST", "/v1/batch", json.dumps({"batch": [item] * 200}))
    assert (status, answer["stored"]) == (200, 200)
    assert service.query("SELECT count(*) FROM events") == [(200,)]


@pytest.mark.parametrize(("mebibytes", "kept"), [(9, 1), (11, 0)])
def test_a_body_that_is_too_large_is_refused_in_json_by_the_app_or_by_nginx(nginx, service, mebibytes, kept):
    status, headers, answer = ask(nginx.port, "POST", "/v1/batch", b"[" + b" " * (mebibytes << 20))
    assert status == 400
    assert_refusal(answer, headers, "payload_too_large")
    assert service.query("SELECT count(*) FROM rejected") == [(kept,)]


def peak_memory(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def test_a_gzip_bomb_costs_no_more_memory_than_the_limit(service, start_nginx):
    service.start("--workers", "1")
    nginx = start_nginx(f"127.0.0.1:{service.port}")
    (worker,) = service.workers()
    assert post(nginx.port, EVENT)[0] == 200
    bomb = gzip.compress(b" " * (1 << 30))
    with open(f"/proc/{worker}/clear_refs", "w") as peak:
        peak.write("5")
    before = peak_memory(worker)
    headers = AUTHENTICATION | {"Content-Encoding": "gzip"}
    assert ask(nginx.port, "POST", "/v1/track", bomb, headers)[2]["code"] == "payload_too_large"
    limit = 8 << 20
    assert peak_memory(worker) - before < limit + len(bomb) + (4 << 20)


def median_wait(port):
    waits = []
    for _ in range(60):
        asked = time.monotonic()
        assert post(port, EVENT)[0] == 200
        waits.append(time.monotonic() - asked)
    return statistics.median(waits)


def test_2000_half_sent_requests_hold_up_nobody(nginx):
    before = median_wait(nginx.port)
    head = f"POST /v1/track HTTP/1.1\r\nHost: x\r\nAuthentication: {AUTHENTICATION['Authentication']}\r\nContent-Length: 100\r\n\r\n{{"
    with ExitStack() as stack:
        for _ in range(2000):
            half = stack.enter_context(socket.create_connection(("127.0.0.1", nginx.port)))
            half.sendall(head.encode())
        meanwhile = median_wait(nginx.port)
    print(f"median wait {before * 1000:.1f} ms before, {meanwhile * 1000:.1f} ms with 2,000 half-sent requests")
    assert meanwhile < 3 * before


# nginx's own refusals


def test_an_app_that_does_not_run_is_answered_with_when_to_try_again(start_nginx):
    nginx = start_nginx(f"127.0.0.1:{free_port()}")
    status, headers, answer = post(nginx.port, EVENT, **ORIGIN)
    assert status == 502
    assert_refusal(answer, headers, "storage_unavailable")
    assert headers.get_all("Retry-After") == ["5"]
    assert headers["Access-Control-Allow-Origin"] == "https://shop.example"
    assert headers["Access-Control-Allow-Credentials"] == "true"


def test_the_apps_own_503_passes_as_it_is(nginx, service):
    assert post(nginx.port, EVENT)[0] == 200
    service.database.rename(service.folder / "away.db")
    status, headers, answer = post(nginx.port, EVENT, **ORIGIN)
    assert (status, answer["message"]) == (503, "The event log cannot be written now; send the request again")
    assert headers.get_all("Retry-After") == ["5"]
    assert headers.get_all("Access-Control-Allow-Origin") == ["https://shop.example"]


def test_a_client_that_asks_too_often_is_told_to_wait_where_the_limit_is_on(service, start_nginx):
    service.start()
    limit = [
        *commented("limit_req_zone", "limit_req", "limit_req_status"),
        ("rate=100r/s", "rate=1r/m"),
        ("burst=200", "burst=2"),
    ]
    nginx = start_nginx(f"127.0.0.1:{service.port}", limit)
    answers = [post(nginx.port, EVENT) for _ in range(4)]
    assert [status for status, _, _ in answers] == [200, 200, 200, 429]
    assert_refusal(answers[-1][2], answers[-1][1], "storage_unavailable")
    assert answers[-1][1]["Retry-After"] == "1"


@contextmanager
def upstream(answer):
    """Be an app that gets one request a connection, and does `answer` with it; yield the requests that came."""
    came = []

    def serve():
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                request = b""
                while b"\r\n\r\n{" not in request:
                    request += connection.recv(65536)
                came.append(request.decode())
                answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1], came
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def test_a_post_that_the_app_may_have_stored_is_never_sent_again(start_nginx):
    with upstream(lambda connection: None) as (port, came):
        nginx = start_nginx(f"127.0.0.1:{port}")
        assert post(nginx.port, EVENT)[0] == 502
    assert len(came) == 1


def test_an_app_that_does_not_answer_is_given_up_in_time(start_nginx):
    waiting = threading.Event()
    with upstream(lambda connection: waiting.wait(10)) as (port, came):
        nginx = start_nginx(f"127.0.0.1:{port}", [("proxy_read_timeout 60s", "proxy_read_timeout 100ms")])
        status, headers, answer = post(nginx.port, EVENT)
        waiting.set()
    assert (status, headers["Retry-After"], len(came)) == (504, "5", 1)
    assert_refusal(answer, headers, "storage_unavailable")


def test_a_request_has_an_id_that_is_handed_on(start_nginx):
    with upstream(lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")) as (
        port,
        came,
    ):
        nginx = start_nginx(f"127.0.0.1:{port}")
        for _ in range(2):
            assert post(nginx.port, EVENT)[0] == 200
    ids = {line for request in came for line in request.splitlines() if line.startswith("X-Request-ID: ")}
    assert len(ids) == 2


def test_a_request_s_id_is_in_its_line_and_its_answer(service, start_nginx):
    service.environment["TRACKLOG_ACCESS_LOG"] = "on"
    service.start()
    nginx = start_nginx(f"127.0.0.1:{service.port}")
    status, headers, _ = post(nginx.port, EVENT, **{"X-Request-ID": "the-client-s"})
    assert status == 200
    (given,) = headers.get_all("X-Request-ID")
    (line,) = wait_until(lambda: [line for line in service.lines("request") if line.get("route") == "/v1/track"])
    assert (line["request_id"], line["status"], line["source"]) == (given, 200, "example")


def test_nginx_s_own_refusals_have_an_id_too(start_nginx):
    nginx = start_nginx(f"127.0.0.1:{free_port()}")
    answers = [ask(nginx.port, "GET", "/"), post(nginx.port, EVENT)]
    assert [status for status, _, _ in answers] == [404, 502]
    ids = [given for _, headers, _ in answers for given in headers.get_all("X-Request-ID")]
    assert len(set(ids)) == 2


# Restarts


def restart(service, listening, times):
    """Stop and start it again and again, each time as soon as one worker answers: the other may still be booting."""
    for _ in range(times):
        service.process.terminate()
        service.process.wait(40)
        service.start_on(listening)


@pytest.mark.parametrize("way", ["direct", "nginx"])
def test_no_client_notices_that_the_app_is_stopped_and_started_under_its_socket(service, start_nginx, way):
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
        service.start_on(listening)
        port = listening.getsockname()[1]
        if way == "nginx":
            port = start_nginx(f"127.0.0.1:{port}").port
        with Clients(port, 8) as clients:
            restart(service, listening, 5)
            wait_until(lambda: len(clients.acknowledged) > 500)
    stored = [message_id for (message_id,) in service.query("SELECT message_id FROM events")]
    assert clients.acknowledged_ids() == set(stored)
    assert (clients.refused, clients.failed) == ([], [])
    print(f"{len(stored)} events over 5 restarts, none refused, none failed")


# What the app gets


def test_the_app_gets_the_host_with_its_port_and_no_cookie(start_nginx):
    with upstream(lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")) as (
        port,
        came,
    ):
        nginx = start_nginx(f"127.0.0.1:{port}")
        assert post(nginx.port, EVENT, Host="events.example.com:8080", Cookie="session=secret")[0] == 200
    (request,) = came
    assert "\r\nHost: events.example.com:8080\r\n" in request
    assert "cookie" not in request.lower()
