"""No acknowledged event is lost, whatever fails while clients post.

The end of a run shows for each fault the events acknowledged, stored and lost, and the longest answer.
"""

import http.client
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from needs import lack, need
from service import EVENT, Clients, Service, posted, repeated_or_invalid, wait_until

MAX_SECONDS_TO_503 = 5


@pytest.fixture
def compare(record_property):
    """Return a function that compares the answers that clients got with the services' logs."""

    def compare(fault, clients, *services):
        clients = clients if isinstance(clients, list) else [clients]
        acknowledged = {answer.message_id for each in clients for answer in each.acknowledged}
        logs = [service.query("SELECT message_id FROM events") for service in services]
        stored = {message_id for log in logs for (message_id,) in log}
        lost = acknowledged - stored
        unavailable = [answer for each in clients for answer in each.refused if answer.status == 503]
        longest = max((answer.seconds for answer in unavailable), default=0)
        longest_of_all = max(answer.seconds for each in clients for answer in each.acknowledged + each.refused)
        record_property(
            "fault",
            f"{fault}: {len(acknowledged)} acknowledged, {len(stored)} stored, {len(lost)} lost, "
            f"longest answer {longest_of_all:.1f} s, longest of {len(unavailable)} with 503 {longest:.1f} s",
        )
        assert lost == set()
        assert all(len(log) == len(set(log)) for log in logs)
        assert {(answer.body["code"], answer.retry_after) for answer in unavailable} <= {("storage_unavailable", "5")}
        assert longest <= MAX_SECONDS_TO_503
        for service in services:
            check_counts(service)
            assert service.lines(), "all of them JSON"

    return compare


def load(service, number, event=posted):
    """Return clients that put every worker under load."""
    return Clients(service.port, number, event, per_connection=20)


def check_counts(service):
    """Compare the counts with the rows, and check the file's integrity."""
    assert service.query("PRAGMA integrity_check") == [("ok",)]
    counted = dict(service.query("SELECT outcome, sum(count) FROM counts GROUP BY outcome"))
    ((events,),) = service.query("SELECT count(*) FROM events")
    ((rejected,),) = service.query("SELECT coalesce(sum(times_seen), 0) FROM rejected")
    assert (counted.get("stored", 0), counted.get("rejected", 0)) == (events, rejected)
    sums = re.search(
        r"(\d+) received = (\d+) stored \+ (\d+) duplicates \+ (\d+) rejected", service.flask("events", "stats").stdout
    )
    received, *parts = map(int, sums.groups())
    assert parts == [events, counted.get("duplicate", 0), rejected]
    assert received == sum(parts)


def send_again(service, *clients):
    """Send the events without a 200 or 400 again, as clients do."""
    ids = [answer.message_id for each in clients for answer in each.refused if answer.status == 503]
    ids += [message_id for each in clients for message_id in each.failed]
    batch = [{"type": "track", "userId": "1", "event": "Again", "messageId": message_id} for message_id in ids]
    status, receipt = service.post("/v1/batch", {"batch": batch}) if batch else (200, {"received": 0})
    assert (status, receipt["received"]) == (200, len(ids))


def kill(pid):
    os.kill(pid, signal.SIGKILL)


def kill_worker(service):
    """Kill a worker and wait for its replacement."""
    victim, *others = wait_until(service.workers)
    kill(victim)
    wait_until(lambda: set(service.workers()) - {victim, *others})


# The process


@pytest.mark.smoke
@pytest.mark.parametrize("kills", [5, pytest.param(40, marks=pytest.mark.full)])
def test_killed_workers_lose_no_event(running, compare, kills):
    with load(running, 64, repeated_or_invalid) as clients:
        for _ in range(kills):
            clients.go_on(200)
            kill_worker(running)
    assert {answer.status for answer in clients.refused} == {400}
    compare(f"{kills} workers killed", clients, running)
    counted = dict(running.query("SELECT outcome, sum(count) FROM counts GROUP BY outcome"))
    duplicates = sum("duplicate" in answer.body for answer in clients.acknowledged)
    unknown = len(clients.failed)  # some of them were counted
    assert duplicates <= counted["duplicate"] <= duplicates + unknown
    assert len(clients.refused) <= counted["rejected"] <= len(clients.refused) + unknown
    send_again(running, clients)
    check_counts(running)


