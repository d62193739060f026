"""Full and read-only disks and missing permissions lose no acknowledged event."""

import json
import os
import shutil
import signal
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from faults import large, load, many, reason, send_again
from needs import need
from service import EVENT, Service, wait_until


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
        "Delete other files, or old events with: tracklog events prune --older-than AGE"
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
