"""Each destination gets every event in order, until it is acknowledged or rejected."""

import base64
import json
import threading

import apsw
import pytest
from factories import AT, event, events, stored_event
from receiver import answer, receiving
from recording import Recorder

import eventlog
from forwarding import DeliveryRejected, Forwarder, Outcome, RetryLater, find_kind, open_deliverer, redact_url
from forwarding import forward as run_forwarders
from forwarding.attempts import delay


def call(number, type="track", source="example", **fields):
    """Return an event with these fields in its payload."""
    payload = {"type": type, "messageId": str(number), "userId": "1", "event": "e"} | fields
    return event(number, type=type, source=source, payload=json.dumps(payload))


class Scripted(Recorder):
    """A destination that raises the script's failures, one per delivery, and then those of `poison`."""

    max_events = 8

    def __init__(self, *script, poison=lambda event: None):
        super().__init__()
        self.script = list(script)
        self.poison = poison
        self.tries = []

    def deliver(self, events):
        self.tries.append([event.id for event in events])
        if self.script and (failure := self.script.pop(0)):
            raise failure
        for each in events:
            if failure := self.poison(each):
                raise failure
        return super().deliver(events)

    def ids(self):
        return [event.id for event in self.delivered]


@pytest.fixture
def add(log):
    """Return a function that adds a destination and events, and returns one that forwards them."""

    def add(number=20, types=(), sources=(), start=0, appended=None):
        log.append(appended or events(number))
        log.destinations.add("there", "webhook+http://nowhere", types, sources, start)

        def forward(kind, **options):
            forwarder = Forwarder(
                log, "there", stop=threading.Event(), once=True, open_deliverer=lambda *_: kind, **options
            )
            return forwarder.run()

        return forward

    return add


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """Do not wait between attempts, but list the seconds."""
    waited = []
    monkeypatch.setattr("forwarding.attempts.Attempts.wait", lambda self, seconds: waited.append(seconds))
    return waited


def position(log):
    return log.destinations.get("there").position


def test_every_event_is_delivered_in_order(add, log):
    kind = Scripted()
    assert add(20)(kind) is True
    assert kind.ids() == list(range(1, 21))
    assert [len(each) for each in kind.tries] == [8, 8, 4]
    destination = log.destinations.get("there")
    assert (destination.position, destination.delivered, destination.failures) == (20, 20, 0)
    assert destination.last_success_at


@pytest.mark.parametrize(
    ("options", "delivered"),
    [
        ({"types": ["page"]}, [2, 4]),
        ({"sources": ["other"]}, [3]),
        ({"start": 2}, [3, 4]),
        ({"types": ["screen"]}, []),
    ],
)
def test_filtered_events_are_skipped(add, log, options, delivered):
    appended = [event(1), event(2, type="page"), event(3, source="other"), event(4, type="page")]
    kind = Scripted()
    assert add(appended=appended, **options)(kind) is True
    assert kind.ids() == delivered
    assert position(log) == 4


@pytest.mark.parametrize(
    ("integrations", "is_wanted"),
    [
        (None, True),
        ({}, True),
        ({"All": True}, True),
        ({"All": False}, False),
        ({"All": False, "there": True}, True),
        ({"there": False}, False),
        ({"there": {"option": 1}}, True),
        ({"elsewhere": False}, True),
    ],
)
def test_integrations_say_where_an_event_may_go(add, integrations, is_wanted):
    kind = Scripted()
    add(appended=[call(1, integrations=integrations)])(kind)
    assert kind.ids() == ([1] if is_wanted else [])


def test_a_batch_is_retried_unchanged(add, log, waits):
    kind = Scripted(RetryLater("503 busy", 17.0, is_server_fault=True), RetryLater("no connection"), None)
    assert add(3)(kind) is True
    assert kind.tries == [[1, 2, 3]] * 3
    assert kind.ids() == [1, 2, 3]
    assert waits[0] == 17.0
    assert 1 <= waits[1] <= 2
    destination = log.destinations.get("there")
    assert (destination.failures, destination.last_error) == (2, None)


def test_once_gives_up_on_a_dead_destination(add, log):
    kind = Scripted(*[RetryLater("no connection")] * 99)
    assert add(3)(kind) is False
    assert len(kind.tries) == 5
    destination = log.destinations.get("there")
    assert (destination.position, destination.last_error) == (0, "no connection")


def test_a_rejected_batch_is_split_down_to_the_bad_events(add, log):
    kind = Scripted(poison=lambda event: DeliveryRejected("400", "no thirteens") if event.id in (5, 13) else None)
    assert add(20)(kind) is True
    assert kind.ids() == [n for n in range(1, 21) if n not in (5, 13)]
    letters = log.destinations.dead_letters("there")
    assert [(letter.event.id, letter.code, letter.message) for letter in letters] == [
        (5, "400", "no thirteens"),
        (13, "400", "no thirteens"),
    ]
    assert json.loads(letters[0].event.payload)["messageId"] == "5"
    assert letters[0].attempts == 4  # in eight, in four, in two, alone
    assert position(log) == 20


