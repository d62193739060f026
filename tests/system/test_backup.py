"""A backup of a service at work, and what a service makes of it."""

import json
import os
import shutil
import sqlite3
import subprocess

import pytest
from service import BIN, PROJECT, SOURCE_ID, Clients, Service, lack, need, wait_until

AT = "2015-11-10T00:45:23.412Z"


def line(id):
    event = {"type": "track", "messageId": f"old-{id}", "userId": "1", "event": "Posted", "originalTimestamp": AT}
    event |= {"timestamp": AT, "receivedAt": AT, "properties": {"text": "x" * 1000}}
    return json.dumps({"id": id, "source": "example", "event": event}) + "\n"


@pytest.fixture
def laden(service):
    """A service whose log holds some 20,000 events, which came by an import."""
    export = service.folder / "old.ndjson"
    with open(export, "w") as lines:
        lines.writelines(map(line, range(1, 20_001)))
    assert service.flask("events", "import", export).stdout == "20000 events: 20000 stored, 0 duplicates\n"
    service.start()
    return service


def message_ids(path):
    connection = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return {id for (id,) in connection.execute("SELECT message_id FROM events")}
    finally:
        connection.close()


def test_a_backup_under_load_holds_what_was_acknowledged_before_and_a_service_starts_on_it(laden, tmp_path):
    copy = tmp_path / "copy.db"
    with Clients(laden.port, 8) as clients:
        clients.go_on()
        before = clients.acknowledged_ids()
        laden.flask("events", "backup", copy)
        clients.go_on()
    assert (clients.refused, clients.failed) == ([], [])
    copied = message_ids(copy)
    assert before <= copied
    assert {f"old-{id}" for id in range(1, 20_001)} <= copied <= message_ids_of(laden)

    laden.stop()
    restored = Service(tmp_path / "restored")
    restored.folder.mkdir()
    shutil.copy(copy, restored.database)
    restored.start()
    try:
        assert restored.request("GET", "/readyz")[0] == 200
        again = {"userId": "1", "event": "Posted", "messageId": min(before)}
        assert restored.post("/v1/track", again)[1].get("duplicate") is True
        assert restored.post("/v1/track", again | {"messageId": "new"})[0] == 200
        assert message_ids_of(restored) == copied | {"new"}
        assert restored.query("PRAGMA journal_mode") == [("wal",)]
    finally:
        restored.stop()


def message_ids_of(service):
    return {id for (id,) in service.query("SELECT message_id FROM events")}


def test_a_log_is_restored_as_documented_and_what_came_later_is_brought_back(running, tmp_path):
    """With a forwarder that has delivered more than the backup holds."""
    target = Service(tmp_path / "target")
    target.folder.mkdir()
    target.flask("sources", "add", "example", "--source-id", SOURCE_ID)
    target.start()
    try:
        running.flask("destinations", "add", "next", f"http://{SOURCE_ID}@127.0.0.1:{target.port}/v1/batch")
        post = [running.post("/v1/track", {"userId": "1", "event": "Posted", "messageId": f"m-{n}"}) for n in range(5)]
        assert [status for status, _ in post] == [200] * 5
        running.flask("forward", "--once")
        running.flask("events", "backup", tmp_path / "copy.db")
        running.post("/v1/track", {"userId": "1", "event": "Posted", "messageId": "later"})
        running.flask("forward", "--once")
        running.stop()

        old = tmp_path / "old"
        old.mkdir()
        for end in ("", "-wal", "-shm"):
            if os.path.exists(f"{running.database}{end}"):
                shutil.move(f"{running.database}{end}", old)
        shutil.copy(tmp_path / "copy.db", running.database)
        running.start()
        assert message_ids_of(running) == {f"m-{n}" for n in range(5)}

        later = Service(old).flask("events", "export").stdout
        (old / "old.ndjson").write_text(later)
        assert running.flask("events", "import", old / "old.ndjson").stdout == "6 events: 1 stored, 5 duplicates\n"
        running.post("/v1/track", {"userId": "1", "event": "Posted", "messageId": "after"})
        running.flask("forward", "--once")
        expected = {f"m-{n}" for n in range(5)} | {"later", "after"}
        assert message_ids_of(running) == message_ids_of(target) == expected
    finally:
        target.stop()


def test_a_backup_that_is_killed_leaves_nothing_under_its_name(laden, tmp_path):
    command = [BIN / "flask", "events", "backup", tmp_path / "copy.db"]
    backup = subprocess.Popen(command, cwd=PROJECT, env=laden.environment)
    wait_until(lambda: list(tmp_path.glob(".backup-*/log")) or backup.poll() is not None)
    backup.kill()
    assert backup.wait() < 0
    assert not (tmp_path / "copy.db").exists()
    laden.flask("events", "backup", tmp_path / "copy.db")
    assert "old-20000" in message_ids(tmp_path / "copy.db")


@pytest.fixture
def full_disk(tmp_path):
    """A disk of its own with no room for a copy of the log."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        lack(f"the right to mount a file system ({mounted.stderr.strip()})")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_backup_or_an_export_to_a_full_disk_says_so_and_leaves_no_copy(laden, full_disk):
    copy = full_disk / "copy.db"
    done = laden.flask("events", "backup", copy, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        f"Error: The disk of {copy} is full. Delete files there, or choose another disk\n",
    )
    assert list(full_disk.iterdir()) == []
    with open(full_disk / "all.ndjson", "w") as output:
        command = [BIN / "flask", "events", "export"]
        done = subprocess.run(
            command, cwd=PROJECT, env=laden.environment, stdout=output, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr) == (1, "Error: No space left on device\n")


def test_an_import_and_a_backup_show_on_a_terminal_how_far_they_are(service, tmp_path):
    need("script")
    export = tmp_path / "old.ndjson"
    export.write_text("".join(map(line, range(1, 2001))))
    for arguments, label in ((["import", export], "Importing"), (["backup", tmp_path / "copy.db"], "Copying")):
        command = " ".join(map(str, [BIN / "flask", "events", *arguments]))
        shown = subprocess.run(
            ["script", "-qec", command, "/dev/null"],
            cwd=PROJECT, env=service.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        assert label in shown
        assert "100%" in shown
