"""The forwarder delivers every event, although it is killed and networks and destinations fail."""

import hashlib
import hmac
import json
import os
import random
import threading
import time

import pytest
from forwarder import answering, forwarder
from receiver import answer as bytes_of
from receiver import black_hole, receiving
from service import EVENT, Clients, Service, wait_until

USERS = 50
SUCCESS = b'{"success": true}'


@pytest.fixture
def second(tmp_path):
    """Yield another running tracklog, to forward to."""
    with Service(tmp_path / "second").with_source("first", "SecondKey") as service:
        service.start()
        yield service


def position(service, name):
    return service.query("SELECT position FROM destinations WHERE name = ?", name)[0][0]


def last_id(service):
    return service.query("SELECT max(id) FROM events")[0][0]


def post_events(service, number):
    """Post events of USERS users, half of them with a timestamp and a sentAt that is hours off the clock."""
    for start in range(0, number, 1000):
        batch = []
        for n in range(start, start + 1000):
            event = {
                "type": "track",
                "userId": f"user {n % USERS}",
                "event": "Posted",
                "messageId": f"event {n}",
                "properties": {"n": n},
            }
            if n % 2:
                event |= {"timestamp": "2015-11-10T00:45:23.412Z", "sentAt": "2015-11-10T05:00:00+02:00"}
            batch.append(event)
        assert service.post("/v1/batch", {"batch": batch})[1]["stored"] == 1000


class Relay:
    """Passes requests on to a service, and makes half of them fail, as a network or a server would."""

    WAYS = (500, 503, 429, "cut before", "cut after")

    def __init__(self, service, seed):
        self.service = service
        self.random = random.Random(seed)
        self.failed = dict.fromkeys(self.WAYS, 0)

    def __call__(self, handler, body):
        way = self.random.choice(self.WAYS) if self.random.random() < 0.5 else "pass"
        if way != "pass":
            self.failed[way] += 1
        if way in (500, 503, 429):
            return way, {"Retry-After": "0"}, b"{}"
        if way == "cut before":
            return None
        with self.service.connection() as connection:
            connection.request("POST", handler.path, body, {"Authorization": handler.headers["Authorization"]})
            answer = connection.getresponse()
            content = answer.read()
        return None if way == "cut after" else (answer.status, {}, content)


@pytest.mark.parametrize("number", [4000, pytest.param(20_000, marks=pytest.mark.full)])
def test_a_second_tracklog_gets_every_event_once_and_in_order(running, second, number):
    """With their times, and although the forwarder is killed ten times and half of the requests fail."""
    post_events(running, number)
    relay = Relay(second, seed=number)
    kills = 0
    with answering(relay) as port:
        running.flask("destinations", "add", "second", f"http://SecondKey@127.0.0.1:{port}/v1/batch")
        while kills < 10 and position(running, "second") < last_id(running):
            with forwarder(running) as process:
                seen, failures = position(running, "second"), sum(relay.failed.values())
                wait_until(
                    lambda seen=seen, failures=failures: (
                        position(running, "second") > seen or sum(relay.failed.values()) > failures
                    )
                )
                process.kill()
                kills += 1
        with forwarder(running):
            wait_until(lambda: position(running, "second") == last_id(running), 120)
    columns = "message_id, user_id, timestamp, json_extract(payload, '$.originalTimestamp')"
    sent = running.query(f"SELECT {columns} FROM events ORDER BY id")
    arrived = second.query(f"SELECT {columns} FROM events ORDER BY id")
    assert sorted(arrived) == sorted(sent)
    for user in range(USERS):
        assert [row for row in arrived if row[1] == f"user {user}"] == [row for row in sent if row[1] == f"user {user}"]
    assert running.query("SELECT count(*) FROM dead_letters") == [(0,)]
    print(f"{number} events once, each user's in order; {kills} kills, relay failed: {relay.failed}")


def test_a_rejected_event_is_a_dead_letter_that_can_be_replayed(running):
    post_events(running, 1000)
    taken, is_fixed = [], threading.Event()

    def answer(handler, body):
        batch = json.loads(body)["batch"]
        if not is_fixed.is_set() and any(event["messageId"] == "event 500" for event in batch):
            return 400, {}, b'{"error": "poison"}'
        taken.extend(event["messageId"] for event in batch)
        return 200, {}, SUCCESS

    with answering(answer) as port:
        running.flask("destinations", "add", "fussy", f"http://KEY@127.0.0.1:{port}/in")
        ended = running.flask("forward", "--once", check=False)
        assert (ended.returncode, ended.stderr.splitlines()[-1]) == (1, "All events are delivered; dead letters: 1")
        assert sorted(taken) == sorted(f"event {n}" for n in range(1000) if n != 500)
        assert "poison" in running.flask("destinations", "dead", "fussy").stdout
        assert running.flask("destinations", "replay", "fussy", "--dead", check=False).returncode == 1
        is_fixed.set()
        assert running.flask("destinations", "replay", "fussy", "--dead").stdout == "1 delivered\n"
        assert taken[-1] == "event 500"
        assert running.flask("forward", "--once").returncode == 0


