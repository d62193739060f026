"""Unchanged client libraries work with tracklog, directly and behind nginx."""

import json
import re
import sqlite3
from functools import partial
from http.server import ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

import pytest
from library import CLIENTS, Library, QuietHandler
from needs import need
from service import wait_until

LIBRARIES = ["astronomer", "segment_python", "analytics_node", "analytics_next", "analytics_next, batching"]
REFUSED_CALL = "groupId: a lone surrogate"
LONE_SURROGATES = "[\ud800-\udfff]"


@pytest.fixture(params=["direct", "nginx"])
def endpoint(request):
    """Return the URL of a running tracklog."""
    fixture = {"direct": "running", "nginx": "nginx"}[request.param]
    return f"http://127.0.0.1:{request.getfixturevalue(fixture).port}"


@pytest.fixture
def site():
    """Yield the URL of a web site whose origin differs from the tracklog's."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=CLIENTS))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def start(request, endpoint):
    """Return a function that starts a library, which makes the named calls."""

    def start(name, *calls):
        name, _, options = name.partition(", ")
        if name != "analytics_next":
            return Library(name, endpoint, *calls)
        need("chromium")
        return Library(name, endpoint, f"{request.getfixturevalue('site')}/analytics_next.html?{options}", *calls)

    return start


@pytest.fixture
def deliver(start):
    """Return a function that does the same, waits for all answers, and returns the ended library."""

    def deliver(name, *calls):
        with start(name, *calls) as library:
            library.wait_for("done")
            wait_until(lambda: library.made().keys() <= ids(library.posted()))
        return library

    return deliver


def ids(events):
    return {event["messageId"] for event in events}


def stored(service):
    """Return the events of the log by messageId."""
    return {id: json.loads(payload) for id, payload in service.query("SELECT message_id, payload FROM events")}


def kept(service):
    """Return the code of each rejection, by messageId."""
    return {json.loads(body)["messageId"]: code for body, code in service.query("SELECT body, code FROM rejected")}


def times_seen(service):
    return [times for (times,) in service.query("SELECT times_seen FROM rejected")]


def counts(service):
    return dict(service.query("SELECT outcome, sum(count) FROM counts GROUP BY outcome"))


def text_of(event, *fields):
    """Return the first of the fields that is present, as text."""
    return next((str(event[field]).strip() for field in fields if event.get(field) is not None), "")


ID_FIELDS = ("userId", "anonymousId", "groupId", "previousId")
ALL_IDS = (*ID_FIELDS, "messageId")
FAULTS = {
    "event_too_large": lambda event: len(json.dumps(event)) > 512 * 1024,
    "too_deep": lambda event: json.dumps(event).count('{"in": ') > 200,
    "invalid_number": lambda event: re.search('": (NaN|Infinity)', json.dumps(event)),
    "invalid_text": lambda event: re.search(LONE_SURROGATES, "".join(str(event.get(id)) for id in ALL_IDS)),
    "id_not_string": lambda event: any(isinstance(event.get(field), bool | list) for field in ID_FIELDS),
    "id_invalid": lambda event: any("\0" in text_of(event, field) for field in ID_FIELDS),
    "group_id_required": lambda event: event["type"] == "group" and not text_of(event, "groupId"),
    "previous_id_required": lambda event: event["type"] == "alias" and not text_of(event, "previousId"),
    "id_required": lambda event: not text_of(event, "userId", "anonymousId"),
    "event_not_defined": lambda event: event["type"] == "track" and not event["event"],
    "timestamp_invalid": lambda event: event["timestamp"] in ("soon", "+010000-01-01T00:00:00.000Z"),
    "message_id_too_long": lambda event: len(event["messageId"]) > 255,
}


def fault_in(event):
    """Return the code with which the API refuses a posted event, or None. Libraries change what they are given."""
    return next((code for code, is_so in FAULTS.items() if is_so(event)), None)


def check_record(event, posted):
    """Check that the log has every field of a posted event, with the types and all digits of numbers.

    Half an emoji becomes U+FFFD.
    """
    for field, value in posted.items():
        if field in ("writeKey", "sentAt") or value is None:
            continue
        elif field == "context":
            recorded = {name: event["context"][name] for name in value}
        elif field in (*ID_FIELDS, "event"):
            value, recorded = text_of(posted, field) or None, event.get(field)
        else:
            recorded = event["originalTimestamp" if field == "timestamp" else field]
        sent = re.sub(LONE_SURROGATES, "\ufffd", json.dumps(value, sort_keys=True, ensure_ascii=False))
        assert json.dumps(recorded, sort_keys=True, ensure_ascii=False) == sent
    assert "writeKey" not in event


@pytest.mark.parametrize("name", LIBRARIES)
def test_every_call_of_a_library_is_stored_once_or_kept(name, deliver, service):
    library = deliver(name, "every")
    assert {"identify", "track", "page", "screen", "group", "alias"} <= set(library.made().values())
    posted = {event["messageId"]: event for event in library.posted()}
    assert library.made().keys() == posted.keys()
    assert len(library.posted()) == len(posted), "an event was sent again"
    events, faults = stored(service), {id: fault_in(event) for id, event in posted.items()}
    assert kept(service) == {id: fault for id, fault in faults.items() if fault}
    assert events.keys() == {id for id, fault in faults.items() if not fault}
    for id, event in events.items():
        check_record(event, posted[id])
    assert counts(service) == {"stored": len(events), "rejected": len(posted) - len(events)}


def test_the_legacy_library_stores_a_batch_of_4_mb(deliver, service):
    library = deliver("astronomer", *(f"40 KB, {number}" for number in range(100)))
    assert library.answers() == [200]
    assert stored(service).keys() == library.made().keys()


@pytest.mark.parametrize(("name", "sent"), [(name, 5 if name == "astronomer" else 1) for name in LIBRARIES])
def test_a_library_soon_gives_up_a_refused_event(name, sent, deliver, service):
    """The legacy library sends an event five times within a moment, unless the answer is 200, and then gives up."""
    library = deliver(name, REFUSED_CALL)
    assert library.answers() == [400] * sent
    assert times_seen(service) == [sent]
    (id,) = library.made()
    assert kept(service) == {id: "invalid_text"}
    if name != "analytics_next, batching":  # it reports nothing
        assert [line["failed"] for line in library.said("failed")] == [[id]]
    assert [line["held"] for line in library.said("held")] in ([], [[]])


def move(path):
    """Move the log away, and return a function that moves it back."""
    away = path.with_name("away.db")
    path.rename(away)
    return lambda: away.rename(path)


@pytest.mark.parametrize("name", ["segment_python", "analytics_next, batching"])
def test_an_event_is_stored_once_after_a_503(name, start, service):
    bring_back = move(service.database)
    with start(name, "track") as library:
        wait_until(library.answers)
        bring_back()
        wait_until(lambda: stored(service))
        library.wait_for("done")
        wait_until(lambda: library.answers()[-1] == 200)
    *before, last = library.answers()
    assert (set(before), last) == ({503}, 200)
    assert stored(service).keys() == library.made().keys()
    assert counts(service) == {"stored": 1}
    if name == "segment_python":  # the only library that reads the Retry-After of a 503
        assert before == [503]


def test_the_legacy_library_survives_a_lock_of_some_seconds(start, service):
    lock = sqlite3.connect(service.database, isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    with start("astronomer", "track") as library:
        wait_until(library.answers)
        lock.execute("ROLLBACK")
        lock.close()
        library.wait_for("done")
    assert library.answers() == [503, 200]
    assert stored(service).keys() == library.made().keys()


def test_a_web_page_of_another_origin_records_its_view(start, service, site):
    with start("analytics_next") as library:
        wait_until(lambda: stored(service))
        wait_until(lambda: {"/v1/p", "/v1/m"} <= {urlsplit(line["url"]).path for line in library.said("answer")})
        library.wait_for("preflight")
    (event,) = stored(service).values()
    assert event["type"] == "page"
    assert event["context"]["page"]["url"].startswith(f"{site}/analytics_next.html")
    assert event["context"]["page"]["title"] == "Tours of the galaxy"
    assert event["context"]["ip"] == "127.0.0.1"
    assert {line["preflight"] for line in library.said("preflight")} == {204}
    assert {line["answer"] for line in library.said("answer")} == {200}
