"""What a destination answers decides what becomes of an event, and what the operator sees."""

import gzip
import json
import ssl
import subprocess
import threading
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count

import apsw
import pytest
import urllib3
from factories import AT, dead_letters, event, events, stored_event
from needs import need
from receiver import answer, black_hole, receiving
from recording import Recorder
from service import wait_until

import eventlog
import forwarding
from eventlog import dead_letters as letters
from eventlog import schema
from forwarding import DeliveryRejected, Forwarder, Outcome, RetryLater, http, open_deliverer
from forwarding.attempts import Attempts

SUCCESS = b'{"success": true}'
NAMED = b'{"success": true, "rejected": [{"index": 0, "code": "id_required", "message": "no id"}]}'
PAGE = b"<html><form>Log in</form></html>"
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def says(*arguments):
    return lambda connection, _: connection.sendall(answer(*arguments))


def sends(*pieces):
    """Send the pieces and close the connection."""

    def serve(connection, _):
        for piece in pieces:
            connection.sendall(piece)
        connection.shutdown(2)

    return serve


def repeats(head, piece, pause=0.0):
    def serve(connection, _):
        connection.sendall(head)
        while True:
            connection.sendall(piece)
            time.sleep(pause)

    return serve


def silent(_connection, _request):
    time.sleep(600)


#: What is answered; and what becomes of an event with a service of this API, and with a webhook.
ANSWERS = {
    "200": (says(200, SUCCESS), "taken", "taken"),
    "200 in chunks": (sends(CHUNKED, b"11\r\n", SUCCESS, b"\r\n0\r\n\r\n"), "taken", "taken"),
    "200 gzipped": (says(200, gzip.compress(SUCCESS), "Content-Encoding: gzip"), "taken", "taken"),
    "200 after 103": (sends(b"HTTP/1.1 100 Continue\r\n\r\n", answer(200, SUCCESS)), "taken", "taken"),
    "200 without a length": (sends(HEAD, b"\r\n", SUCCESS), "taken", "taken"),
    "200 that lists no one": (says(200, b'{"success": true, "rejected": 1}'), "taken", "taken"),
    "201": (says(201, SUCCESS), "taken", "taken"),
    "202": (says(202, SUCCESS), "taken", "taken"),
    "204": (sends(b"HTTP/1.1 204 No Content\r\n\r\n"), "waits", "taken"),
    "200 empty": (says(200), "waits", "taken"),
    "200 with a login page": (says(200, PAGE), "waits", "taken"),
    "200 with success false": (says(200, b'{"success": false}'), "waits", "taken"),
    "200 with success 1": (says(200, b'{"success": 1}'), "waits", "taken"),
    "200 with another object": (says(200, b'{"ok": true}'), "waits", "taken"),
    "200 with a list": (says(200, b"[true]"), "waits", "taken"),
    "200 with null": (says(200, b"null"), "waits", "taken"),
    "200 with deep JSON": (says(200, b"[" * 60_000), "waits", "taken"),
    "200 not UTF-8": (says(200, b"\xff\x00\x1b[31m"), "waits", "taken"),
    "200 with half an object, no length": (sends(HEAD, b"\r\n", SUCCESS[:-1]), "waits", "taken"),
    "200 with an endless object": (repeats(HEAD + b'\r\n{"a":"', b"x" * 65536), "waits", "taken"),
    "200 endless in chunks": (repeats(CHUNKED, b"10000\r\n" + bytes(65536) + b"\r\n"), "waits", "taken"),
    "200 gzip bomb": (says(200, gzip.compress(bytes(50_000_000)), "Content-Encoding: gzip"), "waits", "taken"),
    "200 that names the event": (says(200, NAMED), "dead", "taken"),
    "400 that names the event": (says(400, NAMED), "dead", "dead"),
    "400": (says(400), "dead", "dead"),
    "400 with a page": (says(400, PAGE), "dead", "dead"),
    "400 endless": (repeats(b"HTTP/1.1 400 No\r\n\r\n", b"x" * 65536), "dead", "dead"),
    "400 gzip bomb": (says(400, gzip.compress(bytes(50_000_000)), "Content-Encoding: gzip"), "dead", "dead"),
    "413": (says(413), "dead", "dead"),
    "422": (says(422, PAGE), "dead", "dead"),
    "401 that names the event": (says(401, NAMED), "waits", "waits"),
    "403 with success true": (says(403, SUCCESS), "waits", "waits"),
    "302 to a page": (says(302, PAGE, "Location: /login"), "waits", "waits"),
    "308 without a place": (says(308), "waits", "waits"),
    "429 with Retry-After": (says(429, b"", "Retry-After: Fri, 31 Dec 9999 23:59:59 GMT"), "waits", "waits"),
    "400 cut": (sends(answer(400, b"x" * 9)[:-1]), "waits", "waits"),
    "200 cut": (sends(answer(200, SUCCESS)[:-1]), "waits", "waits"),
    "200 cut in a chunk": (sends(CHUNKED, b"ff\r\n", SUCCESS), "waits", "waits"),
    "200 cut in gzip": (says(200, gzip.compress(bytes(range(99)))[:-60], "Content-Encoding: gzip"), "waits", "taken"),
    "200 not gzip": (says(200, SUCCESS, "Content-Encoding: gzip"), "waits", "waits"),
    "status cut": (sends(HEAD[:11]), "waits", "waits"),
    "head cut after the status": (sends(HEAD[:-1]), "waits", "taken"),
    "no answer": (sends(), "waits", "waits"),
    "SSH": (sends(b"SSH-2.0-OpenSSH_9.2\r\n"), "waits", "waits"),
    "no status": (sends(b"HTTP/1.1 \r\n\r\n"), "waits", "waits"),
    "status of two digits": (sends(b"HTTP/1.1 20 OK\r\n\r\n"), "waits", "waits"),
    "endless header": (repeats(HEAD + b"X: ", b"x" * 9999), "waits", "waits"),
    "endless headers": (repeats(HEAD, b"X: y\r\n"), "waits", "waits"),
    "endless 100": (repeats(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.01), "waits", "waits"),
    "slow head": (repeats(HEAD + b"X: ", b"x", 0.05), "waits", "waits"),
    "slow body": (repeats(HEAD + b"Content-Length: 99999\r\n\r\n", b" ", 0.05), "waits", "waits"),
    "silent": (silent, "waits", "waits"),
} | {
    str(status): (says(status, b"no"), "waits", "waits")
    for status in (101, *range(300, 309), *range(401, 452), 460, 499, *range(500, 512), 520, 599, 600, 999)
    if status not in (413, 422)
}