def test_a_failing_destination_delays_no_other_and_catches_up(running):
    """Clients post about a thousand events per second meanwhile."""
    is_back, taken, late = threading.Event(), [], set()

    def live(handler, body):
        taken.extend(event["messageId"] for event in json.loads(body)["batch"])
        return 200, {}, SUCCESS

    def dead(handler, body):
        if not is_back.is_set():
            return 503, {"Retry-After": "0"}, b"{}"
        late.update(event["messageId"] for event in json.loads(body)["batch"])
        return 200, {}, SUCCESS

    lags = []
    with answering(live) as live_port, answering(dead) as dead_port:
        running.flask("destinations", "add", "live", f"http://KEY@127.0.0.1:{live_port}/in")
        running.flask("destinations", "add", "dead", f"http://KEY@127.0.0.1:{dead_port}/in")
        with forwarder(running), Clients(running.port, 4) as clients:
            wait_until(lambda: taken)
            for _ in range(10):
                reached, began = len(clients.acknowledged), time.monotonic()
                wait_until(lambda reached=reached: len(taken) >= reached)
                lags.append(time.monotonic() - began)
                wait_until(lambda reached=reached: len(clients.acknowledged) > reached + 300)
            assert not late
            is_back.set()
            wait_until(lambda: len(late) > 1000, 60)
    print(f"{len(clients.acknowledged)} events, lag of the live one {max(lags):.2f} s at most")
    assert max(lags) < 2
    assert running.query("SELECT failures > 0 FROM destinations WHERE name = 'dead'") == [(1,)]


@pytest.mark.smoke
def test_a_webhook_gets_each_event_with_signature_and_idempotency_key(running):
    posts = []

    def answer(handler, body):
        posts.append((handler.path, dict(handler.headers), body))
        return (500, {"Retry-After": "0"}, b"") if len(posts) == 2 else (200, {}, b"")

    ids = ["a", "b", "\u00fc\u2603"]
    for id in ids:
        assert running.post("/v1/track", EVENT | {"messageId": id})[0] == 200
    with answering(answer) as port:
        running.environment["TRACKLOG_SECRET_HOOK"] = "hush"
        running.flask(
            "destinations", "add", "hook", f"webhook+http://${{TRACKLOG_SECRET_HOOK}}@127.0.0.1:{port}/in?a=b"
        )
        assert running.flask("forward", "--once").returncode == 0
    assert [json.loads(body)["messageId"] for _, _, body in posts] == ["a", "b", "b", ids[2]]
    assert {path for path, _, _ in posts} == {"/in?a=b"}
    assert [headers["Idempotency-Key"] for _, headers, _ in posts] == ["a", "b", "b", "%C3%BC%E2%98%83"]
    for _, headers, body in posts:
        assert headers["X-Signature"] == f"sha256={hmac.new(b'hush', body, hashlib.sha256).hexdigest()}"


def test_a_running_forwarder_notices_destinations_and_events_soon(running):
    """It needs little CPU time between them."""
    taken = []

    def answer(handler, body):
        taken.extend(event["messageId"] for event in json.loads(body)["batch"])
        return 200, {}, SUCCESS

    with answering(answer) as port, forwarder(running) as process:
        running.flask("destinations", "add", "new", f"http://KEY@127.0.0.1:{port}/in?gzip=false", "--type", "track")
        assert running.post("/v1/track", EVENT | {"messageId": "a"})[0] == 200
        wait_until(lambda: taken == ["a"], 5)
        before = cpu_seconds(process.pid)
        for number in range(5):
            time.sleep(0.4)
            assert running.post("/v1/track", EVENT | {"messageId": str(number)})[0] == 200
            wait_until(lambda number=number: taken[-1] == str(number), 2)
        assert cpu_seconds(process.pid) - before < 1
        assert "ok" in running.flask("destinations", "list").stdout
        assert "KEY" not in running.flask("destinations", "list").stdout


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.smoke
def test_a_second_tracklog_accepts_gzipped_batches(running, second):
    post_events(running, 1000)
    running.flask("destinations", "add", "second", f"http://SecondKey@127.0.0.1:{second.port}/v1/batch?gzip=true")
    assert running.flask("destinations", "test", "second").stdout.startswith(
        "Destination second accepted the event test-"
    )
    assert running.flask("forward", "--once").returncode == 0
    assert second.query("SELECT count(*) FROM events") == [(1001,)]


