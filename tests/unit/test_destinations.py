"""A destination keeps its identity when its name, its URL or its forwarder changes."""

import json
import multiprocessing
import os
import threading
from contextlib import contextmanager, suppress

import apsw
import pytest
from factories import AT, dead_letters, event, events
from receiver import answer, black_hole, receiving
from recording import Recorder
from service import wait_until

import eventlog
import forwarding
from eventlog import schema
from forwarding import Forwarder, lock


class Meanwhile(Recorder):
    """A destination that calls `do` during its first delivery."""

    def __init__(self, do, fails=False):
        super().__init__()
        self.do = do
        self.fails = fails

    def deliver(self, events):
        do, self.do = self.do, lambda: None
        do()
        if self.fails:
            raise forwarding.RetryLater("no connection")
        return super().deliver(events)


@pytest.fixture
def forward(log):
    """Return a function that forwards once to `there` with a kind of destination."""
    log.append(events(100))
    log.destinations.add("there", "webhook+http://old", [], [], 0)

    def forward(kind):
        return Forwarder(log, "there", stop=threading.Event(), once=True, open_deliverer=lambda *_: kind).run()

    return forward


@pytest.fixture
def again(path):
    """Return a function that replaces the destination by another with the same name."""

    def again():
        own = eventlog.EventLog(path)
        own.destinations.remove("there")
        own.destinations.add("there", "webhook+http://new", [], [], 0)
        own.close()

    return again


@pytest.mark.parametrize("fails", [False, True])
def test_a_new_destination_does_not_inherit_a_position(log, forward, again, fails):
    """The new one replaces the old one, under the same name, during a delivery."""
    assert forward(Meanwhile(again, fails)) is False
    new = log.destinations.get("there")
    assert (new.url, new.position, new.delivered, new.failures) == ("webhook+http://new", 0, 0, 0)
    kind = Recorder()
    assert forward(kind) is True
    assert len(kind.delivered) == 100


def test_a_new_destination_does_not_inherit_dead_letters(log, forward, again):
    class Refusing(Meanwhile):
        def deliver(self, events):
            super().deliver(events)
            raise forwarding.DeliveryRejected("400", "no")

    assert forward(Refusing(again)) is False
    assert log.destinations.count_dead("there") == 0


def test_a_forwarder_changes_only_the_destination_it_knows(log, forward, again):
    old = log.destinations.get("there")
    again()
    before = log.destinations.get("there")
    assert before.id != old.id
    log.destinations.advance(before.id, 1, 0, dead_letters(log.reader.read_after(0)[:1]))
    before = log.destinations.get("there")
    with pytest.raises(eventlog.NotPossible):
        log.destinations.advance(old.id, 100, 100)
    with pytest.raises(eventlog.NotPossible):
        log.destinations.note_batch_end(old.id, 100)
    log.destinations.note_failure(old.id, "no connection")
    log.destinations.delete_dead_letters(old.id, [1])
    assert log.destinations.get("there") == before
    assert log.destinations.count_dead("there") == 1


def test_a_destinations_id_is_never_reused(log):
    ids = []
    for _ in range(3):
        log.destinations.add("there", "webhook+http://old", [], [], 0)
        ids.append(log.destinations.get("there").id)
        log.destinations.remove("there")
    assert len(set(ids)) == 3


