"""The log stores and counts each event once and in order, with many writers."""

import fcntl
import gc
import itertools
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import apsw
import pytest
from factories import SOURCE_ID, event, events, rejection
from fake_runtime import FakeRuntime

import eventlog
from eventlog import file_identity, schema
from eventlog.records import Counts
from eventlog.waiting import RETRY_SECONDS, WriteQueue

PROJECT = Path(__file__).parents[2]


def test_an_event_appended_twice_is_stored_once(log):
    assert log.append([event("a"), event("b"), event("a")]) == [True, True, False]
    assert log.append([event("b"), event("c")]) == [False, True]
    assert [each.message_id for each in log.reader.read_after(0)] == ["a", "b", "c"]


def test_two_sources_may_use_one_message_id(log):
    assert log.append([event("a", source="one"), event("a", source="two")]) == [True, True]


def test_source_and_message_id_are_not_concatenated(log):
    assert log.append([event("bc", source="a"), event("c", source="ab")]) == [True, True]


def test_ids_grow_and_are_never_reused(log, path):
    log.append([event("a"), event("b")])
    connection = apsw.Connection(path)
    connection.execute("DELETE FROM events")
    connection.close()
    log.append([event("c")])
    assert log.reader.read_after(0)[0].id > 2


def test_a_reader_continues_after_its_cursor(log):
    log.append([event(number) for number in range(5)])
    first = log.reader.read_after(0, 2)
    rest = log.reader.read_after(first[-1].id)
    assert [each.message_id for each in first + rest] == ["0", "1", "2", "3", "4"]
    assert [each.message_id for each in log.reader.read_last(2)] == ["3", "4"]
    assert log.reader.last_id() == rest[-1].id
    assert log.reader.read_after(0, source="nobody") == log.reader.read_last(5, type="page") == []


def test_a_repeated_rejection_is_one_row_with_the_latest_code(log, query):
    log.append([], [rejection(b"x"), rejection(b"x", source="other"), rejection(b"y")])
    log.append([], [rejection(b"x", code="source_disabled", message="off")])
    assert query("SELECT source, body, code, message, times_seen FROM rejected ORDER BY id") == [
        ("example", b"x", "source_disabled", "off", 2),
        ("other", b"x", "invalid_json", "no", 1),
        ("example", b"y", "invalid_json", "no", 1),
    ]


def test_counts_are_written_with_the_rows_they_count(log):
    log.append([event("a"), event("a")], [rejection(b"x")])
    log.append([event("a")], [rejection(b"x")])
    counted = {(each.source, each.type, each.outcome, each.code): each.times for each in log.reader.counts()}
    assert counted == {
        ("example", "track", "stored", ""): 1,
        ("example", "track", "duplicate", ""): 2,
        ("example", "", "rejected", "invalid_json"): 2,
    }


def test_counts_keep_the_first_and_last_time(log):
    """The clock steps back between the events."""
    for at in ("2015-11-10T02:00:00.000Z", "2015-11-10T01:00:00.000Z", "2015-11-10T03:00:00.000Z"):
        log.append([event(at, received_at=at)])
    (count,) = log.reader.counts()
    assert (count.first_at, count.last_at) == ("2015-11-10T01:00:00.000Z", "2015-11-10T03:00:00.000Z")


def test_an_invalid_row_fails_alone_and_is_not_counted(log, query):
    def gather():
        while log.gathered_rows < 3:
            time.sleep(0.001)

    def append(row):
        try:
            outcomes[row.message_id] = log.append([row])
        except apsw.ConstraintError:
            outcomes[row.message_id] = "refused"

    log.run_on(FakeRuntime(wait_until_idle=gather))
    outcomes = {}
    rows = [event("good"), event("bad", payload=None), event("also good")]
    run_all(*(lambda row=row: append(row) for row in rows))
    assert outcomes == {"good": [True], "bad": "refused", "also good": [True]}
    assert query("SELECT sum(count) FROM counts") == [(2,)]


@pytest.fixture
def transactions(monkeypatch):
    """Count the transactions that write."""
    counted = []
    write = Counts.write
    monkeypatch.setattr(Counts, "write", lambda self, connection: (counted.append(1), write(self, connection)))
    return counted


