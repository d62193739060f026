"""Moved, deleted and locked files of the log, and rows that SQLite refuses, lose no acknowledged event."""

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from faults import kill, kill_worker, large, load, send_again
from service import Service, posted, wait_until


def test_a_log_moved_away_and_back_loses_no_event(running, compare):
    """No process creates a new one, not even a worker that starts meanwhile."""
    away = running.folder / "away.db"
    with load(running, 8) as clients:
        clients.go_on()
        running.database.rename(away)
        clients.are_refused(20)
        for _ in range(2):
            kill_worker(running)
            clients.are_refused(20)
        assert running.is_healthy()
        assert not running.database.exists()
        away.rename(running.database)
        clients.go_on()
    send_again(running, clients)
    compare("log moved away and back", clients, running)


@pytest.fixture
def fresh(tmp_path):
    """Return a service with another log that has the same source."""
    return Service(tmp_path / "fresh").with_source()


@pytest.mark.parametrize("meanwhile", ["a while later", "with a worker started meanwhile", "at once"])
def test_a_deleted_log_and_its_replacement_stay_separate(running, fresh, compare, meanwhile):
    """A hard link keeps the deleted log, so that the test can count its events."""
    kept = Service(running.folder, running.folder / "kept.db")
    os.link(running.database, kept.database)
    with load(running, 8) as clients:
        clients.go_on()
        before = clients.acknowledged_ids()
        if meanwhile != "at once":
            running.database.unlink()
            clients.are_refused(20)
        if meanwhile == "with a worker started meanwhile":
            kill_worker(running)
            clients.are_refused(20)
        fresh.database.replace(running.database)
        clients.go_on(500)
    send_again(running, clients)
    compare(f"log deleted, a fresh one put in its place {meanwhile}", clients, running, kept)
    assert before <= kept.message_ids()
    assert not before & running.message_ids()


def test_a_deleted_wal_loses_no_event(running, compare):
    with load(running, 8) as clients:
        clients.go_on()
        wal = running.folder / "tracklog.db-wal"
        wal.unlink()
        wait_until(wal.exists)  # an idle worker may notice it before any client is refused
        clients.go_on()
    for pid in [running.process.pid, *running.workers()]:
        kill(pid)
    running.process.wait()
    compare("write-ahead log deleted", clients, running)


@pytest.mark.parametrize("seconds", [5, pytest.param(30, marks=pytest.mark.full)])
def test_a_log_locked_by_another_process_loses_no_event(running, compare, seconds):
    with load(running, 8) as clients, closing(sqlite3.connect(running.database, isolation_level=None)) as other:
        clients.go_on()
        wait_until(lambda: begin_exclusive(other))
        until = time.monotonic() + seconds
        while time.monotonic() < until or not clients.refused:
            asked = time.monotonic()
            assert running.is_healthy()
            assert time.monotonic() - asked < 2
            time.sleep(0.05)
        other.execute("ROLLBACK")
        clients.go_on()
    send_again(running, clients)
    compare(f"log locked for {seconds} s", clients, running)


def begin_exclusive(connection):
    try:
        return connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError:
        return None


@pytest.mark.parametrize("seconds", [0, pytest.param(60, marks=pytest.mark.full)])
def test_a_reader_with_a_long_transaction_loses_no_event(running, compare, seconds):
    """The WAL grows, since it cannot be checkpointed. When the reader ends, its space is used again."""
    wal = Path(f"{running.database}-wal")
    with load(running, 8, large) as clients:
        clients.go_on()
        with closing(sqlite3.connect(running.database, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            ((seen,),) = reader.execute("SELECT count(*) FROM events")
            until = time.monotonic() + seconds
            wait_until(lambda: time.monotonic() > until and wal.stat().st_size > 24 * 1024 * 1024, 120)
            assert reader.execute("SELECT count(*) FROM events").fetchall() == [(seen,)]
        clients.go_on(100)
        size = wal.stat().st_size
        clients.go_on(2000)  # some 24 MB
        assert wal.stat().st_size <= max(size, 64 * 1024 * 1024)
    assert clients.refused == []
    compare(f"a snapshot held for {seconds} s", clients, running)


def poisoned(client, count):
    return posted(client, count) | ({"messageId": f"poison-{client}-{count}"} if count % 10 == 0 else {})


def test_rows_that_sqlite_refuses_fail_alone(running, compare):
    """No event is known that SQLite refuses, so a trigger does. The others of the group are stored."""
    with closing(sqlite3.connect(running.database)) as other:
        other.execute(
            "CREATE TRIGGER poison BEFORE INSERT ON events WHEN NEW.message_id LIKE 'poison-%' "
            "BEGIN SELECT RAISE(ABORT, 'poisoned'); END"
        )
    with load(running, 32, poisoned) as clients:
        clients.go_on(1000)
    assert len(clients.refused) > 50
    assert {(answer.status, answer.message_id[:7]) for answer in clients.refused} == {(500, "poison-")}
    assert clients.failed == []
    compare("poisoned rows", clients, running)