def test_a_new_url_keeps_the_position_and_the_filters(log, run):
    log.append(events(10))
    run("destinations", "add", "there", "https://OLD@old.example/v1/batch", "--type", "track", "--from", "5")
    run("destinations", "pause", "there")
    before = log.destinations.get("there")
    log.destinations.note_failure(before.id, "401 unknown source")
    printed = run("destinations", "set", "there", "https://NEW@new.example/v1/batch")
    assert printed == "Destination there now delivers to https://***@new.example/v1/batch\n"
    after = log.destinations.get("there")
    assert after.url == "https://NEW@new.example/v1/batch"
    assert after.last_error is None
    kept = ("id", "types", "sources", "paused", "position", "reserved", "delivered")
    assert [getattr(after, name) for name in kept] == [getattr(before, name) for name in kept]


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("webhook+https://host/", "of the kind segment, but this URL is of the kind webhook"),
        ("https://host/", "it needs a key"),
        ("https://a/b@host/", "is ambiguous"),
    ],
)
def test_a_new_url_must_be_of_the_same_kind(log, run, url, sentence):
    run("destinations", "add", "there", "https://OLD@old.example/v1/batch")
    assert sentence in run("destinations", "set", "there", url, exit_code=1)
    assert log.destinations.get("there").url == "https://OLD@old.example/v1/batch"


def test_a_replay_skips_dead_letters_of_other_sources(log, run):
    log.append([event(1), event(2, source="other")])
    received = []

    def serve(connection, request):
        received.append(json.loads(request.partition(b"\r\n\r\n")[2])["messageId"])
        connection.sendall(answer(200))

    with receiving(serve) as port:
        log.destinations.add("there", f"webhook+http://127.0.0.1:{port}/", [], ["example"], 0)
        dead = dead_letters(log.reader.read_after(0))
        log.destinations.advance(log.destinations.get("there").id, 2, 0, dead)
        assert run("destinations", "replay", "there", "--dead") == "1 delivered\n"
    assert received == ["1"]
    assert [letter.event.source for letter in log.destinations.dead_letters("there")] == ["other"]


def test_the_list_and_the_metrics_show_the_same_backlog(log, run, client):
    """Also when an event in the middle was deleted."""
    log.append([event(1), event(2), event(3, user_id="2"), event(4)])
    run("destinations", "add", "there", "webhook+http://nowhere", "--from", "2")
    log.people.forget(log.people.find("2"))
    _, row = run("destinations", "list").splitlines()[:2]
    waiting = row.split()[3]
    scraped = client.get("/metrics").text
    assert f'tracklog_destination_backlog_events{{destination="there"}} {waiting}.0' in scraped


# One source per key


def test_a_destination_with_a_key_is_bound_to_the_only_source(log, run):
    run("destinations", "add", "there", "https://KEY@host/v1/batch")
    assert log.destinations.get("there").sources == ("example",)


def test_a_source_that_is_added_later_does_not_share_the_key(log, run):
    received = []

    def serve(connection, request):
        received.extend(json.loads(request.partition(b"\r\n\r\n")[2])["batch"])
        connection.sendall(answer(200, b'{"success": true}'))

    with receiving(serve) as port:
        run("destinations", "add", "there", f"http://KEY@127.0.0.1:{port}/v1/batch")
        log.sources.add("later")
        log.append([event(1), event(1, source="later")])
        run("forward", "--once")
    assert received == [{"messageId": "1"}]
    assert log.destinations.get("there").delivered == 1


@pytest.mark.parametrize("sources", [(), ("--source", "example", "--source", "later")])
def test_a_key_for_several_sources_is_rejected(log, run, sources):
    log.sources.add("later")
    printed = run("destinations", "add", "there", "https://KEY@host/v1/batch", *sources, exit_code=1)
    assert "carries one source: name it with --source" in printed


# The upgrade


@pytest.fixture
def upgraded(tmp_path):
    """Return a function that upgrades a log of the version before with these sources and counts."""

    def upgraded(sources, stored):
        path = str(tmp_path / "old.db")
        with pytest.MonkeyPatch.context() as patch:
            before = schema.MIGRATIONS.index("0005_destination_ids.sql")
            patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:before])
            eventlog.create(path)
        connection = apsw.Connection(path)
        for name in sources:
            connection.execute(
                "INSERT INTO sources (id, name, enabled, created_at) VALUES (?, ?, 1, ?)", (name, name, AT)
            )
        for name in stored:
            connection.execute("INSERT INTO counts VALUES (?, 'track', 'stored', '', 1, ?, ?)", (name, AT, AT))
        for name, url, wanted in [
            ("key", "https://KEY@host/v1/batch", []),
            ("bound", "http://KEY@host/v1/batch", ["b"]),
            ("hook", "webhook+https://host/", []),
        ]:
            connection.execute(ADD_AS_BEFORE, (name, url, "[]", json.dumps(wanted), 7, AT))
        connection.close()
        eventlog.migrate(path)
        return path

    return upgraded