@pytest.mark.smoke
def test_killing_all_processes_at_once_loses_no_event(running, compare):
    with load(running, 16) as clients:
        clients.go_on(500)
        for pid in [running.process.pid, *running.workers()]:
            kill(pid)
        running.process.wait()
    running.start()
    send_again(running, clients)
    compare("everything killed at once", clients, running)


def locks(pid):
    """Return the write locks of a process: pairs of a file's inode and the first locked byte."""
    lines = [line.split() for line in Path("/proc/locks").read_text().splitlines() if "->" not in line]
    return {(int(line[5].split(":")[2]), line[6]) for line in lines if int(line[4]) == pid and line[3] == "WRITE"}


def many(number):
    """Return a batch of `number` track events."""
    return {"batch": [posted("batch", count) | {"type": "track"} for count in range(number)]}


@contextmanager
def worker_stopped_in_transaction(service):
    """Stop a worker that writes a large batch, and resume it at the end of the block. Yield its pid."""
    thread = threading.Thread(target=post_without_answer, args=(service, many(20_000)))
    thread.start()
    write_lock = os.stat(f"{service.database}-shm").st_ino, "120"  # the byte that SQLite's writer locks

    def stop_the_writer():
        for pid in service.workers():
            if write_lock in locks(pid):
                os.kill(pid, signal.SIGSTOP)
                if write_lock in locks(pid):
                    return pid
                os.kill(pid, signal.SIGCONT)
        return None

    stopped = wait_until(stop_the_writer)
    try:
        yield stopped
    finally:
        if stopped in service.workers():
            os.kill(stopped, signal.SIGCONT)
        thread.join(60)
        assert not thread.is_alive()


def post_without_answer(service, batch):
    """Post a batch, whose answer may not come."""
    with suppress(OSError, http.client.HTTPException):
        service.post("/v1/batch", batch)


@pytest.mark.parametrize("end", ["goes on", "is killed by gunicorn"])
def test_a_worker_stopped_in_a_transaction_loses_no_event(service, compare, end):
    """Its own clients wait. Clients of other workers get 503 in time."""
    service.start("--timeout", "60" if end == "goes on" else "10")
    with load(service, 4) as before:
        before.go_on()
        with worker_stopped_in_transaction(service) as stopped, load(service, 8, posted_meanwhile) as clients:
            clients.are_refused(16)
            assert service.is_healthy()
            if end != "goes on":
                wait_until(lambda: stopped not in service.workers())
                clients.go_on()
        before.go_on()
    send_again(service, before, clients)
    compare(f"a worker stopped in a transaction {end}", [before, clients], service)


def posted_meanwhile(client, count):
    return posted(f"meanwhile-{client}", count)


# The disk


@pytest.fixture
def disk(mount_disk):
    """Return the folder of a small file system."""
    return mount_disk(24)


@pytest.fixture
def on_disk(disk, tmp_path):
    """Yield a service whose log is on the small file system."""
    with Service(tmp_path, disk / "tracklog.db").with_source() as service:
        yield service