#: By fate: delivered, dead letters, failures, the state, and the log line.
SHOWN = {
    "taken": (1, 0, 0, "ok", []),
    "dead": (0, 1, 0, "ok", ["dead_letter"]),
    "waits": (0, 0, 2, "failing", ["destination_failing"]),
}


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """Do not wait between attempts, but list the seconds. Limit what takes long."""
    waited = []
    monkeypatch.setattr(Attempts, "wait", lambda self, seconds: waited.append(seconds))
    monkeypatch.setattr("forwarding.forwarder.MAX_TRIES_ONCE", 2)
    monkeypatch.setattr(http, "MAX_POST_SECONDS", 0.3)
    monkeypatch.setattr(http, "TIMEOUT", urllib3.Timeout(connect=0.3, read=60))
    return waited


@pytest.fixture
def shown(log, run, client, caplog):
    """Return a function that forwards an event once to a URL, and returns what an operator then sees."""

    def shown(url):
        log.append([event(1)])
        log.destinations.add("there", url, [], ["example"], 0)
        Forwarder(log, "there", stop=threading.Event(), once=True).run()
        row = run("destinations", "list").splitlines()[1].split()
        metrics = client.get("/metrics").text
        labels = '{destination="there"}'
        number = {
            name: float(metrics.partition(f"tracklog_destination_{name}{labels} ")[2].split()[0])
            for name in ("deliveries_total", "dead_letters", "failures_total", "backlog_events")
        }
        assert f'tracklog_destination_state{{destination="there",state="{row[1]}"}} 1.0' in metrics
        assert number["backlog_events"] == 1 - number["deliveries_total"] - number["dead_letters"]
        assert bool(log.destinations.get("there").last_error) == (row[1] == "failing")
        lines = [record.event for record in caplog.records if hasattr(record, "event")]
        return (number["deliveries_total"], number["dead_letters"], number["failures_total"], row[1], lines)

    return shown