ADD_AS_BEFORE = "INSERT INTO destinations (name, url, types, sources, position, created_at) VALUES (?, ?, ?, ?, ?, ?)"


def test_an_upgrade_binds_a_key_to_the_only_source(upgraded):
    log = eventlog.EventLog(upgraded(["a"], ["a"]))
    found = {each.name: (each.sources, each.position, each.last_error) for each in log.destinations.all()}
    assert found == {"key": (("a",), 7, None), "bound": (("b",), 7, None), "hook": ((), 7, None)}
    assert len({each.id for each in log.destinations.all()}) == 3
    log.close()


@pytest.mark.parametrize(("sources", "stored"), [(["a", "b"], []), (["a"], ["a", "imported"]), ([], [])])
def test_an_upgrade_reports_a_key_with_several_sources(upgraded, caplog, sources, stored):
    path = upgraded(sources, stored)
    log = eventlog.EventLog(path)
    failing = [each.name for each in log.destinations.all() if each.last_error]
    assert failing == ["key"]
    assert log.destinations.get("key").last_error.endswith("--source NAME --from 8")
    assert log.destinations.get("key").last_error_at[:2] == "20"
    assert forwarding.forward(path, ["key"], stop=threading.Event(), once=True) is False
    assert "carries several sources with one key" in caplog.text
    assert log.destinations.get("key").last_error.endswith("--source NAME --from 8")
    log.close()


def test_processes_of_the_version_before_still_work(upgraded):
    path = upgraded(["a"], [])
    connection = apsw.Connection(path)
    connection.execute(ADD_AS_BEFORE + " ON CONFLICT DO NOTHING", ("new", "webhook+http://host", "[]", "[]", 0, AT))
    connection.execute("UPDATE destinations SET position = max(position, 9), reserved = NULL WHERE name = 'new'")
    connection.execute("DELETE FROM destinations WHERE name = 'hook'")
    connection.close()
    log = eventlog.EventLog(path)
    assert {each.name: each.position for each in log.destinations.all()} == {"bound": 7, "key": 7, "new": 9}
    assert log.destinations.get("new").id == 4
    log.close()


# Forwarders that run


@contextmanager
def running(path):
    """Run forwarders of all destinations in this process."""
    stop = threading.Event()
    thread = threading.Thread(target=forwarding.forward, args=(path, []), kwargs={"stop": stop})
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
        assert not thread.is_alive()


@contextmanager
def taking():
    """Yield the URL of a webhook, and the list of messageIds that it accepted."""
    taken = []

    def serve(connection, request):
        taken.append(json.loads(request.partition(b"\r\n\r\n")[2])["messageId"])
        connection.sendall(answer(200))

    with receiving(serve) as port:
        yield f"webhook+http://127.0.0.1:{port}/", taken


@pytest.mark.parametrize("way", ["taking", "black hole", "silent", "refused"])
def test_a_running_forwarder_uses_a_new_url(log, way):
    log.append(events(3))
    silence = threading.Event()

    @contextmanager
    def old():
        if way == "taking":
            with taking() as (url, _):
                yield url
        elif way == "black hole":
            with black_hole() as port:
                yield f"webhook+http://127.0.0.1:{port}/"
        elif way == "silent":
            with receiving(lambda *_: silence.wait(60)) as port:
                yield f"webhook+http://127.0.0.1:{port}/"
        else:
            yield "webhook+http://127.0.0.1:1/"

    with old() as old_url, taking() as (url, taken), running(log.path):
        log.destinations.add("there", old_url, [], [], 0)
        if way == "taking":
            wait_until(lambda: log.destinations.get("there").position == 3)
            log.destinations.set_url("there", url, {}, "{}")
            log.append([event(4)])
            expected = ["4"]
        else:
            threading.Event().wait(1)  # until the first attempt is under way
            log.destinations.set_url("there", url, {}, "{}")
            expected = ["1", "2", "3"]
        wait_until(lambda: taken == expected, 8)  # a connect times out after 10 s, an answer after 60 s
        silence.set()


