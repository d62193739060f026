"""No command prints control characters of senders or destinations."""

import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import apsw
import pytest
from factories import dead_letters, event, rejection

from commands import COMMANDS, GROUPS

# Two forms of escape sequences, four line ends, right-to-left overrides, and three invisible characters.
HOSTILE = "pwned\x1b]0;x\x07\x9b31m\r\n\x85\u2028\u202e\u2066\u200b\ufeff\x00\x7f"
NO_JSON = '{"id": 1 ' + HOSTILE

#: Each command with its arguments, and whether it prints text of a sender or a destination.
RUNS = [
    ("sources add new", False),
    ("sources list", False),
    ("sources rotate example", False),
    ("sources disable example", False),
    ("sources enable example", False),
    ("sources remove new", False),
    ("events tail", True),
    ("events tail --rejected", True),
    ("events stats", True),
    ("events check", True),
    ("events backup {folder}/backup.db", False),
    ("events import {folder}/faulty.ndjson", True),
    ("events prune --older-than 1d", False),
    ("events forget user --yes", True),
    ("events forget --email hostile@example.com --yes", True),
    ("rejected list", True),
    ("rejected show 1", True),
    ("rejected replay 1", True),
    ("rejected replay 2", True),
    ("rejected delete 1", False),
    ("destinations add new webhook+http://127.0.0.1:1", False),
    ("destinations list", True),
    ("destinations set hook webhook+http://127.0.0.1:2", False),
    ("destinations pause hook", False),
    ("destinations resume hook", False),
    ("destinations remove hook --yes", False),
    ("destinations dead hook", True),
    ("destinations test hook", True),
    ("destinations replay hook --dead", True),
    ("destinations replay hook --from 1 --to 9", True),
    ("forward --once", True),
    ("settings", True),
]
EXEMPT = ["events export", "rejected show 1 --raw"]  # print the stored bytes


@pytest.fixture
def hostile_destination():
    """A destination that rejects every event with a hostile text."""

    class Refuse(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            body = HOSTILE.encode()
            self.send_response(400)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Refuse) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"webhook+http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def hostile_log(log, path, tmp_path, hostile_destination):
    """A log in which every text is hostile, except the operator's."""
    texts = {name: f"{name} {HOSTILE}" for name in ("message_id", "anonymous_id", "name")}
    first = event(**texts, source=HOSTILE, type=HOSTILE, user_id="user")
    log.append(
        [
            first,
            first._replace(message_id="b", user_id="other"),  # on the user's device
            first._replace(message_id="c", anonymous_id=f"phone {HOSTILE}"),
            first._replace(message_id="d", user_id=HOSTILE, source="example", type="track"),
            first._replace(message_id="e", user_id=HOSTILE, payload='{"traits": {"email": "hostile@example.com"}}'),
        ]
    )
    error = {"field": HOSTILE, "code": HOSTILE, "message": HOSTILE}
    columns = {"route": f"/v1/pixel/{HOSTILE}", "code": HOSTILE, "message": HOSTILE, "errors": json.dumps([error])}
    log.append([], [rejection(NO_JSON.encode(), **columns), rejection(b"1", source=HOSTILE, **columns)])
    log.destinations.add("hook", hostile_destination, [], [], 0)
    log.destinations.add("done", hostile_destination, [], [], 9)
    dead = dead_letters(log.reader.read_last(1), HOSTILE, HOSTILE)
    log.destinations.advance(log.destinations.get("hook").id, 0, 0, dead)
    log.destinations.note_failure(log.destinations.get("hook").id, HOSTILE)
    (tmp_path / "faulty.ndjson").write_text(NO_JSON)
    with_wrong_counts = apsw.Connection(path)
    with_wrong_counts.execute("UPDATE counts SET count = 7 WHERE outcome = 'stored'")
    with_wrong_counts.close()


def test_every_command_is_run_here():
    """All but serve, which replaces the process."""
    every = {f"{group.name} {name}" for group in GROUPS for name in group.commands}
    every |= {command.name for command in COMMANDS if command not in GROUPS} - {"serve"}
    run = {" ".join(command.partition(" -")[0].split()[:2]) for command, _ in RUNS}
    assert run | {" ".join(command.split()[:2]) for command in EXEMPT} == every


@pytest.mark.parametrize(("command", "shows_texts"), RUNS)
def test_a_command_prints_no_control_characters(hostile_log, runner, tmp_path, monkeypatch, command, shows_texts):
    monkeypatch.setenv("TRACKLOG_TRANSFORMS", HOSTILE.replace("\0", ""))
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # print log lines, as a separate process does
    output = runner.invoke(args=command.format(folder=tmp_path).split()).output
    obeyed = {character for character in output if not character.isprintable() and character != "\n"}
    assert not obeyed, output
    assert shows_texts == ("pwned" in output), output


@pytest.mark.parametrize("command", EXEMPT)
def test_a_command_that_prints_raw_bytes_warns_in_its_help(runner, command):
    text = runner.invoke(args=[*command.split()[:2], "--help"]).output
    assert "terminal" in text
