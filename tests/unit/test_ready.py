"""Readiness, the checks before a start, and the check of a whole log."""

import os

import apsw
import pytest
from factories import TRACK, events

import eventlog
from app import create_app
from config import Config
from eventlog import host_checks


def test_the_service_is_ready_if_a_write_succeeds(client, log, query):
    """The write leaves nothing in the log."""
    log.append([])
    before = query("SELECT * FROM counts"), query("SELECT * FROM sqlite_sequence")
    assert (client.get("/readyz").status_code, client.get("/readyz").json) == (200, {"status": "ready"})
    assert (query("SELECT * FROM counts"), query("SELECT * FROM sqlite_sequence")) == before


def test_readiness_needs_a_commit(app, client, monkeypatch):
    def fail(*_):
        raise apsw.FullError("database or disk is full")

    class Connection(apsw.Connection):
        def execute(self, statement, *rest):
            return fail() if statement == "COMMIT" else super().execute(statement, *rest)

    monkeypatch.setattr("eventlog.schema.apsw.Connection", Connection)
    assert client.get("/readyz").status_code == 503


@pytest.mark.parametrize("trouble", ["moved", "locked", "full", "foreign"])
def test_the_answer_says_why_the_service_is_not_ready(path, log, monkeypatch, trouble):
    monkeypatch.setattr("eventlog.database.WAIT_SECONDS", 0.1)
    locker = None
    if trouble == "moved":
        os.rename(path, path + ".away")
    if trouble == "locked":
        locker = apsw.Connection(path)
        locker.execute("BEGIN EXCLUSIVE")
    if trouble == "foreign":
        log.close()
        os.remove(path)
        apsw.Connection(path).execute("CREATE TABLE theirs (x)")
    client = create_app(Config(database=path, min_free_bytes=1 << 60 if trouble == "full" else 1)).test_client()
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json["code"] == "storage_unavailable"
    reason = {
        "moved": "There is no log at",
        "locked": "holds a lock",
        "full": "bytes are free on the disk",
        "foreign": "not a tracklog log",
    }
    assert reason[trouble] in response.json["message"]
    assert int(response.headers["Retry-After"]) > 0
    if locker:
        locker.close()


@pytest.mark.parametrize(
    ("version", "good"),
    [
        ("3.51.2", False),
        ("3.40.1", False),
        ("3.51.3", True),
        ("3.54.0", True),
        ("4.0.0", True),
    ],
)
def test_a_sqlite_that_can_corrupt_a_log_is_rejected(version, good):
    if good:
        host_checks.check_sqlite(version)
    else:
        with pytest.raises(eventlog.Unusable, match=r"Install an apsw with SQLite 3\.51\.3"):
            host_checks.check_sqlite(version)


MOUNTS = r"""
/dev/vda / ext4 rw 0 0
server:/share /mnt/nfs nfs4 rw 0 0
/dev/vdb /mnt/nfs/disk xfs rw 0 0
//server/share /mnt/with\040blank cifs rw 0 0
me@host: /home/me/far fuse.sshfs rw 0 0
""".strip()


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/var/lib/tracklog", None),
        ("/mnt/nfs", "nfs4"),
        ("/mnt/nfs/a/b", "nfs4"),
        ("/mnt/nfs/disk/a", None),
        ("/mnt/nfsother", None),
        ("/mnt/with blank/x", "cifs"),
        ("/home/me/far", "fuse.sshfs"),
    ],
)
def test_a_network_file_system_is_rejected(folder, kind):
    if kind is None:
        host_checks.check_file_system(folder, MOUNTS)
    else:
        with pytest.raises(eventlog.Unusable, match=f"network file system \\({kind}\\)"):
            host_checks.check_file_system(folder, MOUNTS)


def test_an_intact_log_passes_the_check(runner, post, path, log):
    post("/v1/track", TRACK)
    post("/v1/track", {"userId": "1"})
    result = runner.invoke(args=["events", "check"])
    assert (result.exit_code, result.output) == (
        0,
        "The log is intact and its counts match its rows; the last event is 1\n",
    )


def test_wrong_counts_are_reported(runner, post, path, log):
    post("/v1/track", TRACK)
    post("/v1/track", {"userId": "1"})
    connection = apsw.Connection(path)
    kept = connection.execute("SELECT size FROM rejected_sizes").get
    connection.execute("UPDATE counts SET count = 5 WHERE outcome = 'stored'; UPDATE rejected_size SET bytes = 3")
    connection.close()
    result = runner.invoke(args=["events", "check"])
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "There are 1 track events of example, but 5 are counted",
        f"The table rejected has {kept} bytes, but 3 are counted",
    ]


def test_a_damaged_log_fails_the_check(runner, log, path):
    log.append(events(500, payload='{"x": "' + "y" * 500 + '"}'))
    log.close()
    size = os.path.getsize(path)
    with open(path, "r+b") as file:
        file.seek(size // 2)
        file.write(b"\xff" * 20_000)
    result = runner.invoke(args=["events", "check"])
    assert result.exit_code == 1


def test_the_folder_behind_a_symbolic_link_is_checked(tmp_path):
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "elsewhere" / "tracklog.db")
    with pytest.raises(eventlog.Unusable, match="elsewhere does not exist"):
        host_checks.check(str(link))
