"""No answer of a destination takes much memory or time, or loses an event."""

import gzip
import itertools
import json
import os
import socket
import stat
import threading
import time
import tracemalloc
from contextlib import contextmanager, suppress

import pytest
import urllib3
from factories import event, events, stored_event
from receiver import answer, black_hole, receiving
from service import wait_until

import eventlog
from forwarding import DeliveryRejected, Forwarder, Outcome, RetryLater, http, open_deliverer

HEAD = b"HTTP/1.1 200 OK\r\n"


def stored(number):
    return [stored_event(n) for n in range(1, number + 1)]


@contextmanager
def opened(url):
    kind = open_deliverer(url)
    try:
        yield kind
    finally:
        kind.close()


@pytest.fixture(params=["http://KEY@", "webhook+http://"])
def start_of_url(request):
    return request.param


def endless(connection, _):
    connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")


BOMB = answer(200, gzip.compress(bytes(100_000_000)), "Content-Encoding: gzip")


def bomb(connection, _):
    connection.sendall(BOMB)


def members(connection, _):
    """Send empty gzip members without an end."""
    connection.sendall(HEAD + b"Content-Encoding: gzip\r\n\r\n")
    while True:
        connection.sendall(gzip.compress(b"") * 1000)


def outcome_of(kind):
    """Deliver an event; a service of this API is asked again, since the answer is not the API's."""
    with suppress(RetryLater):
        assert kind.deliver(stored(1)) == Outcome()


@pytest.mark.parametrize("serve", [endless, bomb])
def test_an_answer_is_read_up_to_64_KiB(start_of_url, serve):
    with receiving(serve) as port, opened(f"{start_of_url}127.0.0.1:{port}/in") as kind:
        outcome_of(kind)  # allocates what is allocated only once
        tracemalloc.start()
        try:
            outcome_of(kind)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 16 * http.MAX_ANSWER_BYTES


def drip_body(connection, _):
    connection.sendall(HEAD + b"Content-Length: 1000000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.05)


def drip_head(connection, _):
    connection.sendall(HEAD)
    for number in itertools.count():
        connection.sendall(b"X-%d: y" % number)
        time.sleep(0.05)


@pytest.mark.parametrize("serve", [drip_body, drip_head, members])
def test_an_answer_must_be_complete_within_a_limit(start_of_url, monkeypatch, serve):
    monkeypatch.setattr(http, "MAX_POST_SECONDS", 0.5)
    with (
        receiving(serve) as port,
        opened(f"{start_of_url}127.0.0.1:{port}/in") as kind,
        pytest.raises(RetryLater, match="no whole answer"),
    ):
        kind.deliver(stored(1))


def test_a_connection_is_reused_unless_an_answer_was_cut():
    connections, bodies = [], itertools.chain([b"{}"] * 2, [bytes(2 * http.MAX_ANSWER_BYTES)], itertools.repeat(b"{}"))

    def serve(connection, _):
        connections.append(connection.getpeername())
        connection.sendall(answer(200, next(bodies)))

    with receiving(serve) as port, opened(f"webhook+http://127.0.0.1:{port}/in") as kind:
        kind.deliver(stored(5))
    first, second = connections[0], connections[-1]
    assert connections == [first, first, first, second, second]
    assert first != second


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b"{",
        b"null",
        b'{"success": true, "rejected": [[], {"index": [1]}]}',
    ],
    ids=["deep list", "deep object", "cut", "null", "wrong indexes"],
)
def test_only_the_answer_of_the_api_acknowledges(body):
    def serve(connection, _):
        connection.sendall(answer(200, body))

    with receiving(serve) as port, opened(f"http://KEY@127.0.0.1:{port}/in") as kind:
        if b"success" in body:
            assert kind.deliver(stored(3)) == Outcome()
        else:
            with pytest.raises(RetryLater, match="Not an answer of this API: 200"):
                kind.deliver(stored(3))


def judging(connection, request):
    """Reject events with an odd number, as a tracklog does."""
    batch = json.loads(request.partition(b"\r\n\r\n")[2])["batch"]
    rejected = [
        {"index": index, "code": "id_required", "message": each["messageId"], "errors": ["x" * 300]}
        for index, each in enumerate(batch)
        if int(each["messageId"]) % 2
    ]
    status = 400 if len(rejected) == len(batch) else 200
    connection.sendall(answer(status, json.dumps({"success": status == 200, "rejected": rejected}).encode()))


