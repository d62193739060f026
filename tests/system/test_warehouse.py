"""The SQL and the commands of docs/warehouse.md work as written, on a real archive and a second tracklog."""

import json
import os
import re
import subprocess

import pytest
from forwarder import forwarder
from needs import need
from service import BIN, PROJECT, SOURCE_ID, Service

PAGE = (PROJECT / "docs" / "warehouse.md").read_text()
DUCKDB = PROJECT / ".venv-warehouse" / "bin" / "duckdb"
# In the order of each user.
COPIED = (
    "SELECT source, message_id, type, user_id, name, timestamp, payload ->> 'properties' FROM events "
    "ORDER BY message_id NOT LIKE 'test-%', user_id, id"
)


def blocks(heading, language):
    """Return the code of a section in one language."""
    section = PAGE.partition(f"# {heading}\n")[2].partition("\n## ")[0]
    found = re.findall(rf"^```{language}\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert found
    return found


def post(service, *items):
    status, answer = service.post("/v1/batch", {"batch": [{"userId": "1", **item} for item in items]})
    assert (status, answer["stored"]) == (200, len(items)), answer


def post_one_of_each(service):
    """Post an event of each type, and some that databases do not like."""
    many = [{"type": "track", "event": "Added File", "properties": {"fileType": kind}} for kind in ("PDF", "PDF", "a")]
    post(
        service,
        *many,
        {"type": "identify", "traits": {"email": "a@host.example"}},
        {"type": "page", "name": "Home", "userId": None, "anonymousId": "a"},
        {"type": "screen", "name": "Home"},
        {"type": "group", "groupId": "g"},
        {"type": "alias", "previousId": "0"},
        {"type": "track", "event": "NUL \x00 ☃", "properties": {"fileType": "a\x00b", "\x00": 1}},
        {"type": "track", "event": "Long", "userId": "é" * 50_000},
        {"type": "track", "event": "Ages", "timestamp": "0001-01-01T00:00:00Z"},
        {"type": "track", "event": "Ages", "timestamp": "9999-12-31T23:59:59.999Z"},
        {"type": "track", "event": "Skewed", "timestamp": "2015-11-10T00:45:23.412Z", "sentAt": "2016-01-01T00:00:00Z"},
        {"type": "track", "event": "Deep", "properties": {"a": json.loads("[" * 150 + "]" * 150)}},
        {"type": "track", "event": "Large", "properties": {"n": int("9" * 4300)}},
    )


def ask(folder, *statements):
    """Run statements in DuckDB, and return the rows of the last one."""
    command = [DUCKDB, "-bail", "-json", "warehouse.duckdb", *(each for one in statements for each in ("-c", one))]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    return [json.loads(found) for found in re.findall(r"^\[\{.*?\}\]$", ended.stdout, re.DOTALL | re.MULTILINE)]


@pytest.fixture
def archived(running):
    """Return a service whose events are in an archive, some of them twice."""
    need(".venv-warehouse")
    place = running.folder / "archive"
    for collector in ("a", "b"):
        (place / collector).mkdir(parents=True)
        running.flask("destinations", "add", collector, f"archive+file://{place}/{collector}")
    post_one_of_each(running)
    running.flask("forward", "--once")
    post(running, {"type": "track", "event": "Late", "messageId": "\u2028'\"; DROP VIEW events"})
    running.flask("forward", "a", "--once")
    running.flask("destinations", "replay", "a", "--from", "2", "--to", "5")
    (place / "a" / "example" / ".7.ndjson.gz.part").write_bytes(b"unfinished")
    return running


def test_duckdb_reads_each_event_of_an_archive_once(archived):
    view, query = blocks("DuckDB", "sql")[:2]
    rows, told = ask(
        archived.folder,
        view,
        """SELECT source, message_id, type, user_id, anonymous_id, name,
        strftime(timestamp, '%Y-%m-%dT%H:%M:%S.%gZ') AS timestamp,
        strftime(received_at, '%Y-%m-%dT%H:%M:%S.%gZ') AS received_at, CAST(payload AS VARCHAR) AS payload
        FROM events""",
        query,
    )
    columns = ", ".join(rows[0])
    stored = archived.query(f"SELECT {columns} FROM events")
    assert len(stored) == 16
    assert sorted(map(str, map(tuple, map(dict.values, rows)))) == sorted(map(str, stored))
    assert told[0] == {"name": "Added File", "file_type": "PDF", "events": 2}


def test_duckdb_writes_parquet_again_and_again(archived):
    view, _, parquet = blocks("DuckDB", "sql")
    for _ in range(2):
        *_, rows = ask(archived.folder, view, parquet)
        assert sum(row["events"] for row in rows) == 16
        assert {row["type"]: row["events"] for row in rows} == dict(
            archived.query("SELECT type, count(*) FROM events GROUP BY type")
        )


def shell(service, commands, places, **environment):
    for written, meant in places.items():
        commands = commands.replace(written, meant)
    environment = service.environment | environment | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    ended = subprocess.run(
        ["bash", "-euc", commands], cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_second_tracklog_is_a_live_copy(tmp_path):
    theirs, ours = blocks("A second tracklog", "sh")
    with Service(tmp_path / "first").with_source("website") as first, Service(tmp_path / "second") as second:
        shell(second, theirs, {})
        first.start()
        second.start()
        post_one_of_each(first)
        places = {"https://": "http://", "copy.example.com": f"127.0.0.1:{second.port}"}
        shell(first, ours, places, TRACKLOG_SECRET_COPY=SOURCE_ID)
        first.environment["TRACKLOG_SECRET_COPY"] = SOURCE_ID
        with forwarder(first):
            post(first, {"type": "track", "event": "Late"})
        first.flask("forward", "--once")
        original, (_, *copied) = first.query(COPIED), second.query(COPIED)  # the first is of `destinations test`
        assert len(original) == 16
        assert copied == original
