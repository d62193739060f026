"""A closed object leaves no descriptor, thread or file behind, even after a failure."""

import fcntl
import inspect
import os
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import apsw
import click
import pytest
from confluent_kafka import Producer
from factories import damage_index, dead_letters, event, events, new_log, rejection
from fake_runtime import FakeRuntime
from postgres import PASSWORD, USER, Cluster
from recording import Recorder

import eventlog
import forwarding
from app import create_app
from config import Config
from eventlog import NotPossible, Unavailable
from forwarding.urls import KIND_BY_SCHEME

EVENT, NEW, REJECTED = event("1"), event("2"), rejection()
FAILURES = (Unavailable, NotPossible, OSError)


def held():
    """Return the open descriptors, by target, and the threads of this process."""
    found = Counter(map(str, threading.enumerate()))
    found.update(f"thread {id}" for id in os.listdir("/proc/self/task"))
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the listing's own descriptor
            found[os.readlink(f"/proc/self/fd/{descriptor}")] += 1
    return found


@pytest.fixture
def leaves_nothing(tmp_path):
    """Return a function that calls `use` with a path in an empty folder, and checks what it leaves.

    In the first call, libraries open what they keep open. A failure is kept until the check, because its
    traceback keeps objects alive that would otherwise be closed by chance.
    """

    def check(use, files=("tracklog.db", "tracklog.db-queue")):
        for name in ("first", "second"):
            folder = tmp_path / name
            folder.mkdir()
            before = held()
            outcome = outcome_of(lambda folder=folder: use(str(folder / "tracklog.db")))
        deadline = time.monotonic() + 10
        while (left := held() - before) and time.monotonic() < deadline:
            time.sleep(0.01)  # for the other ends of connections
        assert not left, outcome
        assert set(os.listdir(folder)) <= set(files)
        return outcome

    return check


def outcome_of(call):
    """Return the result of a call, or its failure."""
    try:
        return call()
    except FAILURES as failure:
        return failure


@pytest.fixture(scope="module")
def make_log(tmp_path_factory):
    """Return a function that makes a log with one of everything."""
    made = str(tmp_path_factory.mktemp("made") / "tracklog.db")
    folder = tmp_path_factory.mktemp("archive")
    with closing(new_log(made)) as log:
        log.append([EVENT], [REJECTED])
        log.destinations.add("there", f"archive+file://{folder}", [], [], 0)
        log.destinations.advance(log.destinations.get("there").id, 0, 0, dead_letters(log.reader.read_after(0)))
    return lambda path: shutil.copy(made, path)


# Situations in which a log is opened


def nothing(path):
    pass


def delete(path):
    os.unlink(path)


def write_text(path):
    with open(path, "w") as file:
        file.write("This is no database. " * 1000)


def truncate(path):
    os.truncate(path, 5000)


def make_older(path):
    with closing(apsw.Connection(path)) as connection:
        connection.pragma("user_version", 1)


SITUATIONS = {
    "a log": nothing,
    "no file": delete,
    "text": write_text,
    "half a file": truncate,
    "an older log": make_older,
}


# The event log

