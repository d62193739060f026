"""Move a log, or its events, to another place and back."""

import errno
import gzip
import io
import json
import os

import apsw
import pytest
from factories import damage_index, events, without_log_name

import eventlog
from app import create_app
from config import Config

UNUSUAL = {
    "é": "日本語 \u2028 \\u0000 🛰",
    "large": 2**70,
    "tiny": 1e-7,
    "escaped": '\x00\x7f"\\/',
    "<b>": [[], {}, None],
}


@pytest.fixture
def many(post):
    """Events of every type, among them a very large one and one with unusual JSON."""
    calls = [
        {"type": "track", "userId": "1", "event": "Added File", "properties": UNUSUAL},
        {"type": "page", "anonymousId": "nobody", "name": "Start"},
        {"type": "screen", "userId": "1", "name": "Start"},
        {"type": "identify", "userId": 7, "traits": {"text": "é" * 260_000}},
        {"type": "group", "userId": "1", "groupId": "g", "timestamp": "2015-11-10T00:45:23.412+02:00"},
        {"type": "alias", "userId": "1", "previousId": "nobody"},
    ]
    for number in range(300):
        calls.append({"type": "track", "userId": str(number), "event": "Many", "messageId": f"m-{number}"})
    status, answer = post("/v1/batch", json.dumps({"batch": calls}, ensure_ascii=False).encode())
    assert (status, answer["stored"]) == (200, 306), answer
    return calls


def run_on(path, *arguments, input=None, exit_code=0):
    """Run a command on the log at `path` and return its output."""
    app = create_app(Config(database=str(path)))
    result = app.test_cli_runner().invoke(
        args=["events", *arguments], input=input, env={"TRACKLOG_DATABASE": str(path)}
    )
    app.extensions["eventlog"].close()
    assert result.exit_code == exit_code, result.output
    return without_log_name(result.output)


def rows_of(path):
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return connection.execute("SELECT * FROM events ORDER BY id").fetchall()
    finally:
        connection.close()


def line(id=1, source="example", **changes):
    event = {
        "type": "track",
        "messageId": f"m-{id}",
        "userId": "1",
        "event": "Posted",
        "originalTimestamp": "2015-11-10",
        "timestamp": "2015-11-10T00:00:00.000Z",
        "receivedAt": "2015-11-10T00:45:23.412Z",
    } | changes
    return json.dumps({"id": id, "source": source, "event": event}) + "\n"


def test_an_import_of_an_export_equals_the_log(many, path, tmp_path):
    exported = run_on(path, "export")
    new = tmp_path / "new.db"
    assert run_on(new, "import", "-", input=exported) == "306 events: 306 stored, 0 duplicates\n"
    assert rows_of(new) == rows_of(path)
    assert run_on(new, "export") == exported
    assert run_on(new, "stats") == run_on(path, "stats")
    assert run_on(new, "check").startswith("The log is intact")


def test_an_import_can_be_repeated_and_continued(many, path, tmp_path):
    lines = run_on(path, "export").split("\n")
    new = tmp_path / "new.db"
    run_on(new, "import", "-", input="\n".join(lines[:100]))
    assert run_on(new, "import", "-", input="\n".join(lines[:200])) == "200 events: 100 stored, 100 duplicates\n"
    assert run_on(new, "import", "-", input="\n".join(lines)) == "306 events: 106 stored, 200 duplicates\n"
    assert rows_of(new) == rows_of(path)


def test_an_import_uses_no_id_that_a_reader_has_passed(log, path, query):
    run_on(path, "import", "-", input=line(5) + line(9))
    run_on(path, "import", "-", input=line(5, messageId="a") + line(7, messageId="b") + line(20, messageId="c"))
    assert query("SELECT id, message_id FROM events") == [(5, "m-5"), (9, "m-9"), (10, "a"), (11, "b"), (20, "c")]


def test_an_export_with_the_largest_ids_can_be_imported(path, tmp_path, query, post):
    run_on(path, "import", "-", input=line(2**53 - 1))
    assert post("/v1/track", {"userId": "1", "event": "Posted"})[0] == 200
    exported = run_on(path, "export")
    assert [id for (id,) in query("SELECT id FROM events ORDER BY id")] == [2**53 - 1, 2**53]
    assert run_on(tmp_path / "new.db", "import", "-", input=exported) == "2 events: 2 stored, 0 duplicates\n"
    assert [row[0] for row in rows_of(tmp_path / "new.db")] == [2**53 - 1, 2**53]


def test_an_id_out_of_range_is_replaced_by_the_next_id(path, query):
    run_on(path, "import", "-", input=line(10**30, messageId="a") + line(2**53, messageId="b"))
    assert query("SELECT id FROM events ORDER BY id") == [(1,), (2,)]


