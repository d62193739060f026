"""A backup of a running service is complete, and a service can start on it."""

import json
import os
import shutil
import sqlite3
import subprocess

import pytest
from needs import need
from service import BIN, EVENT, PROJECT, SOURCE_ID, Clients, Service, wait_until

AT = "2015-11-10T00:45:23.412Z"


def line(id):
    event = {"type": "track", "messageId": f"old-{id}", "userId": "1", "event": "Posted", "originalTimestamp": AT}
    event |= {"timestamp": AT, "receivedAt": AT, "properties": {"text": "x" * 1000}}
    return json.dumps({"id": id, "source": "example", "event": event}) + "\n"


@pytest.fixture
def laden(service):
    """Return a running service with 20,000 imported events."""
    export = service.folder / "old.ndjson"
    with open(export, "w") as lines:
        lines.writelines(map(line, range(1, 20_001)))
    assert service.flask("events", "import", export).stdout == "20000 events: 20000 stored, 0 duplicates\n"
    service.start()
    return service


def message_ids_in(path):
    """Check a log that no process has open, and return its messageIds."""
    connection = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return {id for (id,) in connection.execute("SELECT message_id FROM events")}
    finally:
        connection.close()


def test_a_service_starts_on_a_backup_that_was_made_under_load(laden, tmp_path):
    """The backup holds every event that was acknowledged before it began."""
    copy = tmp_path / "copy.db"
    with Clients(laden.port, 8) as clients:
        clients.go_on()
        before = clients.acknowledged_ids()
        laden.flask("events", "backup", copy)
        clients.go_on()
    assert (clients.refused, clients.failed) == ([], [])
    copied = message_ids_in(copy)
    assert before <= copied
    assert {f"old-{id}" for id in range(1, 20_001)} <= copied <= laden.message_ids()

    laden.stop()
    with Service(tmp_path / "restored") as restored:
        shutil.copy(copy, restored.database)
        restored.start()
        assert restored.request("GET", "/readyz")[0] == 200
        again = EVENT | {"messageId": min(before)}
        assert restored.post("/v1/track", again)[1].get("duplicate") is True
        assert restored.post("/v1/track", again | {"messageId": "new"})[0] == 200
        assert restored.message_ids() == copied | {"new"}
        assert restored.query("PRAGMA journal_mode") == [("wal",)]


def test_a_log_is_restored_as_documented_with_later_events(running, tmp_path):
    """The forwarder has delivered more events than the backup holds."""
    with Service(tmp_path / "target").with_source() as target:
        target.start()
        running.flask("destinations", "add", "next", f"http://{SOURCE_ID}@127.0.0.1:{target.port}/v1/batch")
        post = [running.post("/v1/track", EVENT | {"messageId": f"m-{n}"}) for n in range(5)]
        assert [status for status, _ in post] == [200] * 5
        running.flask("forward", "--once")
        running.flask("events", "backup", tmp_path / "copy.db")
        running.post("/v1/track", EVENT | {"messageId": "later"})
        running.flask("forward", "--once")
        running.stop()

        old = tmp_path / "old"
        old.mkdir()
        for end in ("", "-wal", "-shm"):
            if os.path.exists(f"{running.database}{end}"):
                shutil.move(f"{running.database}{end}", old)
        shutil.copy(tmp_path / "copy.db", running.database)
        running.start()
        assert running.message_ids() == {f"m-{n}" for n in range(5)}

        later = Service(old).flask("events", "export").stdout
        (old / "old.ndjson").write_text(later)
        assert running.flask("events", "import", old / "old.ndjson").stdout == "6 events: 1 stored, 5 duplicates\n"
        running.post("/v1/track", EVENT | {"messageId": "after"})
        running.flask("forward", "--once")
        expected = {f"m-{n}" for n in range(5)} | {"later", "after"}
        assert running.message_ids() == target.message_ids() == expected


def test_a_killed_backup_leaves_no_file_under_its_name(laden, tmp_path):
    command = [BIN / "flask", "events", "backup", tmp_path / "copy.db"]
    backup = subprocess.Popen(command, cwd=PROJECT, env=laden.environment)
    wait_until(lambda: list(tmp_path.glob(".backup-*/log")) or backup.poll() is not None)
    backup.kill()
    assert backup.wait() < 0
    assert not (tmp_path / "copy.db").exists()
    laden.flask("events", "backup", tmp_path / "copy.db")
    assert "old-20000" in message_ids_in(tmp_path / "copy.db")


def test_backup_and_export_report_a_full_disk(laden, mount_disk):
    """A backup also leaves no copy there."""
    full_disk = mount_disk(1)
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


def test_import_and_backup_show_their_progress_on_a_terminal(service, tmp_path):
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
