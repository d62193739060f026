"""The service and the forwarder write few log lines, each in JSON."""

import json
import signal
import socket

import pytest
from forwarder import answering, forwarder
from service import AUTHENTICATION, EVENT, SOURCE_ID, free_port, wait_until

ID = "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.smoke
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_every_log_line_from_start_to_stop_is_json(service, number):
    service.environment["TRACKLOG_TRUSTED_PROXIES"] = "1"
    service.start("--workers", "3")
    assert service.post("/v1/track", EVENT)[0] == 200
    service.process.send_signal(signal.SIGHUP)
    wait_until(lambda: len([line for line in service.lines() if line["message"].startswith("Booting")]) == 6)
    service.process.send_signal(number)
    service.process.wait(40)
    lines = service.lines()
    (start,) = service.lines("start")
    assert start["workers"] == 3
    assert start["version"]
    assert start["sqlite"].startswith("3.")
    assert start["settings"]["database"] == str(service.database)
    assert (start["settings"]["trusted_proxies"], start["settings"]["ip_policy"]) == (1, "keep")
    assert [line["event"] for line in lines].count("stop") == 1
    assert lines[-1]["event"] == "stop"
    assert {line["level"] for line in lines} == {"info"}
    assert "Traceback" not in service.said()


def test_storage_trouble_has_two_log_lines(service):
    service.start("--workers", "1")
    assert service.post("/v1/track", EVENT)[0] == 200
    away = service.folder / "away.db"
    service.database.rename(away)
    assert [service.post("/v1/track", EVENT)[0] for _ in range(5)] == [503] * 5
    away.rename(service.database)
    wait_until(lambda: service.post("/v1/track", EVENT)[0] == 200 and service.lines("storage_recovered"))
    (trouble,), (recovered,) = service.lines("storage_trouble"), service.lines("storage_recovered")
    assert str(service.database) in trouble["reason"]
    assert recovered["refused"] >= 5
    assert recovered["seconds"] > 1


def send_bytes(service, data):
    """Send bytes and return all bytes of the answer."""
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.smoke
def test_rejections_have_one_line_per_kind_without_keys(service):
    service.start("--workers", "1")
    for _ in range(3):
        assert service.post("/v1/track", {"userId": "secret-body"})[0] == 400
        assert service.request("POST", f"/v1/batch?writeKey={SOURCE_ID}", "no JSON")[0] == 400
        assert service.request("POST", "/v1/batch?writeKey=secret-key")[0] == 401
        assert service.request("GET", "/v1/trak?writeKey=secret-key")[0] == 404
        assert send_bytes(service, b"GET /v1/pixel/track?writeKey=secret-key\r\n\r\n").startswith(b"HTTP/1.1 400")
    found = [(line.get("source"), line["code"], line["count"]) for line in service.lines("rejected")]
    assert found == [
        ("example", "event_not_defined", 1),
        ("example", "invalid_json", 1),
        (None, "unknown_source", 1),
        (None, "not_found", 1),
        (None, "bad_request", 1),
    ]
    assert service.lines("request") == []
    assert "secret" not in service.said()
    assert SOURCE_ID not in service.said()


def test_errors_of_gunicorn_return_the_request_id(service):
    """If gunicorn could read the headers."""
    service.start("--workers", "1")
    head = f"POST /v1/track HTTP/1.1\r\nHost: x\r\nX-Request-ID: {ID}\r\nContent-Length: many\r\n\r\n"
    assert f"\r\nX-Request-ID: {ID}\r\n".encode() in send_bytes(service, head.encode())
    assert [line["request_id"] for line in service.lines("rejected")] == [ID]


def test_the_access_log_has_neither_keys_nor_queries_nor_bodies(service):
    service.environment["TRACKLOG_ACCESS_LOG"] = "on"
    service.start("--workers", "1")
    headers = AUTHENTICATION | {"X-Request-ID": ID}
    for event in (EVENT, {"userId": "secret-body"}):
        service.post("/v1/track", event, headers)
    service.request("GET", f"/v1/secret?writeKey={SOURCE_ID}")

    def lines():
        return [line for line in service.lines("request") if line.get("route") != "/healthz"]

    wait_until(lambda: len(lines()) == 3)  # a line is written after the answer
    stored, refused, unknown = lines()
    assert (stored["method"], stored["route"], stored["status"], stored["source"]) == (
        "POST",
        "/v1/track",
        200,
        "example",
    )
    assert (stored["request_id"], stored["bytes"]) == (
        ID,
        len(json.dumps({"success": True, "messageId": "x" * 36})) + 1,
    )
    assert 0 < stored["seconds"] < 30
    assert (refused["status"], refused["source"], refused["request_id"]) == (400, "example", ID)
    assert (unknown["status"], "route" in unknown) == (404, False)
    for secret in ("secret", SOURCE_ID, AUTHENTICATION["Authentication"], "writeKey"):
        assert secret not in service.said()


# The forwarder


@pytest.fixture
def port(running):
    """Return the port of a destination, on which nothing listens yet. An event waits for delivery."""
    port = free_port()
    running.flask("destinations", "add", "hook", f"webhook+http://hidden@127.0.0.1:{port}/")
    assert running.post("/v1/track", EVENT)[0] == 200
    return port


def test_the_forwarder_logs_each_change_in_json(running, port):
    output = running.folder / "forward.log"

    def lines(event=None):
        found = [json.loads(line) for line in output.read_text().splitlines()]
        return [line for line in found if event in (None, line["event"])]

    statuses = iter([200])
    with forwarder(running):
        (failing,) = wait_until(lambda: lines("destination_failing"))
        with answering(lambda *_: (next(statuses, 400), {}, b""), port):
            (recovered,) = wait_until(lambda: lines("destination_recovered"))
            assert running.post("/v1/batch", {"batch": [EVENT | {"type": "track"}] * 3})[0] == 200
            wait_until(lambda: running.query("SELECT count(*) FROM dead_letters") == [(3,)])
            away = running.folder / "away.db"
            running.database.rename(away)
            (trouble,) = wait_until(lambda: lines("storage_trouble"))
            away.rename(running.database)
            wait_until(lambda: lines("storage_recovered"))
    assert failing["destination"] == recovered["destination"] == trouble["destination"] == "hook"
    assert str(port) in failing["error"]
    assert recovered["failures"] >= 1
    assert [(line["destination"], line["id"], line["count"]) for line in lines("dead_letter")] == [("hook", 2, 1)]
    assert lines()[0]["event"] == "start"
    assert lines()[-1]["event"] == "stop"
    assert "hidden" not in output.read_text()


@pytest.mark.smoke
def test_forward_once_writes_sentences(running, port):
    with answering(lambda *_: (400, {}, b""), port):
        ended = running.flask("forward", "--once", check=False)
    first, *warnings, last = ended.stderr.splitlines()
    assert first == f"Log: {running.database}"
    assert last == "All events are delivered; dead letters: 1"
    assert [line.split("WARNING ")[1].split(":")[0] for line in warnings] == ["hook rejects event 1"]
