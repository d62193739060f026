"""How it starts, and how it does not."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess

import pytest
from service import AUTHENTICATION, BIN, PROJECT, Clients, Service, free_port, need, wait_until

EVENT = {"userId": "1", "event": "Posted"}


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({}, "There is no log at"),
        ({"TRACKLOG_MAX_BODY_BYTES": "8MB"}, "TRACKLOG_MAX_BODY_BYTES must be a whole number from 1 on, not '8MB'"),
        ({"TRACKLOG_BIND": "nowhere"}, "TRACKLOG_BIND must be HOST:PORT or unix:PATH, not 'nowhere'"),
    ],
)
@pytest.mark.parametrize("command", [["gunicorn", "wsgi:app", "--bind", "127.0.0.1:0"], ["flask", "sources", "list"]])
def test_a_start_that_cannot_succeed_ends_with_a_sentence(tmp_path, command, environment, sentence):
    environment = os.environ | {"TRACKLOG_DATABASE": str(tmp_path / "none.db")} | environment
    ended = subprocess.run(
        [BIN / command[0], *command[1:]], cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode != 0
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr
    assert os.listdir(tmp_path) == []


def test_make_run_serves_and_its_printed_lines_work(tmp_path):
    """The newcomer's way, with the environment that the tests run in and a port of the system's choice."""
    need("curl")
    need("sqlite3")
    service = Service(tmp_path)
    service.port = free_port()
    environment = service.environment | {"TRACKLOG_BIND": f"127.0.0.1:{service.port}"}
    if BIN != PROJECT / ".venv" / "bin":
        pytest.skip("needs the environment that make makes")
    printed = tmp_path / "printed"
    with open(printed, "w") as output:
        made = subprocess.Popen(
            ["make", "run"], cwd=PROJECT, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        wait_until(lambda: made.poll() is not None or service.is_healthy(), 120)
        text = printed.read_text()
        curl = text[text.index("  curl ") : text.index("\n\nand see it")]
        select = next(line for line in text.splitlines() if line.startswith("  sqlite3 "))
        answer = subprocess.run(curl, shell=True, check=True, capture_output=True, text=True).stdout
        assert json.loads(answer)["success"] is True
        shown = subprocess.run(select, shell=True, check=True, capture_output=True, text=True).stdout
        assert "Added File" in shown
    finally:
        os.killpg(made.pid, signal.SIGINT)
        made.wait(40)


def test_a_reload_loses_no_request_of_clients_that_keep_their_connections(running):
    with Clients(running.port, 8) as clients:
        for _ in range(3):
            before, seen = set(running.workers()), len(clients.acknowledged)
            running.process.send_signal(signal.SIGHUP)
            wait_until(lambda before=before: not before & set(running.workers()))
            wait_until(lambda seen=seen: len(clients.acknowledged) > seen + 100)
    stored = {message_id for (message_id,) in running.query("SELECT message_id FROM events")}
    assert {message_id for message_id, _ in clients.acknowledged} <= stored
    assert clients.refused == []
    assert clients.failed == []


def test_after_a_stop_the_whole_log_is_in_its_one_file(service, tmp_path):
    running = service
    running.start("--workers", "1")
    assert running.post("/v1/track", EVENT)[0] == 200
    running.process.send_signal(signal.SIGTERM)
    running.process.wait(40)
    assert "Traceback" not in running.said()
    alone = tmp_path / "alone" / "tracklog.db"
    alone.parent.mkdir()
    shutil.copy(running.database, alone)
    running.database = alone
    assert running.query("SELECT count(*) FROM events") == [(1,)]


BAD_HTTP = {
    "no HTTP": b"hello\r\n\r\n",
    "no version": b"POST /v1/track\r\n\r\n",
    "bad header": b"POST /v1/track HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n",
    "folded header": b"POST /v1/track HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
    "long line": b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "long header": b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 70_000 + b"\r\n\r\n",
    "bad length": b"POST /v1/track HTTP/1.1\r\nHost: x\r\nContent-Length: ten\r\n\r\n",
    "two lengths": b"POST /v1/track HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "length and chunks": b"POST /v1/track HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "unknown coding": b"POST /v1/track HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: rot13\r\n\r\n",
    "expectation": b"POST /v1/track HTTP/1.1\r\nHost: x\r\nExpect: wonders\r\n\r\n",
    "script name": b"POST /v1/track HTTP/1.1\r\nHost: x\r\nSCRIPT_NAME: /x\r\nContent-Length: 0\r\n\r\n",
    "odd host": b"POST /v1/track HTTP/1.1\r\nHost: [::::]:x y\r\nContent-Length: 0\r\n\r\n",
    "odd path": b"POST /v1/%ff%00%0d%0a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    "odd method": b"BREW /v1/track HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    "schemes": b"GET /nowhere HTTP/1.1\r\nHost: x\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\n\r\n",
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    service = Service(tmp_path_factory.mktemp("shared"))
    service.flask("sources", "add", "example", "--source-id", "ILoveData123")
    service.start()
    yield service
    service.stop()


def converse(service, sent, shut=False):
    with socket.create_connection(("127.0.0.1", service.port), 10) as connection:
        connection.sendall(sent)
        if shut:
            connection.shutdown(socket.SHUT_WR)
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status, response.headers, json.loads(response.read())


@pytest.mark.parametrize("case", BAD_HTTP)
def test_what_is_no_good_http_is_answered_in_json_and_never_with_500(shared, case):
    status, headers, answer = converse(shared, BAD_HTTP[case])
    assert 400 <= status < 500
    assert status not in (410, 413, 422)
    assert headers["Content-Type"] == "application/json"
    assert answer["success"] is False
    assert isinstance(answer["code"], str)
    assert shared.request("GET", "/healthz")[0] == 200


HEAD = f"POST /v1/track HTTP/1.1\r\nHost: x\r\nAuthentication: {AUTHENTICATION['Authentication']}\r\n".encode()
BROKEN_BODIES = {
    "cut": HEAD + b"Content-Length: 1000\r\n\r\n{",
    "bad chunk size": HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n{}\r\n",
    "chunk without end": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}abc",
    "chunks cut": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
}


@pytest.mark.parametrize("case", BROKEN_BODIES)
def test_a_body_that_breaks_off_is_refused_and_kept(shared, case):
    status, _, answer = converse(shared, BROKEN_BODIES[case], shut=True)
    assert (status, answer["code"]) == (400, "invalid_encoding")


def test_chunks_are_read_to_their_end_and_within_the_limit(shared):
    body = json.dumps(EVENT).encode()
    chunks = b"".join(b"%x\r\n%b\r\n" % (1, bytes([byte])) for byte in body)
    status, _, answer = converse(shared, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
    assert (status, answer["success"]) == (200, True)
    large = b"%x\r\n%b\r\n" % (1 << 20, b" " * (1 << 20)) * 9
    status, _, answer = converse(shared, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + large + b"0\r\n\r\n")
    assert (status, answer["code"]) == (400, "payload_too_large")


def test_an_answer_without_a_body_leaves_the_connection_usable(shared):
    with shared.connection() as connection:
        for _ in range(2):
            connection.request("HEAD", "/healthz")
            response = connection.getresponse()
            assert (response.status, response.read()) == (200, b"")
            assert int(response.headers["Content-Length"]) > 0


def test_a_log_is_made_once_however_many_make_it(service):
    service.database = service.folder / "other.db"
    service.environment["TRACKLOG_DATABASE"] = str(service.database)
    command = [BIN / "flask", "sources", "add", "website", "--source-id", "one"]
    processes = [
        subprocess.Popen(command, cwd=PROJECT, env=service.environment, stderr=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    assert [(process.communicate()[1], process.returncode) for process in processes] == [("", 0)] * 8
    assert service.query("SELECT id, name FROM sources") == [("one", "website")]


@pytest.mark.parametrize(
    ("authentication", "size", "code"),
    [
        (AUTHENTICATION, (8 << 20) + 1, "payload_too_large"),
        ({"Authentication": "Basic bm9ib2R5"}, 3 << 20, "unknown_source"),
    ],
)
def test_an_answer_that_comes_before_the_body_is_read_reaches_who_closes_after_it(shared, authentication, size, code):
    for _ in range(10):
        assert shared.post("/v1/track", b" " * size, authentication | {"Connection": "close"})[1]["code"] == code