def run_all(*calls):
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_requests_that_are_ready_share_one_transaction(log, query, transactions):
    def gather():
        while log.gathered_rows < 8:
            time.sleep(0.001)

    log.run_on(FakeRuntime(wait_until_idle=gather))
    run_all(*(lambda client=client: log.append([event(str(client))]) for client in range(8)))
    assert len(transactions) == 1
    assert query("SELECT count(*) FROM events") == [(8,)]


def test_requests_during_a_commit_are_all_stored(log, query):
    run_all(*(lambda client=client: [log.append([event(f"{client}-{n}")]) for n in range(20)] for client in range(8)))
    assert query("SELECT count(*), count(DISTINCT message_id) FROM events") == [(160, 160)]


def test_under_gevent_ready_requests_share_one_transaction(path):
    """Run in another process, since gevent patches a whole process, with the hooks of gunicorn.conf.py."""
    script = """
import gevent.monkey; gevent.monkey.patch_all()
import runpy, sys, gevent, eventlog
from types import SimpleNamespace
from eventlog.records import Counts
from telemetry.metrics import Metrics
counted, write = [], Counts.write
Counts.write = lambda self, connection: (counted.append(1), write(self, connection))
log = eventlog.EventLog(sys.argv[1])
app = SimpleNamespace(extensions={"eventlog": log, "metrics": Metrics(log)})
worker = SimpleNamespace(cfg=SimpleNamespace(worker_class_str="gevent", settings={}), wsgi=app)
runpy.run_path("gunicorn.conf.py")["post_worker_init"](worker)
at = "2015-11-10T00:45:23.412Z"
row = lambda number: eventlog.Event("example", str(number), "track", "1", None, "e", at, at, "{}")
gevent.joinall([gevent.spawn(log.append, [row(number)]) for number in range(50)], raise_error=True)
assert len(log.reader.read_after(0)) == 50
assert len(counted) == 1, counted
log.append([row(number) for number in range(3000)])
assert len(log.reader.read_after(0, 5000)) == 3000
"""
    environment = os.environ | {"TRACKLOG_DATABASE": path}
    ended = subprocess.run(
        [sys.executable, "-c", script, path], cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def run_processes(target, path, number):
    """Run three processes, and wait until they have succeeded."""
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=target, args=(path, client, number)) for client in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0


def append_many(path, client, number):
    log = eventlog.EventLog(path)
    for n in range(number):
        log.append([event(f"{client}-{n}"), event(f"shared-{n}")])
    log.close()


def test_many_processes_append_and_each_event_is_stored_once(path, query):
    run_processes(append_many, path, 50)
    assert query("SELECT count(*) FROM events") == [(3 * 50 + 50,)]
    assert dict(query("SELECT outcome, sum(count) FROM counts GROUP BY outcome")) == {"stored": 200, "duplicate": 100}


def open_many_times(path, client, number):
    for n in range(number):
        log = eventlog.EventLog(path)
        log.append([event(f"{client}-{n}")])
        log.close()


def test_processes_that_open_and_close_the_log_lose_no_event(path, query):
    run_processes(open_many_times, path, 150)
    assert query("SELECT count(*) FROM events") == [(450,)]


def test_a_full_group_takes_no_further_request(log):
    gathered = []
    log.run_on(FakeRuntime(wait_until_idle=lambda: gathered.append(log.gathered_rows)))
    log.append(events(3999))
    log.append(events(4000))
    assert gathered == [3999, 0]


def test_a_long_append_yields_and_commits_in_a_thread(log, monkeypatch):
    blocking_calls, naps = [], []
    log.run_on(FakeRuntime(run_blocking=lambda call: blocking_calls.append(call())))
    monkeypatch.setattr("time.sleep", naps.append)
    log.append([event("one")])
    assert (blocking_calls, naps) == ([], [])
    log.append([event(number) for number in range(2500)], [rejection(str(number).encode()) for number in range(1000)])
    assert len(blocking_calls) == 1
    assert naps == [RETRY_SECONDS] * 3


@pytest.fixture
def impatient(monkeypatch):
    """Shorten the waits for a lock."""
    monkeypatch.setattr("eventlog.database.WAIT_SECONDS", 0.1)
    monkeypatch.setattr("eventlog.writer.WAIT_SECONDS", 0.1)
    monkeypatch.setattr("eventlog.sources.WAIT_SECONDS", 0.1)
    monkeypatch.setattr("eventlog.schema.WAIT_SECONDS", 0.1)


