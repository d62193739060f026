"""Each problem with the log is reported with its cause and a remedy."""

import fcntl
import os
import resource
import subprocess
from contextlib import closing

import apsw
import pytest
from factories import event

import eventlog
from eventlog.errors import explain
from telemetry.storage_trouble import StorageTrouble, explain_failure


@pytest.fixture
def refusal(log, monkeypatch):
    """Return a function that appends to the log and returns the error."""
    monkeypatch.setattr("eventlog.writer.WAIT_SECONDS", 0.1)

    def refusal():
        with pytest.raises(eventlog.Unavailable) as refused:
            log.append([event()])
        return str(refused.value)

    return refusal


def test_another_process_holds_the_lock(refusal, path):
    with closing(apsw.Connection(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert refusal() == f"Another process holds a lock on {path}. Find it with: fuser {path}"


def test_another_process_holds_the_queue(refusal, path):
    with open(f"{path}-queue", "r+b") as queue:
        fcntl.flock(queue, fcntl.LOCK_EX)
        assert refusal().endswith(f"for seconds. Find them with: fuser {path}-queue")


@pytest.mark.parametrize("opened", [0, 3], ids=["for the log", "for the queue"])
def test_too_many_files_are_open(refusal, log, path, opened):
    log.close()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open(path + "-queue") as probe:
        lowest = probe.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + opened, limits[1]))
    try:
        said = refusal()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert said == f"{path} cannot be opened: too many files are open. Raise the limit: LimitNOFILE=, or ulimit -n"


def test_the_file_is_damaged(log, path):
    log.close()
    with open(path, "r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 4000)
    with pytest.raises(eventlog.Damaged, match=f"^{path} is damaged ") as damaged:
        log.reader.last_id()
    assert explain_failure(damaged.value).endswith(". Restore a backup. To list the damage: tracklog events check")


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (
            eventlog.DiskFull("The disk of x is full"),
            "The disk of x is full. Delete other files, or old events with: tracklog events prune",
        ),
        (eventlog.Missing("There is no log at x"), "There is no log at x. Mount its disk, or move it back. If it is"),
        (eventlog.Unavailable("x is busy"), "x is busy"),
    ],
)
def test_the_log_line_of_a_trouble_has_the_remedy(failure, reason, caplog):
    StorageTrouble().note_failure(failure)
    assert caplog.messages[0].startswith(f"storage unavailable: {reason}")
    assert caplog.records[0].reason.startswith(reason)


def test_a_folder_is_at_the_path(tmp_path):
    with pytest.raises(
        eventlog.Unavailable, match=f"^{tmp_path} is a folder. TRACKLOG_DATABASE must name a file in it"
    ):
        eventlog.EventLog(str(tmp_path)).reader.last_id()


@pytest.mark.parametrize("error", [apsw.IOError("disk I/O error"), OSError(5, "Input/output error")])
def test_the_disk_fails(path, error):
    assert explain(path, error) == f"The disk of {path} fails ({error}). Look at the kernel's log: journalctl -k"


def test_the_folder_of_a_backup_is_missing(log, tmp_path):
    with pytest.raises(eventlog.NotPossible, match=f"The folder {tmp_path}/none does not exist. Create it first"):
        log.back_up(str(tmp_path / "none" / "copy.db"), lambda done, pages: None)


def test_the_disk_of_a_backup_is_full(log, tmp_path):
    """The log's own disk has room, so the message must name the other."""
    log.append([event()])
    full = tmp_path / "full"
    full.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", full], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        with pytest.raises(eventlog.NotPossible, match=f"The disk of {full}/copy.db is full. Delete files there"):
            log.back_up(str(full / "copy.db"), lambda done, pages: None)
        assert os.listdir(full) == []
    finally:
        subprocess.run(["umount", "--lazy", full], check=True)
