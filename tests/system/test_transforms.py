"""Transforms and masks give the same result however often the forwarder is killed."""

import hmac
import json
import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from factories import item
from forwarder import answering, forwarder
from needs import need
from service import BIN, PROJECT, wait_until

KEY = "mask key of a test"
NUMBER = 1500


def write(folder, name, text):
    part = folder / f"{name}.part"
    part.write_text(text)
    part.chmod(0o644)
    part.replace(folder / f"{name}.py")


@pytest.fixture
def folder(tmp_path, running):
    if os.getuid() != 0:
        pytest.skip("needs root: a transform must belong to another user than the forwarder's")
    folder = tmp_path / "transforms"
    folder.mkdir(mode=0o755)
    running.environment |= {"TRACKLOG_TRANSFORMS": str(folder), "TRACKLOG_SECRET_MASK": KEY}
    return folder


@pytest.fixture
def public_folder(running, folder):
    """A folder of transforms below one that every user may read, unlike that of pytest."""
    with tempfile.TemporaryDirectory() as public:
        os.chmod(public, 0o755)
        running.environment["TRACKLOG_TRANSFORMS"] = public
        yield Path(public)


def add(running, port, *rules):
    running.flask("destinations", "add", "hook", f"webhook+http://127.0.0.1:{port}/", *rules)


def post_events(running):
    for first in range(0, NUMBER, 500):
        batch = [
            item(messageId=str(n), userId=f"user {n % 50}", event=("Kept", "Other")[n % 5 == 0], traits={"email": f"{n}@x"})
            for n in range(first, first + 500)
        ]  # fmt: skip
        assert running.post("/v1/batch", {"batch": batch})[1]["stored"] == 500


TRANSFORM = """
def transform(event):
    n = int(event["messageId"])
    if n % 100 == 1:
        raise ValueError(f"not {n}")
    if n % 3 == 0:
        return None
    event["event"] = event["event"].upper()
    return event
"""


def test_kills_and_two_forwarders_do_not_change_the_result(running, folder):
    post_events(running)
    write(folder, "change", TRANSFORM)
    received, kills = {}, 0

    def take(_handler, body):
        event = json.loads(body)
        received.setdefault(event["messageId"], set()).add(body)
        return 200, {}, b""

    def position():
        return running.query("SELECT position FROM destinations")[0][0]

    with answering(take) as port:
        add(running, port, "--only", "track:Kept", "--transform", "change", "--mask", "traits.email")
        while position() < NUMBER and kills < 5:
            with forwarder(running) as one, forwarder(running) as other:
                before = position()
                wait_until(lambda before=before: position() >= min(NUMBER, before + 150))
                one.kill()
                other.kill()
                kills += 1
        with forwarder(running), forwarder(running):
            wait_until(lambda: position() == NUMBER, 120)
    wanted = [n for n in range(NUMBER) if n % 5]
    failing = [n for n in wanted if n % 100 == 1]
    expected = [n for n in wanted if n not in failing and n % 3]
    assert sorted(map(int, received)) == expected
    assert all(len(bodies) == 1 for bodies in received.values())
    for n in expected:
        event = json.loads(*received[str(n)])
        email = hmac.digest(KEY.encode(), f"{n}@x".encode(), "sha256").hex()
        assert (event["event"], event["traits"]) == ("KEPT", {"email": email})
    dead = running.query("SELECT CAST(message_id AS INTEGER), code, message FROM dead_letters ORDER BY event_id")
    assert dead == [(n, "transform_failed", f"ValueError: not {n}") for n in failing]
    assert running.query("SELECT count(*) FROM events WHERE payload LIKE '%@x%'") == [(NUMBER,)]
    logged = (running.folder / "forward.log").read_text()
    assert KEY not in logged
    assert "Traceback" not in logged
    write(folder, "change", "def transform(event):\n    return {**event, 'event': 'Mended'}\n")
    with answering(take, port):
        assert running.flask("destinations", "replay", "hook", "--dead").stdout == f"{len(failing)} delivered\n"
    assert {json.loads(*received[str(n)])["event"] for n in failing} == {"Mended"}
    print(f"{len(expected)} delivered, {len(failing)} dead letters, {kills} kills of two forwarders")


@pytest.mark.parametrize("body", ["while True: pass", "__import__('time').sleep(600)"])
def test_a_forwarder_stops_within_seconds_while_a_transform_hangs(running, folder, body):
    running.post("/v1/track", {"userId": "1", "event": "e"})
    started = folder / "started"
    write(folder, "hang", f"def transform(event):\n    open({str(started)!r}, 'w')\n    {body}\n")
    received = []

    def take(*arguments):
        received.append(arguments)
        return 200, {}, b""

    with answering(take) as port:
        add(running, port, "--transform", "hang")
        running.flask("destinations", "add", "other", f"webhook+http://127.0.0.1:{port}/")
        with forwarder(running) as process:
            wait_until(started.exists)
            wait_until(lambda: received)  # the other destination gets its event
            process.terminate()
            assert process.wait(15) == 0
    assert len(received) == 1


def test_the_shipped_examples_run_as_another_user(running, public_folder):
    """As deployed: the files belong to root, and the forwarder's user may only read them. Its own file is refused."""
    need("setpriv")
    folder = public_folder
    for each in (PROJECT / "deploy" / "transforms").glob("*.py"):
        write(folder, each.stem, each.read_text())
    as_user = ["setpriv", "--reuid=4711", "--regid=4711", "--clear-groups"]
    code = "import sys; from forwarding.transforms import TransformFile; TransformFile(sys.argv[1]).load()"

    def load(name):
        command = [*as_user, BIN / "python", "-c", code, name]
        return subprocess.run(command, cwd=PROJECT, env=running.environment, capture_output=True, text=True)

    for name in ("bots", "sample", "rename"):
        assert load(name).stderr == ""
    os.chown(folder / "bots.py", 4711, 4711)
    assert "must belong to root, or another user than the forwarder's" in load("bots").stderr
    os.chown(folder, 4711, 4711)
    assert "must belong to root, or another user than the forwarder's" in load("sample").stderr
