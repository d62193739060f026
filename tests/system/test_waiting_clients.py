"""Clients that send their key only after a challenge, as they are, direct and through nginx."""

import json
import socket
import subprocess
import sys
from http.client import HTTPResponse

import pytest
from library import CLIENTS
from needs import need
from service import SOURCE_ID, wait_until

CLIENT_COMMANDS = {
    "curl": ["curl", "--silent", "--fail", "--anyauth", "--user", f"{SOURCE_ID}:", "--data-binary", "@{file}", "{url}"],
    "curl, no Expect": ["curl", "-sf", "--anyauth", "-u", f"{SOURCE_ID}:", "-H", "Expect:", "-d", "@{file}", "{url}"],
    "wget": ["wget", "-q", "-O", "-", "--tries=1", "--user", SOURCE_ID, "--password=", "--post-file={file}", "{url}"],
    "urllib": [sys.executable, CLIENTS / "urllib_handler.py", "{url}", "{file}", SOURCE_ID],
    "java": ["java", CLIENTS / "Authenticated.java", "{url}", "{file}", SOURCE_ID],
}
PROGRAMS = {"curl, no Expect": "curl", "urllib": sys.executable, "java": "javac"}
BATCHES = {"small": (3, 10), "1 MB": (120, 9000)}  # the number of events, and the size of each


@pytest.fixture(params=["direct", "nginx"])
def port(request, service):
    service.environment["TRACKLOG_ACCESS_LOG"] = "on"
    return request.getfixturevalue({"direct": "running", "nginx": "nginx"}[request.param]).port


@pytest.fixture(params=BATCHES)
def batch(request):
    """Return a batch without a key, as JSON."""
    number, size = BATCHES[request.param]
    events = [
        {"type": "track", "userId": "1", "event": "e", "messageId": str(n), "text": "x" * size} for n in range(number)
    ]
    return json.dumps({"batch": events})


def check_stored(service, batch, statuses):
    """Check that all of the batch is stored, and that the client was asked for its key."""
    sent = json.loads(batch)["batch"]
    rows = service.query("SELECT payload FROM events")
    assert [json.loads(payload)["text"] for (payload,) in rows] == [event["text"] for event in sent]

    def answered():
        return sorted(line["status"] for line in service.lines("request") if line["route"] == "/v1/batch")

    wait_until(lambda: answered() == sorted(statuses))  # a line is written after its answer
    assert service.query("SELECT count(*) FROM rejected") == [(0,)]


@pytest.mark.parametrize("name", CLIENT_COMMANDS)
def test_a_client_that_waits_for_a_challenge_is_stored(service, port, tmp_path, batch, name):
    need(PROGRAMS.get(name, name))
    (tmp_path / "batch.json").write_text(batch)
    places = {"file": tmp_path / "batch.json", "url": f"http://127.0.0.1:{port}/v1/batch"}
    command = [str(argument).format(**places) for argument in CLIENT_COMMANDS[name]]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stderr
    check_stored(service, batch, [401, 200] * (2 if name == "java" else 1))  # it posts with both of Java's clients


@pytest.mark.parametrize("waits", [True, False], ids=["waits for 100", "waits no longer"])
def test_what_dotnet_sends_is_stored(service, port, batch, waits):
    """Replays HttpWebRequest and HttpClient with `Credentials`: they expect 100 before the body, some 350 ms long."""

    def post(connection, authorization=""):
        """Post the batch on a connection that is kept. Return the final answer."""
        head = (
            f"POST /v1/batch HTTP/1.1\r\n{authorization}Content-Type: application/json; charset=utf-8\r\n"
            f"Host: 127.0.0.1:{port}\r\nContent-Length: {len(batch)}\r\nExpect: 100-continue\r\n\r\n"
        )
        connection.sendall(head.encode())
        if waits:
            assert connection.recv(25, socket.MSG_WAITALL) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(batch.encode())
        response = HTTPResponse(connection, method="POST")
        response.begin()  # skips a 100
        body = response.read()
        assert not response.will_close
        return response, json.loads(body)

    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        challenge, refusal = post(connection)
        assert (challenge.status, refusal["code"]) == (401, "missing_write_key")
        assert challenge.headers["WWW-Authenticate"] == 'Basic realm="tracklog"'
        answer, receipt = post(connection, "Authorization: Basic SUxvdmVEYXRhMTIzOg==\r\n")
        assert (answer.status, receipt["rejectedCount"]) == (200, 0)
    check_stored(service, batch, [401, 200])
