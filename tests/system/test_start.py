"""The service starts, reloads and stops as documented, or says why it cannot start."""

import json
import os
import shutil
import signal
import socket
import subprocess

import pytest
from needs import need
from service import AUTHENTICATION, BIN, EVENT, PROJECT, Clients, Service, free_port, wait_until


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({}, "To create a first log: tracklog sources add NAME --create"),
        ({"TRACKLOG_MAX_BODY_BYTES": "8MB"}, "TRACKLOG_MAX_BODY_BYTES must be a whole number of at least 1, not '8MB'"),
        (
            {"TRACKLOG_MAX_BODY_BYTES": "9" * 5000},
            "TRACKLOG_MAX_BODY_BYTES must be a whole number of at least 1, not '999",
        ),
        ({"TRACKLOG_DATABASE": "\udcff.db"}, "TRACKLOG_DATABASE must be UTF-8, not"),
        ({"TRACKLOG_BIND": "nowhere"}, "TRACKLOG_BIND must be HOST:PORT or unix:PATH, not 'nowhere'"),
    ],
)
@pytest.mark.parametrize("command", [["gunicorn", "wsgi:app", "--bind", "127.0.0.1:0"], ["flask", "sources", "list"]])
def test_a_start_that_cannot_succeed_says_why(tmp_path, command, environment, sentence):
    environment = os.environ | {"TRACKLOG_DATABASE": str(tmp_path / "none.db")} | environment
    ended = subprocess.run(
        [BIN / command[0], *command[1:]], cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode != 0
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr
    assert os.listdir(tmp_path) == []


def test_make_run_serves_and_its_printed_lines_work(tmp_path):
    """This needs the environment that make creates."""
    need("curl")
    need("sqlite3")
    service = Service(tmp_path)
    service.port = free_port()
    environment = service.environment | {"TRACKLOG_BIND": f"127.0.0.1:{service.port}"}
    if BIN != PROJECT / ".venv" / "bin":
        pytest.skip("an environment that make created; make test-system")
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


@pytest.mark.smoke
def test_a_reload_loses_no_request(running):
    """Clients keep their connections."""
    with Clients(running.port, 8) as clients:
        for _ in range(3):
            before, seen = set(running.workers()), len(clients.acknowledged)
            running.process.send_signal(signal.SIGHUP)
            wait_until(lambda before=before: not before & set(running.workers()))
            wait_until(lambda seen=seen: len(clients.acknowledged) > seen + 100)
    assert clients.acknowledged_ids() <= running.message_ids()
    assert clients.refused == []
    assert clients.failed == []


@pytest.mark.smoke
def test_after_a_stop_the_log_is_a_single_file(service, tmp_path):
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


@pytest.mark.smoke
def test_an_answer_without_a_body_leaves_the_connection_usable(shared):
    with shared.connection() as connection:
        for _ in range(2):
            connection.request("HEAD", "/healthz")
            response = connection.getresponse()
            assert (response.status, response.read()) == (200, b"")
            assert int(response.headers["Content-Length"]) > 0


def test_the_start_line_names_the_addresses_that_are_bound(service):
    """The command line overrides the setting."""
    path = service.folder / "socket"
    service.environment["TRACKLOG_BIND"] = "127.0.0.1:1"
    service.start("--bind", f"unix:{path}")
    assert service.lines("start")[0]["addresses"] == [f"http://127.0.0.1:{service.port}", f"unix:{path}"]


def test_the_start_line_names_a_socket_from_systemd(service):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        service.start_on(listening, "--bind", "127.0.0.1:1")
        service.stop()
        port = listening.getsockname()[1]
    assert service.lines("start")[0]["addresses"] == [f"http://127.0.0.1:{port}"]


@pytest.mark.smoke
def test_concurrent_commands_create_one_log(service):
    service.database = service.folder / "other.db"
    service.environment["TRACKLOG_DATABASE"] = str(service.database)
    command = [BIN / "flask", "sources", "add", "website", "--source-id", "one"]
    processes = [
        subprocess.Popen(command, cwd=PROJECT, env=service.environment, stderr=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    ended = [(process.communicate()[1], process.returncode) for process in processes]
    named = {(f"{begin} {service.database}\n", 0) for begin in ("Created the log", "Log:")}
    assert set(ended) <= named
    assert service.query("SELECT id, name FROM sources") == [("one", "website")]


@pytest.mark.parametrize(
    ("authentication", "size", "code"),
    [
        (AUTHENTICATION, (8 << 20) + 1, "payload_too_large"),
        ({"Authentication": "Basic bm9ib2R5"}, 3 << 20, "unknown_source"),
    ],
)
def test_an_answer_before_the_body_is_read_reaches_the_client(shared, authentication, size, code):
    """The client sends its whole body before it reads, and asks to close the connection."""
    for _ in range(10):
        assert shared.post("/v1/track", b" " * size, authentication | {"Connection": "close"})[1]["code"] == code