def test_a_batch_with_too_many_rejections_is_split():
    """The answer to a thousand rejected events has some 200 KB."""
    with receiving(judging) as port, opened(f"http://KEY@127.0.0.1:{port}/in") as kind:
        refused = kind.deliver(stored(1000)).rejected
    assert refused == {index: ("id_required", str(index + 1)) for index in range(0, 1000, 2)}


def test_a_long_html_answer_to_a_batch_is_not_split():
    posts = []

    def serve(connection, request):
        posts.append(request)
        connection.sendall(answer(200, b"<html>" + bytes(100_000)))

    with receiving(serve) as port, opened(f"http://KEY@127.0.0.1:{port}/in") as kind, pytest.raises(RetryLater):
        kind.deliver(stored(1000))
    assert len(posts) == 1


@pytest.mark.parametrize(
    ("status", "outcome"), [(302, RetryLater), (400, DeliveryRejected), (429, RetryLater), (503, RetryLater)]
)
def test_an_error_quotes_only_the_beginning_of_an_answer(start_of_url, status, outcome):
    def serve(connection, _):
        connection.sendall(answer(status, b"x" * 1_000_000))

    with (
        receiving(serve) as port,
        opened(f"{start_of_url}127.0.0.1:{port}/in") as kind,
        pytest.raises(outcome, match=f"^{status} x+$") as raised,
    ):
        kind.deliver(stored(1))
    assert len(str(raised.value)) < 400


# Stopping a forwarder


def silent(connection, _):
    time.sleep(600)


def refusing(connection, _):
    connection.sendall(answer(400))


def failing(connection, _):
    connection.sendall(answer(503))


STARTS = ["http://KEY@127.0.0.1:", "webhook+http://127.0.0.1:", "kafka://127.0.0.1:", "postgresql://127.0.0.1:"]


@contextmanager
def receiver(way):
    with black_hole() if way == "black hole" else receiving(way) as port:
        yield port


@pytest.mark.parametrize("way", [silent, drip_head, drip_body, refusing, failing, "black hole"])
@pytest.mark.parametrize("start", STARTS)
def test_a_forwarder_stops_soon_whatever_its_destination_does(log, way, start):
    log.append([event(n, user_id=str(n)) for n in range(20_000)])
    stop, ended = threading.Event(), threading.Event()

    def forward():
        own = eventlog.EventLog(log.path)
        Forwarder(own, "there", stop=stop, give_up_after=0).run()
        own.close()
        ended.set()

    with receiver(way) as port:
        log.destinations.add("there", f"{start}{port}/in", [], ["example"], 0)
        threading.Thread(target=forward, daemon=True).start()
        time.sleep(1)
        stop.set()
        assert ended.wait(10)
    destination = log.destinations.get("there")
    assert destination.delivered == 0
    assert destination.position == log.destinations.count_dead("there")


def test_a_stopping_forwarder_notes_the_delivery_under_way(log):
    """A restart then repeats nothing, if the destination answers."""
    stop = threading.Event()

    def serve(connection, _):
        stop.set()
        time.sleep(0.3)
        connection.sendall(answer(200))

    log.append(events(3))
    with receiving(serve) as port:
        log.destinations.add("there", f"webhook+http://127.0.0.1:{port}/in", [], [], 0)
        Forwarder(log, "there", stop=stop).run()
    assert log.destinations.get("there").position == 1


@pytest.mark.parametrize("way", [silent, refusing, "black hole"])
@pytest.mark.parametrize("start", STARTS)
def test_a_stopped_forwarder_leaves_no_thread_and_no_socket(log, way, start, monkeypatch):
    monkeypatch.setattr(http, "TIMEOUT", urllib3.Timeout(connect=1, read=60))
    log.append([event(n, user_id=str(n)) for n in range(500)])
    stop = threading.Event()
    with receiver(way) as port:
        log.destinations.add("there", f"{start}{port}/in", [], ["example"], 0)
        before, sockets = threads(), sockets_to(port)  # threads of other tests may still end
        threading.Timer(0.5, stop.set).start()
        Forwarder(log, "there", stop=stop, give_up_after=0).run()
        wait_until(lambda: threads() <= before and sockets_to(port) == sockets, 20)


def threads():
    """Return the threads of this process, except the receiver's."""
    return {each for each in threading.enumerate() if "converse" not in each.name}


def sockets_to(port):
    """Return how many sockets of this process lead to a port."""
    number = 0
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                with socket.socket(fileno=os.dup(descriptor)) as copy:
                    number += copy.getpeername()[1] == port
    return number
