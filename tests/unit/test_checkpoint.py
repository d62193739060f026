"""Checkpoints copy the WAL into the file while others write."""

import fcntl
import os
import threading
from contextlib import contextmanager

import apsw
import pytest
from factories import event
from fake_runtime import FakeRuntime

import eventlog


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr("eventlog.checkpoint.CHECKPOINT_PAGES", 40)
    monkeypatch.setattr("eventlog.checkpoint.RETRY_PAGES", 20)
    monkeypatch.setattr("eventlog.checkpoint.MAX_LOCKED_PAGES", 10)


def nothing():
    pass


class Disk(apsw.VFS):
    """The system's files. `meanwhile` is called once, during a write to the log's file."""

    def __init__(self):
        self.system = apsw.vfs_names()[0]
        super().__init__("interrupted", base=self.system, makedefault=True)
        self.meanwhile = nothing

    def xOpen(self, name, flags):
        is_log = flags[0] & apsw.SQLITE_OPEN_MAIN_DB
        return LogFile(self, name, flags) if is_log else apsw.VFSFile(self.system, name, flags)


class LogFile(apsw.VFSFile):
    def __init__(self, disk, name, flags):
        self._disk = disk
        super().__init__(disk.system, name, flags)

    def xWrite(self, data, offset):
        meanwhile, self._disk.meanwhile = self._disk.meanwhile, nothing
        meanwhile()
        super().xWrite(data, offset)


@pytest.fixture
def disk():
    disk = Disk()
    yield disk
    disk.unregister()


class Steps:
    """Runs blocking calls. Notes whether the queue was free, and if so calls `meanwhile` during it."""

    def __init__(self, path, disk):
        self.path = path
        self.disk = disk
        self.were_free = []
        self.meanwhile = nothing

    def __call__(self, call):
        with open(self.path + "-queue") as queue:
            try:
                fcntl.flock(queue, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.were_free.append(False)
            else:
                fcntl.flock(queue, fcntl.LOCK_UN)
                self.were_free.append(True)
        self.disk.meanwhile = self.meanwhile if self.were_free[-1] else nothing
        return call()


@pytest.fixture
def steps(disk, log, path):
    steps = Steps(path, disk)
    log.run_on(FakeRuntime(run_blocking=steps))
    return steps


@pytest.fixture
def append(log):
    """Append an event of some 20 pages, `times` times."""
    numbers = iter(range(1000))

    def append(times=1, log=log):
        for _ in range(times):
            log.append([event(next(numbers), payload=f'"{"x" * 80_000}"')])

    return append


def in_wal(path):
    """Return how many pages the WAL has, and how many of them are in the file."""
    connection = apsw.Connection(path)
    connection.execute("SELECT 1 FROM events LIMIT 1").fetchall()
    pages = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
    connection.close()
    return pages


def test_no_checkpoint_runs_before_it_is_due(append, steps, path):
    append()
    assert steps.were_free == []
    pages, copied = in_wal(path)
    assert pages - copied < 40


def test_only_the_last_pages_are_copied_under_the_lock(append, steps, log, path):
    other = eventlog.EventLog(path)
    other.run_on(FakeRuntime(start=lambda call: None))
    rounds = iter([3, 1])
    steps.meanwhile = lambda: append(next(rounds, 0), log=other)
    append(2)
    assert steps.were_free == [True, True, True, True, False]
    pages, copied = in_wal(path)
    assert pages == copied
    other.close()
    assert len(log.reader.read_after(0)) == 6


def test_the_wal_is_reset_although_writers_are_as_fast(append, steps, path, monkeypatch):
    """The other log writes as many pages as each step copies. In the end the writers have to wait."""
    monkeypatch.setattr("eventlog.checkpoint.MAX_WAL_PAGES", 100)
    other = eventlog.EventLog(path)
    other.run_on(FakeRuntime(start=lambda call: None))
    rounds = iter([2] * 20)
    steps.meanwhile = lambda: append(next(rounds, 0), log=other)
    append(2)
    assert steps.were_free[-1] is False
    assert len(steps.were_free) < 10
    pages, copied = in_wal(path)
    assert pages == copied
    other.close()


@pytest.mark.parametrize("cooperates", [True, False])
def test_a_commit_leaves_checkpoints_to_a_cooperative_runtime(append, log, path, monkeypatch, cooperates):
    monkeypatch.setattr("eventlog.checkpoint.CHECKPOINT_PAGES", 1000)
    monkeypatch.setattr("eventlog.database.MAX_WAL_PAGES", 50)
    if cooperates:
        log.run_on(FakeRuntime())
    with reading(path):
        append(4)
    append()
    pages, copied = in_wal(path)
    assert (pages > 80 and copied == 0) if cooperates else pages == copied


def test_a_commit_does_not_wait_for_a_running_checkpoint(disk, append, log):
    copying, go_on = threading.Event(), threading.Event()
    log.run_on(FakeRuntime(start=lambda call: threading.Thread(target=call, daemon=True).start()))
    disk.meanwhile = lambda: (copying.set(), go_on.wait())
    append(2)
    copying.wait()
    append()
    assert not go_on.is_set()
    go_on.set()
    log.close()


@contextmanager
def reading(path):
    """Keep a read transaction open, which blocks a checkpoint."""
    connection = apsw.Connection(path)
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM events").fetchall()
    yield
    connection.execute("ROLLBACK")
    connection.close()


def test_a_checkpoint_that_a_reader_blocks_is_tried_later(append, steps, path):
    append()
    with reading(path):
        append(2)
        assert steps.were_free == [True]
        append()
        assert steps.were_free == [True, True]
    append()
    assert steps.were_free[-1] is False
    pages, copied = in_wal(path)
    assert pages == copied


def test_the_wal_is_reset_whichever_log_copies_it(append, log, path):
    other = eventlog.EventLog(path)
    for _ in range(20):
        append(log=log)
        append(log=other)
    other.close()
    assert os.path.getsize(path + "-wal") < 100 * 4096, "of 1000 pages"


def test_close_waits_for_a_checkpoint_and_leaves_no_wal(append, log, path):
    copying, go_on, closed = threading.Event(), threading.Event(), threading.Event()

    def run_blocking(call):
        copying.set()
        go_on.wait()
        return call()

    log.run_on(
        FakeRuntime(run_blocking=run_blocking, start=lambda call: threading.Thread(target=call, daemon=True).start())
    )
    append(2)
    copying.wait()
    closing = threading.Thread(target=lambda: (log.close(), closed.set()), daemon=True)
    closing.start()
    assert not closed.wait(0.2)
    go_on.set()
    closing.join()
    assert not os.path.exists(path + "-wal")