def fill(disk):
    """Fill a disk, and return the file that fills it."""
    filler = disk / "filler"
    with open(filler, "ab", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    return filler


@pytest.mark.parametrize("rounds", [1, pytest.param(10, marks=pytest.mark.full)])
def test_a_disk_filled_by_another_file_loses_no_event(on_disk, disk, compare, rounds):
    on_disk.start()
    with load(on_disk, 8) as clients:
        for _ in range(rounds):
            clients.go_on()
            filler = fill(disk)
            clients.are_refused(20)
            assert on_disk.post("/v1/batch", many(1000))[0] == 503
            assert on_disk.is_healthy()
            filler.unlink()
            clients.go_on()
    send_again(on_disk, clients)
    compare("disk full", clients, on_disk)


def test_a_disk_filled_by_the_log_itself_loses_no_event(on_disk, disk, compare):
    filler = disk / "filler"
    filler.write_bytes(b"x" * 12 * 1024 * 1024)
    on_disk.start()
    with load(on_disk, 8, large) as clients:
        clients.are_refused(20)
        seen = len(clients.acknowledged)
        filler.unlink()
        wait_until(lambda: len(clients.acknowledged) > seen + 20)
    compare("disk filled by the log", clients, on_disk)


def reason(service):
    """Return the reason in the first storage_trouble line."""
    return service.lines("storage_trouble")[0]["reason"]


def fill_with_events(service, clients):
    """Wait until no event is accepted, even after the WAL was checkpointed."""
    clients.are_refused(20)
    wait_until(lambda: not is_accepted(service) and not any(is_accepted(service) for _ in range(20)))


def is_accepted(service):
    status, answer = service.post("/v1/track", EVENT)
    assert (status, answer["success"]) in ((200, True), (503, False))
    return status == 200


@pytest.mark.parametrize("filled_by", ["the log itself", "something else"])
def test_a_full_disk_can_be_pruned_under_load(on_disk, disk, filled_by):
    """Only the prune frees space for later events, twice."""
    reserve = Path(f"{on_disk.database}-reserve")
    on_disk.start()
    with load(on_disk, 8, large) as clients:
        clients.go_on(200)
        if filled_by == "something else":
            fill(disk)
        for _ in range(2):
            fill_with_events(on_disk, clients)
            before = len(clients.acknowledged)
            on_disk.flask("events", "prune", "--older-than", "0s")
            wait_until(lambda before=before: len(clients.acknowledged) > before + 50)
            assert not reserve.exists()
        if filled_by == "something else":
            (disk / "filler").unlink()
            wait_until(reserve.exists)
    assert reason(on_disk) == (
        f"The disk of {on_disk.database} is full. "
        "Delete other files, or old events with: flask events prune --older-than AGE"
    )
    pruned = on_disk.query("SELECT sum(count) FROM counts WHERE outcome = 'removed'")
    assert pruned[0][0] > 200
    assert on_disk.flask("events", "check").stdout.startswith("The log is intact")


def test_a_disk_filled_by_an_import_can_be_pruned(on_disk, disk, tmp_path):
    event = {"type": "track", "userId": "1", "event": "Posted", "properties": {"text": "x" * 12_000}}
    event |= {"timestamp": "2015-11-10T00:00:00.000Z", "receivedAt": "2015-11-10T00:45:23.412Z"}
    lines = [{"id": id, "source": "example", "event": event | {"messageId": str(id)}} for id in range(1, 2500)]
    (tmp_path / "events.ndjson").write_text("\n".join(map(json.dumps, lines)))
    ended = on_disk.flask("events", "import", tmp_path / "events.ndjson", check=False)
    assert ended.returncode == 1
    assert f"The disk of {on_disk.database} is full" in ended.stderr
    on_disk.flask("events", "prune", "--older-than", "0s")
    assert on_disk.query("SELECT count(*) FROM events") == [(0,)]


@pytest.mark.parametrize("is_running", [True, False], ids=["running", "stopped"])
@pytest.mark.parametrize(
    "command",
    [
        ("events", "prune", "--older-than", "0s"),
        ("events", "forget", "1", "--yes"),
        ("rejected", "delete", "--all"),
        ("sources", "disable", "example"),
        ("destinations", "remove", "warehouse", "--yes"),
    ],
    ids=" ".join,
)
def test_commands_that_free_space_work_on_a_full_disk(on_disk, disk, command, is_running):
    on_disk.flask("destinations", "add", "warehouse", "webhook+https://example.com")
    on_disk.flask("destinations", "pause", "warehouse")
    if command[1] == "prune":
        command = (*command, "--even-undelivered")
    on_disk.start()
    batch = [large(number % 8, number) | {"type": "track"} for number in range(64)]
    assert on_disk.post("/v1/batch", {"batch": batch})[0] == 200
    assert on_disk.post("/v1/track", {"userId": "1", "properties": {"text": "x" * 100_000}})[0] == 400
    if not is_running:
        on_disk.stop()
    fill(disk)
    ended = on_disk.flask(*command, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def large(client, count):
    return posted(client, count) | {"properties": {"text": f"{client}-{count} " * 1500}}


@contextmanager
def no_workers(service, signal_number):
    """End the workers, and let the master start others only at the end of the block."""
    os.kill(service.process.pid, signal.SIGSTOP)
    try:
        workers = service.workers()
        for pid in workers:
            os.kill(pid, signal_number)
        wait_until(
            lambda: all(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z" for pid in workers)
        )
        yield
    finally:
        os.kill(service.process.pid, signal.SIGCONT)


def test_a_read_only_file_system_loses_no_event(on_disk, disk, compare):
    """It can be remounted only while no worker has a file open for writing."""
    on_disk.start()
    with load(on_disk, 8) as clients:
        clients.go_on()
        with no_workers(on_disk, signal.SIGKILL):
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        clients.are_refused(20)
        assert on_disk.is_healthy()
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        clients.go_on()
    send_again(on_disk, clients)
    compare("file system read-only", clients, on_disk)
    assert reason(on_disk) == f"{disk} is on a file system that is mounted read-only. Mount it for writing"


def test_workers_that_start_on_a_full_disk_survive(on_disk, disk, compare):
    """They have no space for their metric files. Writing to such a mapping anyway would kill them."""
    on_disk.start()
    with load(on_disk, 8) as clients:
        clients.go_on()
        with no_workers(on_disk, signal.SIGKILL):
            shutil.rmtree(f"{on_disk.database}-metrics")
            filler = fill(disk)
        clients.are_refused(20)
        workers = on_disk.workers()
        wait_until(lambda: on_disk.said().count("are not counted: [Errno 28]") == len(workers))
        filler.unlink()
        clients.go_on()
        assert on_disk.workers() == workers
    send_again(on_disk, clients)
    compare("disk full when workers start", clients, on_disk)


@pytest.mark.parametrize("what", ["files", "folder"])
def test_missing_permissions_lose_no_event(service, tmp_path, compare, what):
    """Permissions are checked when a process opens a file, so new workers are needed. Root must drop its capabilities.

    A read-only folder matters only if files must be created in it. So these workers end normally and delete theirs.
    """
    service.database = tmp_path / "log" / "tracklog.db"
    service.environment["TRACKLOG_DATABASE"] = str(service.database)
    service.database.parent.mkdir()
    service.with_source()
    need("setpriv")
    service.start(under=["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.getuid() == 0 else ())
    with load(service, 8) as clients:
        clients.go_on()
        with no_workers(service, signal.SIGKILL if what == "files" else signal.SIGTERM):
            paths = list(service.database.parent.iterdir()) if what == "files" else [service.database.parent]
            modes = [path.stat().st_mode for path in paths]
            for path, mode in zip(paths, modes, strict=True):
                path.chmod(mode & 0o555)
        clients.are_refused(20)
        assert service.is_healthy()
        for path, mode in zip(paths, modes, strict=True):
            path.chmod(mode)
        clients.go_on()
    send_again(service, clients)
    compare(f"{what} read-only", clients, service)
    denied = service.database if what == "files" else service.database.parent
    assert f"cannot read and write {denied}, which belongs to" in reason(service)


# The log's file


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


# The clock


def test_a_clock_set_back_an_hour_loses_no_event(service, compare):
    (library, *_) = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")) or [None]
    if library is None:
        lack("libfaketime")
    clock = service.folder / "clock"
    clock.write_text("+0")
    # libfaketime breaks the system call of time.sleep.
    (service.folder / "sitecustomize.py").write_text(
        "import select, time\ntime.sleep = lambda seconds: select.select([], [], [], seconds)\n"
    )
    service.environment |= {
        "PYTHONPATH": str(service.folder),
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
    service.start()
    with load(service, 8, without_message_id) as clients:
        clients.go_on()
        clock.write_text("-3600")
        clients.go_on()
    assert clients.refused == clients.failed == []
    compare("clock set back an hour", clients, service)
    times = service.query("SELECT received_at FROM events ORDER BY id")
    assert times != sorted(times)
    assert len(clients.acknowledged_ids()) == len(clients.acknowledged)
    last = {}
    for client, count in service.query("SELECT user_id, name FROM events ORDER BY id"):
        assert int(count) == last.get(client, 0) + 1
        last[client] = int(count)


def without_message_id(client, count):
    return {"userId": str(client), "event": str(count)}