CALLS = {
    "append": lambda log: log.append([NEW], [REJECTED]),
    "import_events": lambda log: log.import_events([(7, NEW)]),
    "backup_age": lambda log: log.backup_age(),
    "back_up": lambda log: log.back_up(log.path + "-copy", lambda done, pages: None),
    "prove_writable": lambda log: log.prove_writable(1),
    "space": lambda log: log.space(),
    "observe": lambda log: log.observe(lambda seconds, size: None),
    "run_on": lambda log: log.run_on(FakeRuntime()),
    "close": lambda log: log.close(),
    "close_if_moved": lambda log: log.close_if_moved(),
    "keep_reserve": lambda log: log.keep_reserve(),
    "make_room": lambda log: log.make_room(),
    "reader.read_after": lambda log: log.reader.read_after(0),
    "reader.read_last": lambda log: log.reader.read_last(1),
    "reader.read_next": lambda log: log.reader.read_next(0, 1, 1),
    "reader.read_range": lambda log: log.reader.read_range(0, 1),
    "reader.measure": lambda log: log.reader.measure(0, 1, 1),
    "reader.last_id": lambda log: log.reader.last_id(),
    "reader.counts": lambda log: log.reader.counts(),
    "reader.problems": lambda log: log.reader.problems(),
    "sources.find": lambda log: log.sources.find("ILoveData123"),
    "sources.named": lambda log: log.sources.named("example"),
    "sources.all": lambda log: log.sources.all(),
    "sources.add": lambda log: log.sources.add("website"),
    "sources.set_enabled": lambda log: log.sources.set_enabled("example", False),
    "sources.all_keys": lambda log: log.sources.all_keys(),
    "sources.add_key": lambda log: log.sources.add_key("example"),
    "sources.retire_key": lambda log: log.sources.retire_key("example", log.sources.add_key("example").id),
    "sources.remove": lambda log: log.sources.remove(log.sources.add("typo").name),
    "rejections.get": lambda log: log.rejections.get(1),
    "rejections.last": lambda log: log.rejections.last(1),
    "rejections.read_after": lambda log: log.rejections.read_after(0, 1),
    "rejections.last_id": lambda log: log.rejections.last_id(),
    "rejections.ids": lambda log: log.rejections.ids(),
    "rejections.mark_replayed": lambda log: log.rejections.mark_replayed(1, [EVENT]),
    "rejections.delete": lambda log: log.rejections.delete([1]),
    "destinations.all": lambda log: log.destinations.all(),
    "destinations.progress": lambda log: log.destinations.progress(),
    "destinations.get": lambda log: log.destinations.get("there"),
    "destinations.add": lambda log: log.destinations.add("second", "webhook+http://host", [], [], 0),
    "destinations.remove": lambda log: log.destinations.remove("there"),
    "destinations.pause": lambda log: log.destinations.pause("there", True),
    "destinations.set_url": lambda log: log.destinations.set_url("there", "webhook+http://host", {}, "{}"),
    "destinations.note_batch_end": lambda log: log.destinations.note_batch_end(1, 1),
    "destinations.advance": lambda log: log.destinations.advance(1, 1, 1),
    "destinations.forget_failures": lambda log: log.destinations.forget_failures(1),
    "destinations.note_failure": lambda log: log.destinations.note_failure(1, "no"),
    "destinations.dead_letters": lambda log: log.destinations.dead_letters("there"),
    "destinations.count_dead": lambda log: log.destinations.count_dead("there"),
    "destinations.delete_dead_letters": lambda log: log.destinations.delete_dead_letters(1, [1]),
    "retention.held": lambda log: log.retention.held(),
    "retention.prune": lambda log: log.retention.prune(before="2020", even_undelivered=True),
    "retention.estimate": lambda log: log.retention.estimate("2020", 1),
    "retention.used_bytes": lambda log: log.retention.used_bytes(),
    "people.find": lambda log: log.people.find("1"),
    "people.find_by_trait": lambda log: log.people.find_by_trait(eventlog.Trait("email", "a@example.com", True)),
    "people.estimate": lambda log: log.people.estimate(passes=3),
    "people.estimate_forget": lambda log: log.people.estimate_forget(log.people.find("1")),
    "people.forget": lambda log: log.people.forget(log.people.find("1")),
}
WITHOUT_THE_FILE = {"observe", "run_on", "close", "close_if_moved", "keep_reserve", "make_room", "space", "backup_age"}


def public_methods(thing):
    return [name for name, _ in inspect.getmembers(thing, inspect.ismethod) if not name.startswith("_")]


def test_every_method_of_the_log_is_called_here(log):
    parts = {name: part for name, part in vars(log).items() if not name.startswith("_") and name != "path"}
    methods = [*public_methods(log), *(f"{name}.{method}" for name in parts for method in public_methods(parts[name]))]
    assert sorted(methods) == sorted(CALLS)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_closed_log_leaves_nothing(leaves_nothing, make_log, situation, call):
    def use(path):
        make_log(path)
        SITUATIONS[situation](path)
        with closing(eventlog.EventLog(path)) as log:
            return CALLS[call](log)

    outcome = leaves_nothing(use, ("tracklog.db", "tracklog.db-queue", "tracklog.db-copy", "tracklog.db-backup-time"))
    fails = situation not in ("a log", "half a file") and call not in WITHOUT_THE_FILE
    assert isinstance(outcome, FAILURES) or not fails
    assert not isinstance(outcome, FAILURES) or situation != "a log"


@pytest.mark.parametrize("open_log", [eventlog.create, eventlog.migrate])
@pytest.mark.parametrize("situation", SITUATIONS)
def test_creating_and_migrating_leave_nothing(leaves_nothing, make_log, situation, open_log):
    def use(path):
        make_log(path)
        SITUATIONS[situation](path)
        open_log(path)

    leaves_nothing(use)


def test_a_failed_create_leaves_only_an_empty_file(leaves_nothing, monkeypatch):
    """The queue's file is left too."""
    monkeypatch.setattr("eventlog.schema.MIGRATIONS", ["0001_initial.sql", "missing.sql"])
    assert isinstance(leaves_nothing(eventlog.create), Unavailable)


@contextmanager
def busy(path):
    """Block every writer."""
    with open(path + "-queue", "w") as queue:
        fcntl.flock(queue, fcntl.LOCK_EX)
        yield