@pytest.mark.parametrize("answered", ANSWERS)
@pytest.mark.parametrize("kind", ["segment", "webhook"])
def test_an_answer_decides_what_becomes_of_an_event(shown, kind, answered):
    serve, segment, webhook = ANSWERS[answered]
    start, fate = ("http://KEY@", segment) if kind == "segment" else ("webhook+http://", webhook)
    with receiving(serve) as port:
        assert shown(f"{start}127.0.0.1:{port}/in") == SHOWN[fate]


@contextmanager
def tls(folder):
    """Yield the port of a receiver with a certificate that nobody has signed."""
    need("openssl")
    key = f"{folder}/key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, "-keyout", key, "-out", key]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(key)

    def serve(connection, _):
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(65536)

    with receiving(serve, reads=False) as port:
        yield port


def closed(_folder):
    return receiving(silent, listens=False)


PLACES = {
    "nothing listens": ("http", "127.0.0.1", closed),
    "packets are dropped": ("http", "127.0.0.1", lambda _: black_hole()),
    "the host is unknown": ("http", "host.invalid", lambda _: receiving(silent)),
    "no certificate authority": ("https", "127.0.0.1", tls),
    "another host's certificate": ("https", "127.0.0.2", tls),
    "TLS expected, plain HTTP found": ("https", "127.0.0.1", lambda _: receiving(says(200, SUCCESS), reads=False)),
    "plain HTTP expected, TLS found": ("http", "127.0.0.1", tls),
    "closed during the handshake": ("https", "127.0.0.1", lambda _: receiving(sends(), reads=False)),
    "silent during the handshake": ("https", "127.0.0.1", lambda _: receiving(silent, reads=False)),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("start", ["{}://KEY@", "webhook+{}://"])
def test_an_event_waits_for_a_place_that_cannot_be_reached(shown, tmp_path, start, place):
    scheme, host, opened = PLACES[place]
    with opened(tmp_path) as port:
        assert shown(f"{start.format(scheme)}{host}:{port}/in") == SHOWN["waits"]


def test_a_redirect_is_not_followed(shown):
    posts = []

    def serve(connection, request):
        posts.append(request.split()[1])
        connection.sendall(answer(307, b"", "Location: /elsewhere"))

    with receiving(serve) as port:
        shown(f"webhook+http://127.0.0.1:{port}/in")
    assert posts == [b"/in"] * 2


@pytest.mark.parametrize("kind", ["http://KEY@", "webhook+http://"])
@pytest.mark.parametrize("status", [302, 401, 404])
def test_a_backlog_waits_for_a_destination_that_answers_a_wrong_status(log, run, kind, status):
    """Each attempt is one request, and no event becomes a dead letter."""
    posts, taken, is_fixed = [], [], threading.Event()

    def serve(connection, request):
        posts.append(request)
        if is_fixed.is_set():
            body = json.loads(request.partition(b"\r\n\r\n")[2])
            taken.extend(each["messageId"] for each in body.get("batch", [body]))
        connection.sendall(answer(200, SUCCESS) if is_fixed.is_set() else answer(status))

    log.append(events(500))
    with receiving(serve) as port:
        log.destinations.add("there", f"{kind}127.0.0.1:{port}/in", [], ["example"], 0)
        run("forward", "--once", exit_code=1)
        destination = log.destinations.get("there")
        assert (destination.state, destination.position, len(posts)) == ("failing", 0, 2)
        assert destination.last_error.startswith(str(status))
        assert log.destinations.count_dead("there") == 0
        is_fixed.set()
        run("forward", "--once")
    assert taken == [str(n) for n in range(1, 501)]


def test_a_destination_in_trouble_gets_one_post_at_a_time():
    """Also if its events are of many users, who use several lanes."""
    posts = []

    def serve(connection, request):
        posts.append(len(json.loads(request.partition(b"\r\n\r\n")[2])["batch"]))
        connection.sendall(answer(401 if len(posts) in (1, 10) else 200, SUCCESS))

    many = [stored_event(n, user_id=str(n)) for n in range(1, 100)]
    with receiving(serve) as port, closing(open_deliverer(f"http://KEY@127.0.0.1:{port}/in")) as kind:
        with pytest.raises(RetryLater):
            kind.deliver(many)
        assert len(posts) == 1
        assert kind.deliver(many) == Outcome()
        assert sum(posts[1:]) == len(many)
        assert len(posts) == 9
        with pytest.raises(RetryLater):
            kind.deliver(many[:1])
        assert kind.deliver(many[:1]) == Outcome()


def test_a_webhooks_answer_must_contain_what_is_expected(log, run):
    bodies = iter([b"<p>Log in</p>", b"it is ACCEPTED"])
    posts = []

    def serve(connection, request):
        posts.append(request.split()[1])
        connection.sendall(answer(200, next(bodies)))

    log.append(events(1))
    with receiving(serve) as port:
        run("destinations", "add", "there", f"webhook+http://127.0.0.1:{port}/in?expect=is+ACCEPTED&a=b")
        run("forward", "--once")
        assert "expect=is+ACCEPTED" in run("destinations", "list")
    assert posts == [b"/in?a=b"] * 2


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("40", 40),
        ("-1", 0),
        ("nan", 0),
        ("inf", float("inf")),
        ("soon", None),
        ("", None),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0),
        ("Fri, 31 Dec 99999999999 23:59:59 GMT", None),
        ("Fri, 31 Feb 2050 23:59:59 GMT", None),
        ("\xff", None),
    ],
)
def test_retry_after_is_read(header, seconds):
    with receiving(says(503, b"", f"Retry-After: {header}")) as port:
        assert asked_seconds(port) == seconds