def test_a_batch_with_named_rejections_is_not_split(add, log):
    class Judging(Scripted):
        def deliver(self, events):
            super().deliver(events)
            return Outcome({index: ("bad", "is bad") for index, each in enumerate(events) if each.id == 3})

    kind = Judging()
    assert add(8)(kind) is True
    assert len(kind.tries) == 1
    assert [letter.event.id for letter in log.destinations.dead_letters("there")] == [3]
    assert log.destinations.get("there").delivered == 7


def fault(event):
    return RetryLater("500 oops", is_server_fault=True) if event.id == 6 else None


def test_an_event_that_causes_server_errors_is_a_dead_letter(add, log):
    """Only if the destination accepts the event after it."""
    kind = Scripted(poison=fault)
    assert add(12)(kind, give_up_after=0) is True
    assert [letter.event.id for letter in log.destinations.dead_letters("there")] == [6]
    assert sorted(set(kind.ids())) == [n for n in range(1, 13) if n != 6]
    assert position(log) == 12


def test_no_event_is_blamed_for_a_failing_destination(add, log, waits):
    """Neither before the time to give up nor if every event fails."""
    kind = Scripted(poison=fault)
    assert add(12)(kind) is False
    assert log.destinations.dead_letters("there") == []
    assert position(log) == 0
    dead = Scripted(poison=lambda event: RetryLater("500", is_server_fault=True))

    class Enough(Exception):
        pass

    def enough(self, seconds):
        waits.append(seconds)
        if len(waits) > 30:
            raise Enough

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("forwarding.attempts.Attempts.wait", enough)
        forwarder = Forwarder(log, "there", stop=threading.Event(), open_deliverer=lambda *_: dead, give_up_after=0)
        with pytest.raises(Enough):
            forwarder.run()
    assert log.destinations.dead_letters("there") == []


def test_a_second_forwarder_of_a_destination_is_rejected(add, log, path):
    forward = add(1)

    class Meanwhile(Scripted):
        def deliver(self, events):
            with pytest.raises(eventlog.NotPossible, match="Another forwarder"):
                forward(Scripted())
            return super().deliver(events)

    assert forward(Meanwhile()) is True


def test_no_transaction_is_open_during_a_delivery(add, log, path):
    class Checkpointing(Scripted):
        def deliver(self, events):
            connection = apsw.Connection(path)
            connection.set_busy_timeout(10_000)  # the forwarder reads the next events meanwhile
            busy, in_wal, moved = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0]
            assert (busy, in_wal, moved) == (0, 0, 0)
            connection.close()
            return super().deliver(events)

    assert add(20)(Checkpointing()) is True


def test_a_paused_destination_keeps_its_position(add, log):
    forward = add(3)
    log.destinations.pause("there", True)
    assert forward(Scripted()) is False
    assert position(log) == 0
    log.destinations.pause("there", False)
    assert forward(Scripted()) is True


def test_an_unfinished_batch_is_repeated_unchanged(add, log):
    class Writing(Scripted):
        needs_same_batches = True
        max_wait_seconds = 3600.0

    forward = add(5)
    with pytest.raises(ZeroDivisionError):
        forward(Writing(ZeroDivisionError()))
    assert log.destinations.get("there").reserved == 5
    log.append([event(6)])
    kind = Writing()
    assert forward(kind) is True
    assert kind.tries == [[1, 2, 3, 4, 5], [6]]
    assert log.destinations.get("there").reserved is None


def test_events_of_an_unfinished_batch_that_were_forgotten_are_skipped(add, log):
    forward = add(5)
    log.destinations.note_batch_end(log.destinations.get("there").id, 3)
    log.people.forget(log.people.find("1"))
    log.append([event(6)])
    kind = Scripted()
    assert forward(kind) is True
    assert kind.tries == [[6]]
    assert log.destinations.get("there").reserved is None


def test_a_batch_has_at_most_the_bytes_of_its_kind(add, log):
    """One larger event is a batch of its own."""

    class Small(Scripted):
        max_bytes = 250

    appended = [call(1), call(2), call(3, text="x" * 1000), call(4)]
    kind = Small()
    assert add(appended=appended)(kind) is True
    assert kind.tries == [[1, 2], [3], [4]]


class StopsWhenIdle(threading.Event):
    def wait(self, timeout=None):
        self.set()
        return True


class Waiting(Scripted):
    """A destination that waits for eight events, or until they are old."""

    max_wait_seconds = 3600.0


@pytest.fixture
def forward_until_idle(add, log):
    """Return a function that forwards until there is nothing to do."""

    def forward(kind):
        Forwarder(log, "there", stop=StopsWhenIdle(), open_deliverer=lambda *_: kind).run()

    return forward