@contextmanager
def read(path):
    """Block every process that needs the log for itself."""
    with closing(apsw.Connection(path)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT * FROM events").fetchall()
        yield


@pytest.fixture
def impatient(monkeypatch):
    for name, module in list(sys.modules.items()):
        for constant in ("WAIT_SECONDS", "MAX_WAIT_SECONDS"):
            if name.startswith("eventlog.") and hasattr(module, constant):
                monkeypatch.setattr(module, constant, 0.05)


@pytest.mark.parametrize(("call", "others"), [("append", busy), ("people.forget", busy), ("people.forget", read)])
def test_a_log_that_others_block_leaves_nothing(leaves_nothing, make_log, impatient, call, others):
    def use(path):
        make_log(path)
        with others(path), closing(eventlog.EventLog(path)) as log:
            return outcome_of(lambda: CALLS[call](log))

    assert isinstance(leaves_nothing(use), Unavailable)


def fail(*_):
    raise OSError("no space left on device")


@pytest.mark.parametrize("cause", ["it exists", "no folder", "the disk is full", "it is broken"])
def test_a_failed_backup_leaves_nothing(leaves_nothing, make_log, cause):
    def use(path):
        make_log(path)
        target = {"it exists": path, "no folder": path + "/copy"}.get(cause, path + "-copy")
        if cause == "it is broken":
            damage_index(path)
        with closing(eventlog.EventLog(path)) as log:
            return log.back_up(target, fail if cause == "the disk is full" else nothing_to_report)

    failure = leaves_nothing(use)
    assert isinstance(failure, FAILURES)
    assert cause != "it is broken" or "The copy is broken" in str(failure)


def nothing_to_report(done, pages):
    pass


def test_a_checkpoint_leaves_nothing(leaves_nothing, make_log, monkeypatch):
    monkeypatch.setattr("eventlog.checkpoint.CHECKPOINT_PAGES", 1)
    threads = []

    def start(call):
        threads.append(threading.Thread(target=call))
        threads[-1].start()

    def use(path):
        make_log(path)
        with closing(eventlog.EventLog(path)) as log:
            log.run_on(FakeRuntime(start=start))
            log.append([NEW])
        threads.pop().join()

    leaves_nothing(use)


# Destinations


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        status = self.server.status
        self.close_connection = status is None
        if status:
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    """A destination that answers with its `status`, or closes the connection if that is None."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def brokers():
    with Producer({"test.mock.num.brokers": 1}) as owner:
        yield ",".join(f"{broker.host}:{broker.port}" for broker in owner.list_topics(timeout=10).brokers.values())


@pytest.fixture(scope="module")
def cluster():
    """The user, password and address of a PostgreSQL with the tables."""
    with Cluster() as cluster:
        forwarding.create_tables(cluster.url)
        yield f"{USER}:{PASSWORD}@{cluster.address}"


URLS = {
    "segment": "http://KEY@{address}/v1/batch",
    "webhook": "webhook+http://SECRET@{address}/",
    "kafka": "kafka://{brokers}/topic",
    "postgresql": "postgresql://{postgresql}/postgres",
    "archive": "archive+file://{folder}",
    "archive in memory": "archive+memory://{folder}",
}
NOBODY = "127.0.0.1:9"
OUTCOMES = {"taken": 200, "refused": 400, "failed": 500, "cut off": None, "nobody there": None}


def test_every_kind_of_destination_is_tried_here():
    assert {name.partition(" ")[0] for name in URLS} == {*KIND_BY_SCHEME.values(), "archive"}


@pytest.fixture
def url(tmp_path, server, request, monkeypatch):
    """Return a function that returns the URL of a destination with a kind and an outcome."""
    monkeypatch.setattr("forwarding.attempts.Attempts.wait", lambda self, seconds: None)
    monkeypatch.setattr("forwarding.kafka.ACKNOWLEDGE_SECONDS", 0.05)

    def url(kind, outcome):
        there = outcome != "nobody there"
        server.status = OUTCOMES[outcome]
        folder = tmp_path / "archive"
        if there:
            folder.mkdir(exist_ok=True)
        return URLS[kind].format(
            address=f"127.0.0.1:{server.server_port}" if there else NOBODY,
            brokers=request.getfixturevalue("brokers") if there and kind == "kafka" else NOBODY,
            postgresql=request.getfixturevalue("cluster") if there and kind == "postgresql" else NOBODY,
            folder=folder,
        )

    return url


HTTP_KINDS = ("segment", "webhook")
FILES = ("tracklog.db", "tracklog.db-queue", "tracklog.db-forward-there")


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [(kind, end) for kind in URLS for end in (OUTCOMES if kind in HTTP_KINDS else ("taken", "nobody there"))],
)
def test_a_forwarder_that_ends_leaves_nothing(leaves_nothing, make_log, url, kind, outcome):
    def use(path):
        make_log(path)
        with closing(eventlog.EventLog(path)) as log:
            log.destinations.remove("there")
            log.destinations.add("there", url(kind, outcome), [], [], 0)
            forwarder = forwarding.Forwarder(log, "there", stop=threading.Event(), once=True)
            return forwarder.run(), outcome_of(lambda: forwarding.redeliver(log, "there", log.reader.read_after(0)))

    leaves_nothing(use, FILES)


@pytest.mark.parametrize("once", [True, False])
def test_forwarders_that_end_together_leave_nothing(leaves_nothing, make_log, url, once):
    def use(path):
        make_log(path)
        stop = threading.Event()
        with closing(eventlog.EventLog(path)) as log:
            log.destinations.remove("there")
            log.append(events(20))
            for number, kind in enumerate(URLS):
                log.destinations.add(f"there{number}", url(kind, "taken"), [], [], 0)
        return forwarding.forward(path, [], stop=stop, once=once, report=lambda advanced: once or stop.set())

    leaves_nothing(use, FILES + tuple(f"tracklog.db-forward-there{number}" for number in range(len(URLS))))


@pytest.mark.parametrize("kind", URLS)
def test_a_destination_that_was_only_opened_leaves_nothing(leaves_nothing, url, kind):
    leaves_nothing(lambda path: forwarding.open_deliverer(url(kind, "taken")).close())


@pytest.mark.parametrize(
    "url",
    [
        "http://host",
        "http://KEY@",
        "webhook+http://",
        "webhook+http://whsec_*@host",
        "kafka://host",
        "kafka://host/topic?acks=1",
        "kafka://host/topic?no.such.option=1",
        "kafka://host/topic?ssl.ca.location=/none&security.protocol=ssl",
        "postgresql://host/db?no_such_option=1",
        "archive+file://",
        "archive+s3://bucket?bytes=many",
        "archive+none://place",
        "none://host",
    ],
)
def test_a_wrong_url_leaves_nothing(leaves_nothing, url):
    assert isinstance(leaves_nothing(lambda path: forwarding.open_deliverer(url)), NotPossible)


def test_a_destination_that_fails_to_close_leaves_nothing(leaves_nothing, make_log):
    class Broken(Recorder):
        def close(self):
            raise OSError("closed by others")

    def use(path):
        make_log(path)
        with closing(eventlog.EventLog(path)) as log:
            forwarding.Forwarder(
                log, "there", stop=threading.Event(), once=True, open_deliverer=lambda *_: Broken()
            ).run()

    assert isinstance(leaves_nothing(use, FILES), OSError)


# Commands

ARGUMENTS = {
    "sources add": ["website"],
    "sources list": [],
    "sources disable": ["example"],
    "sources enable": ["example"],
    "sources rotate": ["example"],
    "sources remove": ["example"],
    "events tail": [],
    "events stats": [],
    "events export": [],
    "events check": [],
    "events backup": ["{folder}/tracklog.db-copy"],
    "events import": ["{folder}/export"],
    "events prune": ["--older-than", "30d", "--even-undelivered"],
    "events forget": ["1", "--yes"],
    "rejected list": [],
    "rejected show": ["1"],
    "rejected replay": ["1", "--body", "{folder}/export"],
    "rejected delete": ["1"],
    "destinations add": ["second", "webhook+http://host"],
    "destinations list": [],
    "destinations set": ["there", "archive+file:///"],
    "destinations pause": ["there"],
    "destinations resume": ["there"],
    "destinations remove": ["there", "--yes"],
    "destinations test": ["there"],
    "destinations dead": ["there"],
    "destinations replay": ["there", "--dead"],
    "forward": ["--once"],
    "settings": [],
}


def test_every_command_is_run_here(app):
    """All but serve, which replaces the process."""
    names = []
    for name, command in app.cli.commands.items():
        names += [f"{name} {each}" for each in command.commands] if isinstance(command, click.Group) else [name]
    assert sorted(names) == sorted([*ARGUMENTS, "serve"])


@pytest.fixture
def signals():
    """Restore the signal handlers that a command sets for its process."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("command", ARGUMENTS)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_command_leaves_nothing(leaves_nothing, make_log, signals, situation, command):
    def use(path):
        folder = os.path.dirname(path)
        make_log(path)
        with open(os.path.join(folder, "export"), "w") as export:
            export.write('{"id":3,"source":"example","event":{"type":"track","userId":"1","event":"Posted"}}\n')
        SITUATIONS[situation](path)
        app = create_app(Config(database=path))
        arguments = [each.format(folder=folder) for each in ARGUMENTS[command]]
        return app, app.test_cli_runner().invoke(args=[*command.split(), *arguments])

    _, result = leaves_nothing(use, (*FILES, "tracklog.db-copy", "tracklog.db-backup-time", "export"))
    assert "Traceback" not in result.output
    assert situation != "a log" or not isinstance(result.exception, FAILURES)