@pytest.mark.parametrize("form", ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y"])
def test_retry_after_may_be_any_date_of_http(form, monkeypatch):
    """Dates of HTTP are in UTC, wherever the forwarder runs."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    header = (datetime.now(UTC) + timedelta(minutes=10)).strftime(form)
    with receiving(says(429, b"", f"Retry-After: {header}")) as port:
        assert 500 < asked_seconds(port) <= 600
    monkeypatch.undo()
    time.tzset()


def asked_seconds(port):
    with closing(open_deliverer(f"webhook+http://127.0.0.1:{port}/in")) as kind, pytest.raises(RetryLater) as raised:
        kind.deliver([stored_event(1)])
    return raised.value.retry_after


# A destination that refuses every event


class Judging(Recorder):
    """Takes the events that `takes` allows, and refuses a batch with any other one."""

    max_events = 8

    def __init__(self, takes=lambda event: False):
        super().__init__()
        self.takes = takes
        self.tries = []

    def deliver(self, events):
        self.tries.append([event.id for event in events])
        if not all(map(self.takes, events)):
            raise DeliveryRejected("422", "no such field")
        return super().deliver(events)


class Naming(Judging):
    """The same, but its answer names the events that it refuses."""

    def deliver(self, events):
        self.tries.append([event.id for event in events])
        taken = [event for event in events if self.takes(event)]
        Recorder.deliver(self, taken)
        return Outcome({n: ("bad", "is bad") for n, event in enumerate(events) if event not in taken})


class OneByOne(Judging):
    max_events = 1


KINDS = [Judging, Naming, OneByOne]


@pytest.fixture
def forward(log):
    """Return a function that forwards once to `there` with a kind of destination."""
    log.destinations.add("there", "webhook+http://nowhere", [], [], 0)

    def forward(kind):
        return Forwarder(log, "there", stop=threading.Event(), once=True, open_deliverer=lambda *_: kind).run()

    return forward


def state(log):
    return log.destinations.get("there").state


@pytest.mark.parametrize("make_kind", KINDS)
def test_a_destination_that_refuses_all_is_refusing(log, forward, run, client, caplog, make_kind):
    log.append(events(500))
    kind = make_kind()
    assert forward(kind) is False
    destination = log.destinations.get("there")
    assert (destination.state, destination.position, log.destinations.count_dead("there")) == ("refusing", 0, 0)
    assert len(kind.tries) < 60
    assert "refusing" in run("destinations", "list")
    assert 'tracklog_destination_state{destination="there",state="refusing"} 1.0' in client.get("/metrics").text
    lines = [record.event for record in caplog.records if record.event != "dead_letter"]
    assert lines == ["destination_refusing"]


@pytest.mark.parametrize("make_kind", KINDS)
def test_refused_events_are_delivered_once_and_in_order_when_it_takes_them(log, forward, make_kind):
    log.append(events(500))
    forward(make_kind())
    kind = make_kind(lambda event: True)
    assert forward(kind) is True
    assert [event.id for event in kind.delivered] == list(range(1, 501))
    assert state(log) == "ok"
    assert log.destinations.get("there").delivered == 500


@pytest.mark.parametrize("make_kind", KINDS)
def test_a_refusing_destination_gets_one_or_two_events_at_a_time(log, forward, waits, make_kind):
    log.append(events(100))
    forward(make_kind())
    kind = make_kind()
    forward(kind)
    assert kind.tries == [[1], [21], [1], [22]]
    assert len(waits) > 0


@pytest.mark.parametrize("make_kind", KINDS)
@pytest.mark.parametrize("number", [20, 21, 30, 50])
def test_bad_events_at_the_beginning_do_not_block_the_good_ones(log, forward, monkeypatch, make_kind, number):
    monkeypatch.setattr("forwarding.forwarder.MAX_TRIES_ONCE", 50)
    log.append(events(100))
    kind = make_kind(lambda event: event.id > number)
    assert forward(kind) is True
    assert [event.id for event in kind.delivered] == list(range(number + 1, 101))
    assert [letter.event.id for letter in log.destinations.dead_letters("there")] == list(range(1, number + 1))
    assert state(log) == "ok"


@pytest.mark.parametrize("make_kind", KINDS)
def test_fewer_refusals_in_a_row_are_dead_letters(log, forward, make_kind):
    log.append(events(100))
    kind = make_kind(lambda event: event.id % 20 == 0)
    assert forward(kind) is True
    assert [event.id for event in kind.delivered] == [20, 40, 60, 80, 100]
    assert log.destinations.count_dead("there") == 95


def test_refusals_in_a_row_are_counted_over_restarts(log, forward):
    for number in range(1, 20):
        log.append([event(number)])
        assert forward(OneByOne()) is True
        assert (state(log), log.destinations.count_dead("there")) == ("ok", number)
    log.append([event(20)])
    assert forward(OneByOne()) is False
    assert (state(log), log.destinations.count_dead("there")) == ("refusing", 0)
    kind = OneByOne(lambda event: True)
    assert forward(kind) is True
    assert len(kind.delivered) == 20


def test_skipped_events_do_not_end_a_row_of_refusals(log, forward):
    log.destinations.remove("there")
    log.destinations.add("there", "webhook+http://nowhere", ["page"], [], 0)
    log.append([event(n, type="page" if n % 2 else "track") for n in range(1, 61)])
    assert forward(OneByOne()) is False
    assert (state(log), log.destinations.get("there").position) == ("refusing", 0)


def test_refused_events_that_were_pruned_stay_dead_letters(log, forward, query):
    log.append([event(n, user_id="gone" if n == 3 else "1") for n in range(1, 20)])
    forward(OneByOne())
    with closing(apsw.Connection(log.path)) as connection:
        connection.execute("DELETE FROM events WHERE id = 3")
    log.append([event("last")])
    forward(OneByOne())
    assert [letter.event.id for letter in log.destinations.dead_letters("there")] == [3]
    kind = OneByOne(lambda event: True)
    assert forward(kind) is True
    assert [event.id for event in kind.delivered] == [*range(1, 3), *range(4, 21)]


def test_a_refusing_destination_without_events_is_ok(log, forward):
    log.append(events(20))
    forward(OneByOne())
    log.people.forget(log.people.find("1"))
    assert forward(OneByOne()) is True
    assert state(log) == "ok"


def test_a_refusing_destination_that_fails_stays_refusing(log, forward):
    class Failing(OneByOne):
        def deliver(self, events):
            raise RetryLater("503 busy")

    log.append(events(20))
    forward(OneByOne())
    assert forward(Failing()) is False
    assert (state(log), log.destinations.get("there").last_error) == ("refusing", "503 busy")


@pytest.mark.parametrize("kind", ["set", "test"])
def test_a_new_url_or_a_test_that_succeeds_ends_the_state(log, forward, run, kind):
    log.append(events(20))
    with receiving(says(200)) as port:
        forward(OneByOne())
        url = f"webhook+http://127.0.0.1:{port}/"
        with closing(apsw.Connection(log.path)) as connection:
            connection.execute("UPDATE destinations SET url = ?", (url,))
        run("destinations", *(("set", "there", url) if kind == "set" else ("test", "there")))
    assert state(log) == "ok"
    kind = OneByOne(lambda event: True)
    assert forward(kind) is True
    assert len(kind.delivered) == 20


# A forwarder that runs


@contextmanager
def running(log):
    """Run forwarders of all destinations in this process."""
    stop = threading.Event()
    thread = threading.Thread(target=forwarding.forward, args=(log.path, []), kwargs={"stop": stop})
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()


@pytest.mark.parametrize("status", [401, 400])
def test_resume_ends_the_wait_after_a_failure(log, run, monkeypatch, status):
    monkeypatch.undo()  # wait as in production,
    monkeypatch.setattr("forwarding.attempts.FIRST_DELAY_SECONDS", 600.0)  # but for ever
    monkeypatch.setattr("forwarding.attempts.MAX_DELAY_SECONDS", 600.0)
    answers, posts = iter([status] * (20 + 2 if status == 400 else 1)), count()

    def serve(connection, _):
        next(posts)
        connection.sendall(answer(next(answers, 200)))

    log.append(events(30))
    with receiving(serve) as port, running(log):
        log.destinations.add("there", f"webhook+http://127.0.0.1:{port}/", [], [], 0)
        expected = "failing" if status == 401 else "refusing"
        wait_until(lambda: state(log) == expected and log.destinations.get("there").failures in (1, 2), 20)
        time.sleep(1)
        assert log.destinations.get("there").delivered == 0
        run("destinations", "resume", "there")
        wait_until(lambda: log.destinations.get("there").delivered == 30, 20)
        assert state(log) == "ok"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("webhook+https://${NOT_THERE}@host/", "NOT_THERE"),
        ("later://host/", "is not a kind"),
        ("webhook+https:///", "names no host"),
        ("archive+nothing://a/b", "nothing"),
    ],
)
def test_a_destination_that_cannot_be_opened_is_failing(log, run, client, url, reason):
    log.destinations.add("there", url, [], [], 0)
    run("forward", "--once", exit_code=1)
    listed = run("destinations", "list")
    assert listed.splitlines()[1].split()[1] == "failing"
    assert reason in listed
    assert 'tracklog_destination_state{destination="there",state="failing"} 1.0' in client.get("/metrics").text


def test_a_destination_whose_package_is_missing_is_failing(log, run, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "forwarding.kafka", None)
    log.destinations.add("there", "kafka://127.0.0.1:1/topic", [], [], 0)
    run("forward", "--once", exit_code=1)
    assert state(log) == "failing"
    assert "needs its extra" in log.destinations.get("there").last_error


def test_a_bug_in_the_forwarder_is_a_failure(log, run, monkeypatch):
    monkeypatch.setattr("forwarding.webhook.Webhook.deliver", lambda *_: 1 / 0)
    log.append([event(1)])
    log.destinations.add("there", "webhook+http://127.0.0.1:1/", [], [], 0)
    run("forward", "--once", exit_code=1)
    assert log.destinations.get("there").last_error == "The forwarder failed: ZeroDivisionError: division by zero"


def test_a_fixed_destination_with_nothing_to_deliver_is_ok(log, run, monkeypatch):
    log.destinations.add("there", "webhook+http://${TRACKLOG_SECRET_HOST_LATER}/", [], [], 0)
    run("forward", "--once", exit_code=1)
    assert state(log) == "failing"
    monkeypatch.setenv("TRACKLOG_SECRET_HOST_LATER", "127.0.0.1:1")
    run("forward", "--once")
    assert state(log) == "ok"


# The test command


@pytest.mark.parametrize("kind", ["http://KEY-4711@", "webhook+http://KEY-4711@"])
@pytest.mark.parametrize(
    ("status", "body", "exit_code", "shown"),
    [
        (200, SUCCESS, 0, 'It answered 200 {"success": true}'),
        (401, b"<h1>Who are you?\r\n\x1b[31m</h1>", 1, "401 <h1>Who are you????[31m</h1>"),
        (400, b"KEY-4711 is wrong", 1, "400 *** is wrong"),
        (302, b"", 1, "302"),
        (503, b"x" * 100_000, 1, "503 xxx"),
    ],
)
def test_the_test_command_reports_what_came_back(log, run, kind, status, body, exit_code, shown):
    posts = []

    def serve(connection, request):
        posts.append(request)
        connection.sendall(answer(status, body, "Retry-After: 3600"))

    with receiving(serve) as port:
        log.destinations.add("there", f"{kind}127.0.0.1:{port}/in", [], ["example"], 0)
        printed = run("destinations", "test", "there", exit_code=exit_code)
    assert shown in printed
    assert len(printed) < 600
    assert len(posts) == 1


# Dead letters


def test_dead_letters_are_pruned_with_the_events(log, run):
    log.append(events(3, received_at=eventlog.times.now()))
    log.destinations.add("there", "webhook+http://nowhere", [], [], 0)
    old, *new = log.reader.read_after(0)
    id = log.destinations.get("there").id
    log.destinations.advance(id, 1, 1, dead_letters([old]))
    log.destinations.advance(id, 3, 1, [each._replace(died_at=eventlog.times.now()) for each in dead_letters(new)])
    assert "and 1 dead letters" in run("events", "prune", "--older-than", "30d")
    assert [letter.event.id for letter in log.destinations.dead_letters("there")] == [2, 3]


def test_a_destination_keeps_only_the_newest_dead_letters(log, monkeypatch):
    monkeypatch.setattr(letters, "_DELETE_SURPLUS", letters._DELETE_SURPLUS.replace("OFFSET 10000", "OFFSET 5"))
    log.append(events(8))
    for name in ("here", "there"):
        log.destinations.add(name, "webhook+http://nowhere", [], [], 0)
        for each in log.reader.read_after(0)[: 3 if name == "here" else 8]:
            log.destinations.advance(log.destinations.get(name).id, each.id, 0, dead_letters([each]))
    assert [letter.event.id for letter in log.destinations.dead_letters("there")] == [4, 5, 6, 7, 8]
    assert log.destinations.count_dead("here") == 3


# The upgrade


def test_an_upgrade_keeps_positions_and_dead_letters(tmp_path):
    path = str(tmp_path / "old.db")
    with pytest.MonkeyPatch.context() as patch:
        before = next(n for n, name in enumerate(schema.MIGRATIONS) if "destination_states" in name)
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:before])
        eventlog.create(path)
    add = "INSERT INTO destinations (name, url, types, sources, position, created_at) VALUES (?, ?, '[]', '[]', 7, ?)"
    with closing(apsw.Connection(path)) as connection:
        connection.execute(add, ("there", "webhook+http://host", AT))
    eventlog.migrate(path)
    with closing(apsw.Connection(path)) as connection:  # a command of the version before
        connection.execute(add, ("new", "webhook+http://host", AT))
    log = eventlog.EventLog(path)
    assert {each.name: (each.state, each.position) for each in log.destinations.all()} == {
        "there": ("ok", 7),
        "new": ("ok", 7),
    }
    log.close()


# The log lines


def test_a_destination_that_answers_again_has_recovered(log, forward, caplog):
    """Also if its first answer is a refusal."""

    class Recovering(OneByOne):
        def deliver(self, events):
            self.tries.append(events)
            if len(self.tries) == 1:
                raise RetryLater("503 busy")
            raise DeliveryRejected("400", "no")

    log.append([event(1)])
    assert forward(Recovering()) is True
    lines = [record.event for record in caplog.records]
    assert lines == ["destination_failing", "dead_letter", "destination_recovered"]
    assert state(log) == "ok"


def test_a_test_event_needs_a_source(log, run):
    (source,) = log.sources.all()
    run("sources", "remove", source.name)
    log.destinations.add("there", "webhook+http://127.0.0.1:9", [], [], 0)
    assert "The log has no source" in run("destinations", "test", "there", exit_code=1)
