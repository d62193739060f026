"""The log loses nothing if any single write to the disk fails, or all from that one on."""

import json
from contextlib import suppress

import apsw
import pytest
from factories import event, rejection

import eventlog

PAYLOAD = json.dumps("x" * 9000)  # some pages

ERRORS = {
    "write": (apsw.IOError, apsw.SQLITE_IOERR_WRITE),
    "sync": (apsw.IOError, apsw.SQLITE_IOERR_FSYNC),
    "truncate": (apsw.IOError, apsw.SQLITE_IOERR_TRUNCATE),
    "full": (apsw.FullError, apsw.SQLITE_FULL),
}


class Disk(apsw.VFS):
    """The system's files. After `failing` calls that change them, one call or every call fails."""

    def __init__(self):
        self.system = apsw.vfs_names()[0]
        super().__init__("failing", base=self.system, makedefault=True)
        self.mend()

    def mend(self):
        self.failing, self.stays, self.is_full = None, False, False
        self.failed = 0

    def fail(self, number, stays, is_full):
        self.failing, self.stays, self.is_full = number, stays, is_full

    def xOpen(self, name, flags):
        return File(self, name, flags)

    def passes(self, call):
        """Count a call, and raise an error if it should fail."""
        if self.failing is None:
            return
        self.failing -= 1
        if self.failing == 0 or (self.stays and self.failing < 0):
            self.failed += 1
            exception, result = ERRORS["full" if self.is_full and call == "write" else call]
            failure = exception(f"{call} was made to fail")
            failure.extendedresult = result
            raise failure


class File(apsw.VFSFile):
    def __init__(self, disk, name, flags):
        self._disk = disk
        super().__init__(disk.system, name, flags)

    def xWrite(self, data, offset):
        try:
            self._disk.passes("write")
        except apsw.Error:
            super().xWrite(data[: len(data) // 2], offset)  # as a disk may do
            raise
        super().xWrite(data, offset)

    def xSync(self, flags):
        self._disk.passes("sync")  # a real sync is slow, and only a crash would need it

    def xTruncate(self, size):
        self._disk.passes("truncate")
        super().xTruncate(size)


@pytest.fixture
def disk():
    disk = Disk()
    yield disk
    disk.unregister()


@pytest.fixture(params=["while others write", "by a commit"])
def checkpoints(request, monkeypatch):
    """Let every commit lead to a checkpoint."""
    if request.param == "while others write":
        monkeypatch.setattr("eventlog.checkpoint.CHECKPOINT_PAGES", 4)
        monkeypatch.setattr("eventlog.checkpoint.RETRY_PAGES", 1)
        return
    monkeypatch.setattr("eventlog.database.MAX_WAL_PAGES", 4)


def append_some(log, acknowledged):
    """Append events, one of them repeatedly, and rejections."""
    for number in range(4):
        ids = [f"{number}-{part}" for part in range(2)] + ["again"]
        events = [event(each, payload=PAYLOAD) for each in ids]
        with suppress(eventlog.Unavailable):
            log.append(events, [rejection(b"%d" % number)])
            acknowledged.update(ids)


@pytest.mark.parametrize("is_full", [False, True], ids=["error", "full"])
@pytest.mark.parametrize("stays", [False, True], ids=["once", "from then on"])
def test_acknowledged_events_survive_any_failed_write(tmp_path, disk, checkpoints, stays, is_full):
    number, has_failed = 0, True
    while has_failed:
        number += 1
        path = str(tmp_path / f"{number}.db")
        eventlog.create(path)
        log = eventlog.EventLog(path)
        acknowledged = set()
        disk.fail(number, stays, is_full)
        append_some(log, acknowledged)
        log.close()
        has_failed = disk.failed > 0
        disk.mend()
        check(path, acknowledged)
    assert number > 50


def check(path, acknowledged):
    """Check that acknowledged events are stored. Send all again, and check that each is stored and counted once."""
    log = eventlog.EventLog(path)
    stored = [each.message_id for each in log.reader.read_after(0)]
    assert acknowledged <= set(stored)
    everything = set()
    append_some(log, everything)
    log.close()
    connection = apsw.Connection(path)
    stored = [message_id for (message_id,) in connection.execute("SELECT message_id FROM events")]
    assert len(stored) == len(set(stored)) == 9
    assert everything == set(stored)
    assert connection.pragma("integrity_check") == "ok"
    counted = dict(connection.execute("SELECT outcome, sum(count) FROM counts GROUP BY outcome").fetchall())
    ((seen,),) = connection.execute("SELECT sum(times_seen) FROM rejected").fetchall()
    assert (counted["stored"], counted["rejected"]) == (9, seen)
    connection.close()