WRITES = {
    "append": lambda log: log.append([event("new")]),
    "append rejected": lambda log: log.append([], [rejection(b"new")]),
    "sources.add": lambda log: log.sources.add("new"),
    "sources.set_enabled": lambda log: log.sources.set_enabled("example", False),
    "sources.add_key": lambda log: log.sources.add_key("example"),
}
READS = {
    "read_after": lambda log: log.reader.read_after(0),
    "read_last": lambda log: log.reader.read_last(1),
    "last_id": lambda log: log.reader.last_id(),
    "counts": lambda log: log.reader.counts(),
    "sources.find": lambda log: log.sources.find("nobody"),
    "sources.all": lambda log: log.sources.all(),
    "sources.all_keys": lambda log: log.sources.all_keys(),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_locked_log_is_unavailable_to_writers(log, path, impatient, write):
    locker = apsw.Connection(path)
    locker.execute("BEGIN EXCLUSIVE")
    with pytest.raises(eventlog.Unavailable):
        WRITES[write](log)
    locker.execute("ROLLBACK")
    locker.close()
    WRITES[write](log)


@pytest.mark.parametrize("read", READS)
def test_a_locked_log_can_be_read(log, path, impatient, read):
    locker = apsw.Connection(path)
    locker.execute("BEGIN EXCLUSIVE")
    READS[read](log)
    locker.close()


@pytest.mark.parametrize("use", WRITES | READS)
def test_a_missing_log_is_unavailable_and_not_recreated(log, path, use):
    log.append([event("old")])
    os.rename(path, path + ".away")
    with pytest.raises(eventlog.Unavailable):
        (WRITES | READS)[use](log)
    assert not os.path.exists(path)
    os.rename(path + ".away", path)
    (WRITES | READS)[use](log)


def test_a_commit_to_a_moved_file_is_not_acknowledged(log, path, monkeypatch):
    write = Counts.write
    monkeypatch.setattr(
        Counts, "write", lambda self, connection: (write(self, connection), os.rename(path, path + ".away"))
    )
    with pytest.raises(eventlog.Unavailable, match="moved or deleted"):
        log.append([event("a")])


def ids(path):
    log = eventlog.EventLog(path)
    try:
        return [each.message_id for each in log.reader.read_after(0)]
    finally:
        log.close()


@pytest.mark.parametrize("then", ["it is used", "it is closed"])
def test_a_moved_log_keeps_its_events_and_leaves_no_wal(log, path, then):
    log.append([event("old")])
    os.rename(path, path + ".away")
    if then == "it is used":
        with pytest.raises(eventlog.Unavailable):
            log.append([event("new")])
    log.close()
    assert not os.path.exists(path + "-wal")
    assert not os.path.exists(path + "-shm")
    assert ids(path + ".away") == ["old"]


@pytest.fixture
def fresh(tmp_path):
    """The path of another new log."""
    fresh = str(tmp_path / "fresh.db")
    eventlog.create(fresh)
    return fresh


def test_a_new_log_at_the_path_of_a_moved_one_is_separate(log, path, fresh):
    log.append([event("old")])
    os.rename(path, path + ".away")
    os.rename(fresh, path)
    assert log.append([event("new")]) == [True]
    log.close()
    assert (ids(path), ids(path + ".away")) == (["new"], ["old"])


def append_new(path):
    with closing(eventlog.EventLog(path)) as log:
        log.append([event("new")])


def test_a_log_that_was_never_closed_can_be_opened_again(path):
    log = eventlog.EventLog(path)
    log.append([event("a")])
    del log
    gc.collect()
    assert ids(path) == ["a"]


USES = {
    "opened": append_new,
    "migrated": eventlog.migrate,
    "created": eventlog.create,
}


def hold_open(path, pipe):
    """Append an event and keep the log open, without using it, until the pipe has a message."""
    log = eventlog.EventLog(path)
    log.append([event("old")])
    pipe.send("open")
    pipe.recv()
    log.close()


@pytest.fixture
def holder(path):
    """A function that ends another process, which has the log open."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=hold_open, args=(path, theirs))

    def end():
        if process.is_alive():
            ours.send("close")
            process.join()

    process.start()
    ours.recv()
    yield end
    end()


@pytest.mark.parametrize("use", USES)
def test_a_log_next_to_the_wal_of_another_is_rejected(path, holder, fresh, impatient, use):
    """It is accepted as soon as the other log is closed."""
    os.rename(path, path + ".away")
    if use != "created":
        os.rename(fresh, path)
    with pytest.raises(eventlog.Unavailable, match="belong to the log that was here before"):
        USES[use](path)
    assert os.path.exists(path) == (use != "created")
    holder()
    USES[use](path)
    assert ids(path + ".away") == ["old"]


@pytest.mark.parametrize("end", ["-wal", "-shm"])
@pytest.mark.parametrize("use", USES)
def test_an_open_log_without_its_wal_or_shm_is_rejected(path, holder, impatient, use, end):
    """It is accepted as soon as the process that has it open closes it."""
    os.unlink(path + end)
    with pytest.raises(eventlog.Unavailable, match="was moved, deleted or replaced"):
        USES[use](path)
    holder()
    USES[use](path)
    assert ids(path)[0] == "old"


def test_a_wal_of_another_log_is_rejected(path, holder, fresh):
    other = eventlog.EventLog(fresh)
    other.append([event("other")])
    shutil.copy(fresh + "-wal", path + "-foreign")
    os.rename(path + "-foreign", path + "-wal")
    other.close()
    holder()
    with pytest.raises(eventlog.Unavailable, match="is not the one that tracklog has written"):
        ids(path)
    os.unlink(path + "-wal")
    assert ids(path) == ["old"]
    assert ids(fresh) == ["other"]


def test_a_wal_that_was_deleted_after_a_crash_is_reported(log, path, caplog):
    log.close()
    crash_after_append(path)
    os.unlink(path + "-wal")
    os.unlink(path + "-shm")
    assert ids(path) == []
    assert [record.event for record in caplog.records] == ["wal_missing"]
    assert ids(path) == []
    assert len(caplog.records) == 1


def test_a_copied_backup_is_not_mixed_with_the_wal_of_a_crash(log, path):
    log.append([event("kept")])
    log.back_up(path + ".backup", lambda *_: None)
    log.close()
    crash_after_append(path)
    shutil.copyfile(path + ".backup", path)  # it keeps the inode of the log
    with pytest.raises(eventlog.Unavailable, match="belong to the log that was here before"):
        ids(path)
    os.unlink(path + "-wal")
    os.unlink(path + "-shm")
    assert ids(path) == ["kept"]


def test_a_restored_wal_is_rejected_with_a_remedy(log, path, tmp_path):
    log.close()
    crash_after_append(path)
    for end in ("", "-wal"):
        shutil.copyfile(path + end, tmp_path / f"copy{end}")
    log.append([event("later")])
    log.close()
    for end in ("", "-wal"):
        shutil.copyfile(tmp_path / f"copy{end}", path + end)  # the log keeps its inode, but the -wal is another file
    with pytest.raises(eventlog.Unavailable, match="If it belongs to this log") as refused:
        ids(path)
    with apsw.Connection(path) as connection:
        assert "PRAGMA wal_checkpoint(TRUNCATE)" in str(refused.value)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    assert ids(path) == ["lost"]


def crash_after_append(path):
    process = multiprocessing.get_context("spawn").Process(target=append_and_die, args=(path,))
    process.start()
    process.join()


def append_and_die(path):
    log = eventlog.EventLog(path)
    log.append([event("lost")])
    os._exit(0)


def test_a_log_behind_a_symbolic_link_is_guarded_too(path, tmp_path):
    link = str(tmp_path / "link.db")
    os.symlink(path, link)
    log = eventlog.EventLog(link)
    log.append([event("a")])
    os.unlink(path + "-wal")
    with suppress(eventlog.Unavailable):
        log.append([event("b")])
    log.close()
    assert "a" in ids(link)


def test_a_wal_deleted_by_a_normal_close_is_not_reported(log, path, caplog, monkeypatch):
    log.append([event("a")])
    used = file_identity.find_files(path)
    log.close()
    settled, lock = file_identity.read_note(path), fcntl.flock
    file_identity.write_note(path, used)  # as if the closing process had not written its note yet

    def lock_after_the_note(descriptor, how):
        if how & fcntl.LOCK_EX and os.path.samestat(os.fstat(descriptor), os.stat(path)):
            file_identity.write_note(path, settled)
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", lock_after_the_note)
    assert ids(path) == ["a"]
    assert not caplog.records


@pytest.mark.parametrize("use", [eventlog.EventLog.close_if_moved, eventlog.EventLog.close])
def test_a_log_in_an_unreadable_folder_can_be_closed(tmp_path, use):
    folder, path = tmp_path / "log", str(tmp_path / "log" / "tracklog.db")
    folder.mkdir()
    eventlog.create(path)
    log = eventlog.EventLog(path)
    log.append([event("a")])
    folder.rename(tmp_path / "away")
    folder.write_text("no folder")  # like missing permissions, but for root too
    use(log)
    folder.unlink()
    (tmp_path / "away").rename(folder)
    assert log.append([event("b")]) == [True]
    log.close()


def test_two_logs_of_a_process_close_moved_files_together(log, path):
    other = eventlog.EventLog(path)
    assert other.reader.last_id() == 0
    log.append([event("a")])
    os.rename(path, path + ".away")
    with pytest.raises(eventlog.Unavailable):
        log.append([event("b")])
    os.rename(path + ".away", path)
    log.append([event("c")])
    assert [each.message_id for each in other.reader.read_after(0)] == ["a", "c"]
    other.close()


def test_a_backup_at_the_path_of_the_log_gets_wal_mode(log, path):
    log.append([event("a")])
    log.back_up(path + ".backup", lambda *_: None)
    os.rename(path + ".backup", path)
    log.append([event("b")])
    with apsw.Connection(path) as connection:
        assert connection.pragma("journal_mode") == "wal"


def move_and_put_back(path):
    log = eventlog.EventLog(path)
    log.append([event("before")])
    os.rename(path, path + ".away")
    with pytest.raises(eventlog.Unavailable):
        log.append([event("meanwhile")])
    os.rename(path + ".away", path)
    log.append([event("after")])
    os._exit(0)


def test_a_log_that_was_put_back_waits_for_other_processes(log, path):
    """Another process may not have noticed that the log was away."""
    log.append([event("first")])
    process = multiprocessing.get_context("spawn").Process(target=move_and_put_back, args=(path,))
    process.start()
    while process.is_alive():
        process.join(0.5)
        log.close_if_moved()
    assert process.exitcode == 0
    log.close()
    assert ids(path) == ["first", "before", "after"]


def read_until_it_ends(path, pipe):
    log = eventlog.EventLog(path)
    log.reader.last_id()
    pipe.send("open")
    while not pipe.poll(0.01):
        log.reader.last_id()
    log.close()


@pytest.mark.parametrize("end", ["-wal", "-shm"])
def test_a_wal_that_was_put_back_blocks_no_writer(log, path, end):
    """Another process uses the log all the time and does not notice."""
    log.append([event("first")])
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=read_until_it_ends, args=(path, theirs))
    process.start()
    ours.recv()
    os.kill(process.pid, signal.SIGSTOP)  # it does not notice
    os.rename(path + end, path + ".away")
    log.close_if_moved()
    os.rename(path + ".away", path + end)
    os.kill(process.pid, signal.SIGCONT)
    try:
        assert log.append([event("second")]) == [True]
    finally:
        ours.send("end")
        process.join()


def test_a_reused_inode_is_no_problem_after_a_clean_close(log, path, fresh):
    log.append([event("old")])
    os.link(path + "-wal", path + ".number")
    log.close()
    os.rename(fresh, path)
    os.truncate(path + ".number", 0)
    os.rename(path + ".number", path + "-wal")
    log.append([event("new")])
    assert ids(path) == ["new"]


def test_a_known_source_stays_valid_while_the_log_is_missing(log, path, monkeypatch):
    source = log.sources.find(SOURCE_ID)
    os.rename(path, path + ".away")
    monkeypatch.setattr("eventlog.sources.CACHE_SECONDS", -1)
    assert log.sources.find(SOURCE_ID) == source
    with pytest.raises(eventlog.Unavailable):
        log.sources.find("Other")


def test_a_source_is_looked_up_at_most_once_a_second(log, monkeypatch):
    assert log.sources.find(SOURCE_ID).enabled
    log.sources.set_enabled("example", False)
    assert log.sources.find(SOURCE_ID).enabled
    now = eventlog.sources.monotonic()
    monkeypatch.setattr("eventlog.sources.monotonic", lambda: now + 1.01)
    assert not log.sources.find(SOURCE_ID).enabled


def test_a_source_is_added_once(log):
    first = log.sources.add("website")
    assert log.sources.add("website") == log.sources.add("website", first.id) == first
    assert len(first.id) >= 20


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("example", "other"),
        ("other", SOURCE_ID),
        ("website", SOURCE_ID),
    ],
)
def test_a_source_that_contradicts_another_is_rejected(log, name, id):
    log.sources.add("website")
    with pytest.raises(eventlog.NotPossible, match="already"):
        log.sources.add(name, id)


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("", None),
        (" x", None),
        ("a\nb", None),
        ("x", ""),
        ("x", "a:b"),
        ("x", " a"),
        ("x", "a\0"),
    ],
)
def test_a_source_needs_a_printable_name_and_id(log, name, id):
    with pytest.raises(eventlog.NotPossible, match="printable"):
        log.sources.add(name, id)


def test_only_a_known_source_is_enabled(log):
    with pytest.raises(eventlog.NotPossible):
        log.sources.set_enabled("nobody", True)


# The set-up of the file


def test_a_log_has_its_application_id_and_syncs_commits(log, path):
    connection = schema.connect(path)
    assert connection.pragma("journal_mode") == "wal"
    assert connection.pragma("synchronous") == 2  # FULL
    assert connection.pragma("secure_delete") == 1
    assert connection.pragma("application_id") == schema.APPLICATION_ID
    assert connection.pragma("user_version") == len(schema.MIGRATIONS)


def test_a_log_is_created_only_on_request(tmp_path):
    path = str(tmp_path / "new.db")
    for use in (schema.migrate, lambda path: eventlog.EventLog(path).append([event("a")])):
        with pytest.raises(eventlog.Missing, match="There is no log at"):
            use(path)
    assert os.listdir(tmp_path) == []
    eventlog.create(path)
    eventlog.create(path)
    assert eventlog.EventLog(path).append([event("a")]) == [True]


def write_text(path):
    Path(path).write_text("not a database, " * 100)


def make_foreign(path):
    os.unlink(path)
    with closing(apsw.Connection(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")


def make_newer(path):
    with closing(apsw.Connection(path)) as connection:
        connection.pragma("user_version", 99)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (write_text, "not a SQLite database"),
        (make_foreign, "not a tracklog log"),
        (make_newer, "newer tracklog"),
    ],
)
@pytest.mark.parametrize("use", [ids, schema.migrate, eventlog.create])
def test_a_file_that_is_no_log_is_rejected_with_a_reason(path, change, reason, use):
    change(path)
    with pytest.raises(eventlog.Unusable, match=reason):
        use(path)


def test_a_log_in_a_missing_folder_is_not_created(tmp_path):
    with pytest.raises(eventlog.Unusable, match="does not exist"):
        eventlog.create(str(tmp_path / "nowhere" / "new.db"))


def test_an_older_log_is_migrated_at_start_only(path, log, monkeypatch, tmp_path):
    """A worker rejects an older log. A worker from before the migration still writes."""
    log.append([event("old")])
    script = tmp_path / "next.sql"
    script.write_text("CREATE TABLE added (x ANY) STRICT;")
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, str(script)))
    with pytest.raises(eventlog.Unusable, match="migrate"):
        schema.connect(path)
    log.append([event("from a worker that runs since before")])
    schema.migrate(path)
    connection = schema.connect(path)
    assert connection.pragma("user_version") == len(schema.MIGRATIONS)
    assert connection.execute("SELECT count(*) FROM added, events").fetchall() == [(0,)]
    log.append([event("and after")])
    assert len(log.reader.read_after(0)) == 3


def test_after_a_slow_commit_the_next_one_runs_in_a_thread(log, monkeypatch):
    blocking_calls, clock = [], itertools.count(0.0, 0.05)
    log.run_on(FakeRuntime(run_blocking=lambda call: blocking_calls.append(call())))
    log.append([event("opens the log")])
    with monkeypatch.context() as slow:
        slow.setattr("eventlog.database.monotonic", lambda: next(clock))
        log.append([event("slow")])
    assert len(blocking_calls) == 0
    log.append([event("in a thread, fast again")])
    assert len(blocking_calls) == 1
    log.append([event("fast")])
    assert len(blocking_calls) == 1


def test_other_processes_write_while_a_long_commit_returns(log, path):
    """Its thread releases the queue. The request itself runs again only when its worker gets to it."""
    queue = WriteQueue(path)

    def run_blocking(call):
        call()
        with queue.turn(deadline=0):
            taken.append(log)

    taken = []
    log.run_on(FakeRuntime(run_blocking=run_blocking))
    assert log.append(events(500)) == [True] * 500
    assert taken == [log]
    queue.close()