def refusing(connection, _):
    connection.sendall(bytes_of(400))


def silent(*_):
    time.sleep(600)


def dripping(connection, _):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.05)


@pytest.mark.parametrize("kind", ["http://KEY@", "webhook+http://"])
@pytest.mark.parametrize("way", [refusing, silent, dripping, black_hole])
def test_a_forwarder_ends_soon_after_sigterm(running, kind, way):
    """Whatever a destination does."""
    post_events(running, 10_000)
    with black_hole() if way is black_hole else receiving(way) as port, forwarder(running) as process:
        running.flask("destinations", "add", "there", f"{kind}127.0.0.1:{port}/in")
        if way is refusing:
            wait_until(lambda: "refusing" in running.flask("destinations", "list").stdout)
        time.sleep(1)
        process.terminate()
        began = time.monotonic()
        assert process.wait(15) == 0
        print(f"{kind} {way.__name__}: ended after {time.monotonic() - began:.2f} s")
    assert running.query("SELECT delivered, position = (SELECT count(*) FROM dead_letters) FROM destinations") == [
        (0, 1)
    ]


@pytest.fixture
def two_places():
    """Yield an address that receives events under /old and /new, and the messageIds that each has received."""
    taken = {"old": [], "new": []}

    def answer(handler, body):
        event = json.loads(body)
        taken[handler.path.strip("/")] += [each["messageId"] for each in event.get("batch", [event])]
        return 200, {}, SUCCESS

    with answering(answer) as port:
        yield f"127.0.0.1:{port}", taken


LAST_100 = [f"event {n}" for n in range(900, 1000)]


@pytest.mark.parametrize("kind", ["http://KEY@", "webhook+http://"])
def test_a_destination_that_is_added_again_starts_over(running, two_places, kind):
    """It gets the events that only the removed destination of the same name had got."""
    address, taken = two_places
    post_events(running, 1000)
    with forwarder(running):
        running.flask("destinations", "add", "there", f"{kind}{address}/old", "--from", "901")
        wait_until(lambda: taken["old"])
        running.flask("destinations", "remove", "there", "--yes")
        running.flask("destinations", "add", "there", f"{kind}{address}/new", "--from", "901")
        wait_until(lambda: position(running, "there") == 1000, 60)
    assert sorted(taken["new"]) == LAST_100


def test_a_destination_with_a_new_url_continues_at_its_cursor(running, two_places):
    """It may repeat the events that were being delivered, and skips none."""
    address, taken = two_places
    post_events(running, 1000)
    with forwarder(running):
        running.flask("destinations", "add", "there", f"webhook+http://{address}/old", "--from", "901")
        wait_until(lambda: len(taken["old"]) > 5)
        running.flask("destinations", "set", "there", f"webhook+http://{address}/new")
        wait_until(lambda: position(running, "there") == 1000, 60)
    number = len(taken["old"])
    assert taken["old"] == LAST_100[:number]
    assert taken["new"] in (LAST_100[number:], LAST_100[number - 1 :])


def test_a_destination_with_a_key_stays_bound_to_its_source(running, second):
    event = EVENT | {"messageId": "a"}
    assert running.post("/v1/track", event)[0] == 200
    running.flask("destinations", "add", "second", f"http://SecondKey@127.0.0.1:{second.port}/v1/batch")
    running.flask("sources", "add", "later", "--source-id", "LaterKey")
    wait_until(lambda: running.post("/v1/track", event | {"writeKey": "LaterKey"}, {})[0] == 200)
    assert running.flask("forward", "--once").returncode == 0
    delivered = running.query("SELECT delivered FROM destinations")
    assert second.query("SELECT count(*) FROM events") == delivered == [(1,)]


@pytest.mark.smoke
def test_a_destination_with_a_key_must_name_one_of_several_sources(running):
    running.flask("sources", "add", "other")
    refused = running.flask("destinations", "add", "second", "http://KEY@127.0.0.1:1/v1/batch", check=False)
    assert (refused.returncode, refused.stderr) == (
        1,
        "Error: A destination of this kind carries one source: name it with --source\n",
    )
    running.flask("destinations", "add", "second", "http://KEY@127.0.0.1:1/v1/batch", "--source", "other")