def test_an_imported_event_is_counted_at_its_own_times(path, query):
    run_on(path, "import", "-", input=line() + line())
    assert query("SELECT timestamp, received_at FROM events") == [
        ("2015-11-10T00:00:00.000Z", "2015-11-10T00:45:23.412Z")
    ]
    assert query("SELECT source, outcome, count, first_at FROM counts ORDER BY outcome") == [
        ("example", "duplicate", 1, "2015-11-10T00:45:23.412Z"),
        ("example", "stored", 1, "2015-11-10T00:45:23.412Z"),
    ]


def test_a_sent_event_that_was_imported_is_a_duplicate(log, path, post):
    run_on(path, "import", "-", input=line())
    assert post("/v1/track", {"userId": "1", "event": "Posted", "messageId": "m-1"})[1]["duplicate"] is True


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (" x \n", "invalid_json: line 1, column 1: "),
        ("[1]\n", "invalid_json: "),
        (line()[:-10] + "\n", "invalid_json: "),
        (line().replace('"id"', '"ID"'), "The line needs an id"),
        (line(id=0), "The line needs an id"),
        (line(id=True), "The line needs an id"),
        (line(id=-1), "The line needs an id"),
        (line(source=None), "The line needs the name of a source"),
        (line(source="a\0b"), "A source's name is printable text"),
        ('{"id": 1, "source": "example", "event": []}\n', "event_not_object"),
        (line(type="trak"), "unknown_type"),
        (line(event=None), "event_not_defined"),
        (line(userId=[]), "id_not_string"),
        (line(messageId=""), "The event needs a messageId"),
        (line(timestamp="2015-11-10"), "The event's timestamp must be"),
        (line(receivedAt=None), "The event's receivedAt must be"),
        (line(properties={"x": float("nan")}), "invalid_number"),
        (line(anonymousId="\ud800"), "invalid_text"),
        (line(properties=json.loads('{"x":' * 250 + "1" + "}" * 250)), "too_deep"),
    ],
)  # fmt: skip
def test_an_import_keeps_the_lines_before_an_invalid_one(path, query, bad, reason):
    output = run_on(path, "import", "-", input=line(1000) + bad + line(1001), exit_code=1)
    assert output.startswith(f"Error: Cannot import line 2; the lines before it are imported. {reason}")
    assert query("SELECT id FROM events") == [(1000,)]


def test_an_import_names_a_line_that_is_not_utf_8(path):
    assert "the byte 0xff is not UTF-8" in run_on(path, "import", "-", input=b'{"id": "\xff"}\n', exit_code=1)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none", "No such file or directory"),
        ("", "Is a directory"),
        ("file/none", "Not a directory"),
        ("loop", "Too many levels of symbolic links"),
    ],
)
def test_an_import_of_a_file_that_cannot_be_opened_says_why(tmp_path, name, reason):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    path = str(tmp_path / name)
    assert reason in run_on(tmp_path / "new.db", "import", path, exit_code=2)
    assert sorted(os.listdir(tmp_path)) == ["file", "loop"]