def test_a_destination_added_again_is_served_from_its_start(log, run, path):
    log.append(events(3))
    with taking() as (old, first), taking() as (new, second), running(path):
        run("destinations", "add", "there", old)
        wait_until(lambda: len(first) == 3)
        run("destinations", "remove", "there", "--yes")
        run("destinations", "add", "there", new)
        wait_until(lambda: second == ["1", "2", "3"], 8)
    assert first == ["1", "2", "3"]


def test_a_destination_with_a_fixed_url_is_served(log, run, path, monkeypatch):
    monkeypatch.setattr("forwarding.runner.REOPEN_SECONDS", 600.0)
    log.append([event(1)])
    log.destinations.add("there", "https://host/without/a/key", [], ["example"], 0)
    with taking() as (url, taken), running(path):
        wait_until(lambda: log.destinations.get("there").last_error)
        assert "it needs a key" in log.destinations.get("there").last_error
        log.destinations.set_url("there", url, {}, "{}")
        wait_until(lambda: taken == ["1"], 8)


def test_a_paused_destination_is_resumed(log, path):
    with taking() as (url, taken), running(path):
        log.destinations.add("there", url, [], [], 0)
        for number in range(1, 4):
            log.destinations.pause("there", True)
            log.append([event(number)])
            threading.Event().wait(0.7)
            assert len(taken) == number - 1
            log.destinations.pause("there", False)
            wait_until(lambda number=number: len(taken) == number, 8)


# The lock


def locks(path):
    return [name for name in os.listdir(os.path.dirname(path)) if "-forward-" in name]


def test_the_lock_file_is_deleted_with_the_destination(log, run, path, forward):
    forward(Recorder())
    assert locks(path) == ["tracklog.db-forward-there"]
    run("destinations", "remove", "there", "--yes")
    assert locks(path) == []


def test_a_lock_file_in_use_is_deleted_by_its_forwarder(log, run, path):
    with taking() as (url, taken), running(path):
        log.append([event(1)])
        run("destinations", "add", "there", url)
        wait_until(lambda: taken)
        run("destinations", "remove", "there", "--yes")
        wait_until(lambda: locks(path) == [])


def test_a_lock_that_is_held_is_not_discarded(path):
    with lock.locked(path, "there"):
        lock.discard(path, "there")
        assert locks(path)
        with pytest.raises(BlockingIOError), lock.locked(path, "there", timeout=0):
            pass
    lock.discard(path, "there")
    assert not locks(path)


def hold(path, seconds, held):
    """Take, release and discard the lock repeatedly. Note how many hold it at a time."""
    deadline = lock.monotonic() + seconds
    while lock.monotonic() < deadline:
        with suppress(BlockingIOError), lock.locked(path, "there", timeout=0):
            with held.get_lock():
                held[0] += 1
                held[1] = max(held[1], held[0])
                held[2] += 1
            with held.get_lock():
                held[0] -= 1
        lock.discard(path, "there")


def test_a_lock_is_exclusive_while_it_is_discarded(path):
    """Four processes take, release and discard it all the time."""
    context = multiprocessing.get_context("spawn")
    held = context.Array("i", 3)
    processes = [context.Process(target=hold, args=(path, 2, held)) for _ in range(4)]
    for each in processes:
        each.start()
    for each in processes:
        each.join(30)
    now, most, times = held
    assert (now, most) == (0, 1)
    assert times > 10