def test_events_wait_until_they_are_old_or_enough(add, log, forward_until_idle):
    kind, now = Waiting(), eventlog.times.now()
    add(appended=events(9, received_at=now))
    forward_until_idle(kind)
    log.append([event(10, received_at=now)])
    forward_until_idle(kind)
    assert kind.tries == [[1, 2, 3, 4, 5, 6, 7, 8]]
    log.append([event(11)])
    forward_until_idle(kind)
    assert kind.tries[1:] == [[9, 10, 11]]


FUTURE = "2999-01-01T00:00:00.000Z"


def test_an_event_from_the_future_does_not_delay_others(add, log, forward_until_idle):
    kind = Waiting()
    add(appended=[event(1, received_at=FUTURE), event(2)])
    forward_until_idle(kind)
    assert kind.tries == [[1, 2]]


def test_events_from_the_future_wait_by_the_forwarders_clock(add, log):
    class StopsWhenDelivered(Waiting):
        max_wait_seconds = 0.2

        def deliver(self, events):
            stop.set()
            return super().deliver(events)

    stop, kind = threading.Event(), StopsWhenDelivered()
    threading.Timer(20, stop.set).start()
    add(appended=[event(1, received_at=FUTURE)])
    Forwarder(log, "there", stop=stop, open_deliverer=lambda *_: kind).run()
    assert kind.tries == [[1]]


@pytest.mark.parametrize("ahead", [1, 5, 63, 700])
def test_events_from_the_future_hide_no_older_event(add, log, ahead):
    """A clock that was ahead and stepped back leaves such events."""
    add(appended=[event(n, received_at=FUTURE if n <= ahead else AT) for n in range(1, 1001)])
    assert log.destinations.progress()[0].oldest == AT


def test_delays_grow_and_respect_retry_after():
    assert 0.5 <= delay(1) <= 1
    assert 8 <= delay(5) <= 16
    assert 150 <= delay(50) <= 300
    assert delay(1, 40) == 40
    assert delay(1, 1e9) == 3600


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://KEY@host/v1/batch?gzip=true", "https://***@host/v1/batch?gzip=true"),
        ("https://KEY:@host:8443/v1/batch", "https://***@host:8443/v1/batch"),
        ("https://${TRACKLOG_SECRET_KEY}@host/v1/batch", "https://${TRACKLOG_SECRET_KEY}@host/v1/batch"),
        (
            "kafka://a:9092,b:9092/topic?sasl.password=x&acks=all",
            "kafka://a:9092,b:9092/topic?acks=all&***",
        ),
        ("webhook+https://host/path", "webhook+https://host/path"),
        ("archive+file:///folder?seconds=60", "archive+file:///folder?seconds=60"),
        ("postgresql:///db?host=/run&password=x", "postgresql:///db?host=/run&***"),
    ],
)
def test_secrets_in_urls_are_not_shown(url, shown):
    assert redact_url(url) == shown


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("ftp://host", "not a kind of destination"),
        ("host", "not a kind of destination"),
        ("https://host/v1/batch", "it needs a key"),
        ("https://${TRACKLOG_SECRET_NOT_THERE}@host", "TRACKLOG_SECRET_NOT_THERE"),
        ("webhook+http:///path", "it names no host"),
    ],
)
def test_an_invalid_url_is_rejected_with_a_reason(url, sentence):
    with pytest.raises(eventlog.NotPossible, match=sentence):
        open_deliverer(url)


def test_a_secret_is_read_from_the_environment(monkeypatch):
    monkeypatch.setenv("TRACKLOG_SECRET_KEY", "a/b+c&d#e")
    requests = []

    def serve(connection, request):
        requests.append(request)
        connection.sendall(answer(200, b'{"success": true}'))

    with receiving(serve) as port:
        kind = open_deliverer(f"http://${{TRACKLOG_SECRET_KEY}}@127.0.0.1:{port}/v1/batch?a=${{TRACKLOG_SECRET_KEY}}")
        kind.deliver([stored_event(1)])
        kind.close()
    assert requests[0].startswith(b"POST /v1/batch?a=a%2Fb%2Bc%26d%23e HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Basic " + base64.b64encode(b"a/b+c&d#e:") + b"\r\n" in requests[0]


def test_the_kind_of_a_url_is_found():
    assert find_kind("archive+s3://bucket/prefix") == "archive"


def test_the_destinations_of_an_unavailable_log_are_read_again(log, path, monkeypatch):
    class Stop(threading.Event):
        def wait(self, timeout=None):
            return self.is_set()

    stop, asked, known = Stop(), [], log.destinations.all

    def answer(_):
        asked.append("again")
        if len(asked) == 2:
            raise eventlog.Unavailable
        if len(asked) == 3:
            stop.set()
        return known()

    log.destinations.add("there", "webhook+http://nowhere", [], [], 0)
    monkeypatch.setattr("eventlog.destinations.Destinations.all", answer)
    monkeypatch.setattr("forwarding.forwarder.Forwarder.run", lambda self: True)
    assert run_forwarders(path, [], stop=stop) is True
    assert len(asked) == 3