def test_an_import_without_permission_says_so(tmp_path, monkeypatch):
    def refuse(path, *arguments, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    (tmp_path / "old").touch()
    monkeypatch.setattr("builtins.open", refuse)
    assert "Permission denied" in run_on(tmp_path / "new.db", "import", str(tmp_path / "old"), exit_code=2)


@pytest.mark.parametrize("blank", ["\n", " \t\r\n"])
def test_blank_lines_of_an_import_are_skipped(path, blank):
    text = f"{blank}{line(1)}{blank}{line(2)}{blank}"
    assert run_on(path, "import", "-", input=text) == "2 events: 2 stored, 0 duplicates\n"
    bad = run_on(path, "import", "-", input=f"{line(3)}{blank}x\n", exit_code=1)
    assert bad.startswith("Error: Cannot import line 3")


@pytest.mark.parametrize("is_piped", [False, True])
def test_a_compressed_export_is_imported(path, tmp_path, is_piped):
    """Under any name, and with several members, as objects of an archive have together."""
    packed = gzip.compress(line(1).encode()) + gzip.compress((line(2) + line(3)).encode()) + bytes(512)
    (tmp_path / "old").write_bytes(packed)
    output = run_on(path, "import", "-", input=packed) if is_piped else run_on(path, "import", str(tmp_path / "old"))
    assert output == "3 events: 3 stored, 0 duplicates\n"


def test_a_broken_compressed_export_is_imported_in_part(path, query):
    texts = [line(id, properties={"text": os.urandom(3000).hex()}) for id in range(1, 21)]
    packed = gzip.compress("".join(texts).encode())
    for broken in (packed[:-20_000], packed[:-4], packed + b"more", packed[:-8] + bytes(8)):
        output = run_on(path, "import", "-", input=broken, exit_code=1)
        assert output.startswith("Error: Cannot read the file past line ")
        assert "the events up to that line are imported: " in output
        ((count,),) = query("SELECT count(*) FROM events")
        assert f"past line {count};" in output or count == 20
        assert count >= 10


def test_a_failure_to_read_a_file_is_reported(path):
    output = run_on(path, "import", "-", input=FailingFile(line(1).encode()), exit_code=1)
    assert "past line 1;" in output
    assert output.endswith(": Input/output error\n")


class FailingFile(io.RawIOBase):
    """A file on a disk that fails after the first block."""

    def __init__(self, content):
        self._content = content

    def readable(self):
        return True

    def readinto(self, buffer):
        if buffer and not self._content:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        size = min(len(buffer), len(self._content))
        buffer[:size], self._content = self._content[:size], self._content[size:]
        return size


def test_a_backup_is_one_file_that_can_be_read_in_place(many, path, tmp_path):
    """The copy needs no WAL, so it can be read on a read-only disk."""
    copy = tmp_path / "backup" / "copy.db"
    copy.parent.mkdir()
    assert run_on(path, "backup", str(copy)) == f"Backed up {path} to {copy}; its last event is 306\n"
    assert os.listdir(copy.parent) == ["copy.db"]
    connection = apsw.Connection(str(copy), flags=apsw.SQLITE_OPEN_READONLY)
    assert connection.pragma("journal_mode") == "delete"
    assert connection.execute("PRAGMA integrity_check").get == "ok"
    connection.close()
    assert rows_of(copy) == rows_of(path)
    assert os.listdir(copy.parent) == ["copy.db"]


@pytest.mark.parametrize("end", ["", "-wal", "-journal"])
def test_a_backup_is_never_written_over_anything(log, path, tmp_path, end):
    there = tmp_path / f"copy.db{end}"
    there.write_text("mine")
    before = set(os.listdir(tmp_path))
    assert run_on(path, "backup", str(tmp_path / "copy.db"), exit_code=1) == f"Error: {there} exists already\n"
    assert there.read_text() == "mine"
    assert set(os.listdir(tmp_path)) - before <= {"tracklog.db-wal", "tracklog.db-shm", "tracklog.db-queue"}


def test_a_backup_keeps_a_file_that_appears_meanwhile(log, tmp_path):
    target = tmp_path / "copy.db"
    with pytest.raises(eventlog.NotPossible, match="exists already"):
        log.back_up(str(target), lambda done, pages: target.write_text("mine"))
    assert target.read_text() == "mine"
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_a_backup_of_a_damaged_log_is_deleted(many, log, path, tmp_path):
    log.close()
    damage_index(path)
    target = tmp_path / "copy.db"
    assert "The copy is broken and was deleted: " in run_on(path, "backup", str(target), exit_code=1)
    assert not target.exists()


def test_a_backup_makes_progress_while_others_write(log, many, path, tmp_path, post, monkeypatch):
    """A backup in several transactions would be restarted by each commit."""
    monkeypatch.setattr("eventlog.backup.STEP_PAGES", 10)
    steps = []

    def report(done, pages):
        assert not steps or done > steps[-1][0]
        steps.append((done, pages))
        assert post("/v1/track", {"userId": "1", "event": "Meanwhile"})[0] == 200

    target = tmp_path / "copy.db"
    assert log.back_up(str(target), report) == 306
    assert len(steps) > 10
    assert steps[-1][0] == steps[-1][1]
    assert [row[0] for row in rows_of(target)] == list(range(1, 307))
    assert log.reader.last_id() == 306 + len(steps)


def test_a_restored_backup_is_a_log_in_wal_mode(log, many, path, tmp_path):
    target = str(tmp_path / "copy.db")
    log.back_up(target, lambda done, pages: None)
    eventlog.migrate(target)
    restored = eventlog.EventLog(target)
    restored.prove_writable(0)
    assert restored.reader.problems() == []
    restored.close()
    connection = apsw.Connection(target)
    assert connection.pragma("journal_mode") == "wal"
    connection.close()


def test_a_check_reports_the_share_that_is_done(log):
    log.append(events(3000))
    shares = []
    assert log.reader.problems(lambda done, total: shares.append(done / total)) == []
    assert shares == sorted(shares)
    assert shares
    assert 0.3 < shares[-1] < 3
