"""A power cut at any moment loses no acknowledged row, and leaves every file intact.

Each scenario is recorded once and then cut at random moments. To repeat a failure, set POWER_LOSS_SEED to the seed
that it shows.
"""

import gzip
import json
import os
import secrets
import shutil
import threading
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from random import Random
from time import monotonic
from zlib import crc32

import apsw
import pytest
from disk_recorder import Recorder
from factories import AT, SOURCE_ID, event, rejection
from simulated_disk import cuts

import eventlog
from config import Config
from eventlog import schema
from forwarding import Forwarder, Outcome, open_deliverer
from ingest.replay import replay

SEED = os.environ.get("POWER_LOSS_SEED") or secrets.token_hex(4)
LATER = "2015-11-11T00:45:23.412Z"
FORGOTTEN = "somebody-to-forget"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Make checkpoints and chunks small, and let the same clock end spells in every run."""
    clock = count(monotonic(), 0.001)
    monkeypatch.setattr("eventlog.row_deletion.monotonic", lambda: next(clock))
    monkeypatch.setattr("eventlog.checkpoint.CHECKPOINT_PAGES", 12)
    monkeypatch.setattr("eventlog.checkpoint.RETRY_PAGES", 3)
    monkeypatch.setattr("eventlog.checkpoint.MAX_LOCKED_PAGES", 4)
    monkeypatch.setattr("eventlog.row_deletion.DELETE_SECONDS", 0.01)
    monkeypatch.setattr("eventlog.row_deletion.PAUSE_FACTOR", 0)
    monkeypatch.setattr("eventlog.retention.CHUNK_ROWS", 10)
    monkeypatch.setattr("eventlog.page_scrubbing.RETRY_SECONDS", 0.001)
    monkeypatch.setattr("eventlog.backup.STEP_PAGES", 8)


def payload(id):
    number = crc32(id.encode())
    return json.dumps(
        {"event": f"{id} " * (number % (900 if number % 5 == 0 else 90))}
    )  # one in five has up to some pages


def make_event(id, user="1", at=AT):
    return event(id, user_id=user, timestamp=at, received_at=at, payload=payload(id))


class Sender:
    """A sender that notes on the disk when each request was sent and acknowledged."""

    def __init__(self, path, disk, add_source=lambda log: log.sources.add("example", SOURCE_ID)):
        self.log = eventlog.EventLog(str(path))
        add_source(self.log)
        self._disk = disk
        self._requests = 0

    def send(self, count=1, refused=(), user="1", at=AT):
        self._requests += 1
        ids = [f"{self._requests}.{number}" for number in range(count)]
        bodies = [f"{self._requests} {each}".encode() * 200 for each in refused]
        rejected = [rejection(body, received_at=at) for body in bodies]
        self._disk.note("sent", (ids, bodies))
        self.log.append([make_event(id, user, at) for id in ids] + [make_event("0.0")], rejected)
        self._disk.note("stored", (ids, bodies))
        return ids

    def send_some(self, requests):
        for number in range(requests):
            self.send(1 + number % 3 * 2, refused=["x"] * (number % 2))


def noted(notes, word):
    return [note.value for note in notes if note.word == word]


def stored_in(log):
    """Check that a log is intact, and return its messageIds by id."""
    assert log.reader.problems() == []
    events = log.reader.read_after(0, 1_000_000)
    stored = {each.id: each.message_id for each in events}
    assert len(set(stored.values())) == len(stored), "an event is stored twice"
    assert all(each.payload == payload(each.message_id) for each in events), "an event is not whole"
    return stored


def check_log(path, notes, removed=frozenset()):
    """Check that the log has all acknowledged rows except `removed`, and can be written to."""
    eventlog.migrate(str(path))  # as each start does
    log = eventlog.EventLog(str(path))
    try:
        stored = set(stored_in(log).values())
        kept = {each.body for each in log.rejections.last(1_000_000)}
        for ids, bodies in noted(notes, "stored"):
            assert set(ids) - removed <= stored, "acknowledged events are lost"
            assert set(bodies) <= kept, "acknowledged refusals are lost"
        sent = noted(notes, "sent")
        for ids, _ in sent:
            assert len(set(ids) & stored) in (0, len(ids)) or removed, "a request is stored in part"
        ids = [id for ids, _ in sent for id in ids]
        assert log.append([make_event(id) for id in ids]) == [id not in stored for id in ids]
        assert log.reader.problems() == []
    finally:
        log.close()


class Ingest:
    """Requests arrive, checkpoints run while others write, and last connections close."""

    def record(self, place, disk):
        eventlog.create(str(place / "log.db"))
        sender = Sender(place / "log.db", disk)
        disk.prepare()
        for _ in range(3):
            sender.send_some(7)
            sender.log.close()

    def check(self, place, notes):
        check_log(place / "log.db", notes)


class CheckpointsOfCommits(Ingest):
    """The same, but commits copy the WAL themselves."""

    def record(self, place, disk):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("eventlog.checkpoint.CHECKPOINT_PAGES", 1_000_000)
            patch.setattr("eventlog.database.MAX_WAL_PAGES", 12)
            super().record(place, disk)


class NewLog:
    """A log is created and gets its first events."""

    def record(self, place, disk):
        eventlog.create(str(place / "log.db"))
        sender = Sender(place / "log.db", disk)
        disk.note("registered")
        sender.send_some(2)

    def check(self, place, notes):
        eventlog.create(str(place / "log.db"))
        log = eventlog.EventLog(str(place / "log.db"))
        sources = [source.name for source in log.sources.all()]
        log.close()
        assert sources == ["example"] or not noted(notes, "registered"), "the source is lost"
        check_log(place / "log.db", notes)


class RollbackJournal(Ingest):
    """A backup, which has a rollback journal, replaces the log of a running service."""

    def record(self, place, disk):
        eventlog.create(str(place / "log.db"))
        sender = Sender(place / "log.db", disk)
        sender.log.close()
        leave_wal_mode(place / "log.db")
        disk.prepare()
        sender.send_some(9)
        sender.log.close()


def leave_wal_mode(path):
    connection = apsw.Connection(str(path))
    assert connection.pragma("journal_mode", "delete") == "delete"
    connection.close()


class Migration:
    """A log of the first version is migrated while a worker of the version before has it open."""

    def record(self, place, disk):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
            eventlog.create(str(place / "log.db"))
            sender = Sender(place / "log.db", disk, add_source_as_before)
            for _ in range(4):
                sender.send(3)
        self.leave(sender, place / "log.db")
        disk.prepare()
        eventlog.migrate(str(place / "log.db"))
        disk.note("migrated")
        sender.send_some(2)
        sender.log.close()

    def leave(self, sender, path):
        pass

    def check(self, place, notes):
        connection = apsw.Connection(str(place / "log.db"))
        version = connection.pragma("user_version")
        connection.close()
        newest = len(schema.MIGRATIONS)
        assert version == newest or (version == 1 and not noted(notes, "migrated")), "the migration is lost"
        check_log(place / "log.db", notes)


def add_source_as_before(log):
    with closing(apsw.Connection(log.path)) as connection:
        connection.execute("INSERT INTO sources VALUES ('ILoveData123', 'example', 1, ?)", (AT,))


class MigrationOfBackup(Migration):
    """A restored backup of the first version is migrated."""

    def leave(self, sender, path):
        sender.log.close()
        leave_wal_mode(path)


class Replay:
    """Rejected bodies are replayed."""

    def record(self, place, disk):
        eventlog.create(str(place / "log.db"))
        sender = Sender(place / "log.db", disk)
        bodies = [json.dumps({"userId": "1", "event": "x" * 900, "properties": {"n": n}}).encode() for n in range(9)]
        refused = [rejection(body) for body in bodies]
        sender.log.append([], refused)
        disk.prepare()
        for id in sender.log.rejections.ids():
            replay(sender.log, Config(), sender.log.rejections.get(id))
            disk.note("replayed", id)
        sender.log.close()

    def check(self, place, notes):
        log = eventlog.EventLog(str(place / "log.db"))
        try:
            assert log.reader.problems() == []
            waiting = set(log.rejections.ids())
            assert not waiting & set(noted(notes, "replayed")), "a replay is lost"
            for id in log.rejections.ids(replayed=True):
                replay(log, Config(), log.rejections.get(id))
            became = {log.rejections.get(id).became for id in log.rejections.ids(replayed=True)}
            assert len(became) == 9
            assert became == {each.id for each in log.reader.read_after(0)}
        finally:
            log.close()


class Prune:
    """Old events are deleted while others arrive."""

    def record(self, place, disk):
        eventlog.create(str(place / "log.db"))
        sender = Sender(place / "log.db", disk)
        old = [id for _ in range(12) for id in sender.send(3)]
        disk.note("old", [*old, "0.0"])
        disk.prepare()
        sender.log.retention.prune(before=LATER, report=lambda _: sender.send(2, at=LATER))
        disk.note("pruned")
        sender.log.close()

    def check(self, place, notes):
        (old,) = noted(notes, "old")
        log = eventlog.EventLog(str(place / "log.db"))
        stored = set(stored_in(log).values())
        log.close()
        assert not noted(notes, "pruned") or not stored & set(old) - {"0.0"}, "pruned events are back"
        check_log(place / "log.db", notes, removed=set(old))


class Forget:
    """A person is forgotten, and the bytes must not come back."""

    def record(self, place, disk):
        eventlog.create(str(place / "log.db"))
        sender = Sender(place / "log.db", disk)
        gone = ["0.0"]
        for _ in range(40):
            gone += sender.send(5) + sender.send(1, user=FORGOTTEN, at=LATER)
            sender.send(1, at=LATER)
        sender.log.retention.prune(before=LATER)  # moves rows between pages, which leaves copies
        disk.note("gone", gone)
        disk.prepare()
        sender.log.people.forget(sender.log.people.find(FORGOTTEN))
        disk.note("forgotten")
        sender.send_some(2)
        sender.log.close()

    def check(self, place, notes):
        (gone,) = noted(notes, "gone")
        if noted(notes, "forgotten"):
            for path in place.iterdir():
                assert FORGOTTEN.encode() not in path.read_bytes(), f"a forgotten person is in {path.name} again"
        check_log(place / "log.db", notes, removed=set(gone))


class Backup:
    """A log is backed up while others write to it."""

    def record(self, place, disk):
        (place / "backups").mkdir()
        eventlog.create(str(place / "log.db"))
        sender = Sender(place / "log.db", disk)
        sender.send_some(12)
        disk.note("begun")
        disk.prepare()
        sender.log.back_up(str(place / "backups" / "copy.db"), lambda done, pages: sender.send())
        disk.note("backed up")
        sender.send_some(2)
        sender.log.close()

    def check(self, place, notes):
        copy = place / "backups" / "copy.db"
        assert copy.exists() or not noted(notes, "backed up"), "the backup is lost"
        if copy.exists():
            words = [note.word for note in notes]
            check_log(copy, notes[: words.index("begun")])
        check_log(place / "log.db", notes)


class Delivery:
    """Events are delivered to a destination, which rejects some, while others arrive."""

    max_events, max_bytes, max_wait_seconds, needs_same_batches = 3, 1_000_000, 1.0, False

    def record(self, place, disk):
        self._disk = disk
        eventlog.create(str(place / "log.db"))
        sender = Sender(place / "log.db", disk)
        sender.log.destinations.add("there", "webhook+https://example.com", [], [], 0)
        disk.prepare()
        for _ in range(3):
            sender.send_some(4)
            self.forward(sender.log)
        sender.log.close()

    def forward(self, log):
        assert Forwarder(log, "there", stop=threading.Event(), once=True, open_deliverer=lambda *_: self).run()

    def deliver(self, events):
        refused = {index: ("refused", "") for index, each in enumerate(events) if each.id % 5 == 0}
        self._disk.note("delivered", {each.id for index, each in enumerate(events) if index not in refused})
        return Outcome(refused)

    def close(self):
        pass

    def note(self, word, value):
        self._delivered |= value

    def check(self, place, notes):
        self._disk, self._delivered = self, set().union(*noted(notes, "delivered"))
        log = eventlog.EventLog(str(place / "log.db"))
        try:
            stored, position = stored_in(log), log.destinations.get("there").position
            self.check_settled(log, {id for id in stored if id <= position})
            self.forward(log)
            self.check_settled(log, set(stored))
        finally:
            log.close()
        check_log(place / "log.db", notes)

    def check_settled(self, log, ids):
        dead = {letter.event.id for letter in log.destinations.dead_letters("there")}
        assert ids <= self._delivered | dead, "the position is ahead: events are lost"


class Archive:
    """Events are archived in a folder while others arrive."""

    def record(self, place, disk):
        (place / "archive").mkdir()
        eventlog.create(str(place / "log.db"))
        sender = Sender(place / "log.db", disk)
        sender.log.destinations.add("archive", f"archive+file://{place}/archive", [], [], 0)
        disk.prepare()
        for _ in range(3):
            sender.send_some(2)
            sender.send(2, at=LATER)
            self.forward(place, sender.log)
        sender.log.close()

    def forward(self, place, log):
        kind = open_deliverer(f"archive+file://{place}/archive?bytes=9000&seconds=0")
        assert Forwarder(log, "archive", stop=threading.Event(), once=True, open_deliverer=lambda *_: kind).run()

    def check(self, place, notes):
        log = eventlog.EventLog(str(place / "log.db"))
        try:
            stored, position = stored_in(log), log.destinations.get("archive").position
            assert {id for id in stored if id <= position} <= set(archived(place)), "archived events are lost"
            log.append([make_event("new.0"), make_event("new.1")])  # must not get into an object that was started
            self.forward(place, log)
            assert sorted(archived(place)) == sorted(stored_in(log))
        finally:
            log.close()
        check_log(place / "log.db", notes)


def archived(place):
    objects = (place / "archive").rglob("*.ndjson.gz")
    return [json.loads(line)["id"] for each in objects for line in gzip.decompress(each.read_bytes()).splitlines()]


SCENARIOS = [
    *(Ingest, CheckpointsOfCommits, NewLog, RollbackJournal, Migration, MigrationOfBackup),
    *(Replay, Prune, Forget, Backup, Delivery, Archive),
]


@contextmanager
def synchronous(level):
    """Give every connection this level of PRAGMA synchronous."""

    def set_level(connection):
        connection.pragma("synchronous", level)
        connection.authorizer = lambda action, name, *_: (
            apsw.SQLITE_IGNORE if (action, name) == (apsw.SQLITE_PRAGMA, "synchronous") else apsw.SQLITE_OK
        )

    apsw.connection_hooks.append(set_level)
    try:
        yield
    finally:
        apsw.connection_hooks.remove(set_level)


def cut_power(tmp_path, scenario, times, syncs_folders=True):
    """Record a scenario, and check the disk after each of `times` cuts."""
    place = tmp_path / "recorded"
    place.mkdir()
    with Recorder(place, syncs_folders) as recorder:
        scenario.record(place, recorder)
    rng = Random(f"{SEED} {type(scenario).__name__}")
    for number, disk in enumerate(cuts(str(place), recorder.steps, recorder.prepared, times, rng)):
        after = tmp_path / f"after cut {number}"
        after.mkdir()
        disk.rebuild(after, rng)
        for wal in after.glob("*.db-wal"):
            if rng.random() < 0.5:  # a -shm may be left, with any content
                Path(f"{str(wal)[:-4]}-shm").write_bytes(rng.randbytes(32768))
        try:
            with synchronous("off"):  # makes the check faster
                scenario.check(after, disk.notes)
        except BaseException as failure:
            failure.add_note(f"POWER_LOSS_SEED={SEED}: {type(scenario).__name__}, cut {number} of {times}, in {after}")
            raise
        shutil.rmtree(after)


def shares(cuts):
    return -(-cuts // len(SCENARIOS))


@pytest.mark.parametrize("times", [shares(200), pytest.param(shares(10_000), marks=pytest.mark.full)])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_a_power_cut_loses_nothing(tmp_path, scenario, times):
    cut_power(tmp_path, scenario(), times)


# The simulation must find a loss.


class IngestWithSynchronousNormal(Ingest):
    def record(self, place, disk):
        with synchronous("normal"):
            super().record(place, disk)


def test_the_simulation_finds_a_loss_by_synchronous_normal(tmp_path):
    with pytest.raises(AssertionError, match="acknowledged events are lost"):
        cut_power(tmp_path, IngestWithSynchronousNormal(), 100)


@pytest.mark.parametrize(("scenario", "lost"), [(Archive, "archived events are lost"), (Backup, "the backup is lost")])
def test_the_simulation_finds_a_loss_by_unsynced_folders(tmp_path, scenario, lost):
    with pytest.raises(AssertionError, match=lost):
        cut_power(tmp_path, scenario(), 100, syncs_folders=False)
