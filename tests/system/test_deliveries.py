"""Nothing is lost, skipped or declared dead while a destination refuses, although the forwarder is killed."""

import json
import threading
import time

import pytest
from forwarder import answering, forwarder
from service import wait_until

SUCCESS = b'{"success": true}'
NUMBER = 500
IDS = [f"event {n}" for n in range(NUMBER)]
KINDS = ["http://KEY@", "webhook+http://"]


class Receiver:
    """Answers `status` to every POST until that is 200. Then it records the messageIds that it takes."""

    def __init__(self, status):
        self.status = status
        self.posts = 0
        self.taken = []

    def __call__(self, handler, body):
        self.posts += 1
        if self.status != 200:
            return self.status, {}, b'{"message": "no"}'
        event = json.loads(body)
        self.taken += [each["messageId"] for each in event.get("batch", [event])]
        return 200, {}, SUCCESS


@pytest.fixture
def backlog(running):
    """A service with events of ten users."""
    batch = [
        {"type": "track", "userId": f"user {n % 10}", "event": "Posted", "messageId": IDS[n]} for n in range(NUMBER)
    ]
    assert running.post("/v1/batch", {"batch": batch})[1]["stored"] == NUMBER
    return running


def row(service):
    """Return a destination's position, refused_from, last error, and number of dead letters."""
    return service.query(
        "SELECT position, refused_from, last_error, (SELECT count(*) FROM dead_letters) FROM destinations"
    )[0]


def is_refusing(service):
    return service.query("SELECT position = refused_from FROM destinations") == [(1,)]


def state(service):
    return service.flask("destinations", "list").stdout.splitlines()[1].split()[1]


def by_user(ids):
    return [[each for each in ids if int(each.split()[1]) % 10 == user] for user in range(10)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_backlog_waits_for_a_key_that_is_fixed(backlog, kind):
    receiver = Receiver(401)
    with answering(receiver) as port, forwarder(backlog):
        backlog.flask("destinations", "add", "there", f"{kind}127.0.0.1:{port}/in")
        wait_until(lambda: receiver.posts >= 3)
        assert (state(backlog), row(backlog)[0], row(backlog)[3]) == ("failing", 0, 0)
        assert receiver.posts < 7
        receiver.status = 200
        backlog.flask("destinations", "resume", "there")
        wait_until(lambda: row(backlog)[0] == NUMBER)
    assert sorted(receiver.taken) == sorted(IDS)
    assert by_user(receiver.taken) == by_user(IDS)
    assert (row(backlog)[3], state(backlog)) == (0, "ok")


@pytest.mark.parametrize("kind", KINDS)
def test_a_refusing_destination_gets_every_event_after_kills(backlog, kind):
    """The forwarder is killed while it halves the batch, and while it tries single events."""
    receiver = Receiver(400)
    with answering(receiver) as port:
        backlog.flask("destinations", "add", "there", f"{kind}127.0.0.1:{port}/in")
        for more in (1, 2, 4, 8, 16, 32, 64):
            with forwarder(backlog) as process:
                reached = receiver.posts + more
                wait_until(lambda reached=reached: receiver.posts >= reached or is_refusing(backlog))
                process.kill()
                process.wait(10)
            position, refused_from, _, dead = row(backlog)
            assert position in (0, dead)
            assert refused_from in (0, None)
            assert dead < 20
        with forwarder(backlog):
            wait_until(lambda: is_refusing(backlog))
            assert row(backlog)[0] == row(backlog)[3] == 0
            receiver.status = 200
            backlog.flask("destinations", "resume", "there")
            wait_until(lambda: row(backlog)[0] == NUMBER)
    assert sorted(receiver.taken) == sorted(IDS)
    assert by_user(receiver.taken) == by_user(IDS)
    assert (row(backlog)[3], state(backlog)) == (0, "ok")


def test_kills_while_it_recovers_repeat_events_but_skip_none(backlog):
    """The first 30 events are bad, and the destination takes an event of later ones first."""
    taken, is_slow = [], threading.Event()

    def answer(_, body):
        number = int(json.loads(body)["messageId"].split()[1])
        if is_slow.is_set():
            time.sleep(0.02)
        if number < 30:
            return 400, {}, b"bad"
        taken.append(number)
        return 200, {}, b""

    with answering(answer) as port:
        backlog.flask("destinations", "add", "hook", f"webhook+http://127.0.0.1:{port}/in")
        is_slow.set()
        for _ in range(8):
            with forwarder(backlog) as process:
                before = len(taken)
                wait_until(lambda before=before: len(taken) > before or is_refusing(backlog))
                process.kill()
                process.wait(10)
        is_slow.clear()
        with forwarder(backlog):
            deadline = time.monotonic() + 120
            while row(backlog)[0] < NUMBER and time.monotonic() < deadline:
                backlog.flask("destinations", "resume", "hook")  # do not wait for the back-off
                time.sleep(0.2)
    assert sorted(set(taken)) == list(range(30, NUMBER))
    assert len(taken) <= NUMBER - 30 + 9
    assert backlog.query("SELECT event_id FROM dead_letters ORDER BY 1") == [(n,) for n in range(1, 31)]
    assert state(backlog) == "ok"
