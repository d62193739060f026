"""Rejections can be listed, fixed and replayed, and their size is bounded."""

import json
import os
from functools import partial

import apsw
import pytest
from factories import AT, TRACK, item, rejection

import eventlog
from app import create_app
from config import Config
from eventlog import schema

GOOD = TRACK | {"timestamp": AT}


@pytest.fixture
def run(run):
    return partial(run, "rejected")


@pytest.fixture
def refuse(post, query):
    """Return a function that sends an invalid body and returns the id of its rejection."""

    def refuse(url, body, **headers):
        status, _ = post(url, body, **headers)
        assert status in (400, 401)
        return query("SELECT max(id) FROM rejected")[0][0]

    return refuse


def test_a_fixed_body_becomes_an_event(run, refuse, query, stored, tmp_path):
    """The event keeps the time at which the body was received."""
    id = refuse("/v1/track", "{'userId': '1', 'event': 'Added File'}")
    mended = tmp_path / "mended.json"
    mended.write_text(json.dumps(GOOD))
    assert "invalid_json" in run("replay", id, exit_code=1)
    assert run("replay", id, "--body", mended) == f"{id} is stored as event 1\n"
    ((received_at, became),) = query("SELECT received_at, became FROM rejected")
    (event,) = stored()
    assert (event["receivedAt"], event["timestamp"], became) == (received_at, GOOD["timestamp"], 1)


def test_a_body_that_is_replayed_twice_is_stored_once(run, refuse, query):
    id = refuse("/v1/track", "{'userId': '1'}")
    assert run("replay", id, "--body", "-", stdin=json.dumps(GOOD)) == f"{id} is stored as event 1\n"
    assert run("replay", id, "--body", "-", stdin=json.dumps(GOOD)) == f"{id} was already stored as event 1\n"
    assert (
        run("replay", id, "--body", "-", stdin=json.dumps(GOOD | {"event": "x"}))
        == f"{id} was already stored as event 1\n"
    )
    batch = refuse("/v1/batch", "[1]")
    items = {"batch": [item(timestamp=AT), item(timestamp=AT)]}
    run("replay", batch, "--body", "-", stdin=json.dumps(items))
    ((second, _),) = query("SELECT min(id), max(id) FROM events WHERE id > 1")
    assert (
        run("replay", batch, "--body", "-", stdin=json.dumps(items))
        == f"{batch} was already stored as event {second}\n"
    )
    assert query("SELECT count(*) FROM events") == [(3,)]
    assert query("SELECT became FROM rejected WHERE id = ?", batch) == [(second,)]


def test_all_rejections_of_a_code_are_replayed(run, refuse, log, stored):
    log.sources.set_enabled("example", False)
    ids = [
        refuse("/v1/track", GOOD | {"messageId": "a"}),
        refuse("/v1/t", GOOD | {"messageId": "b"}),
        refuse("/v1/page/", {"userId": "1", "messageId": "c"}),
        refuse("/v1/batch", {"sentAt": AT, "batch": [item(timestamp=AT, messageId="d")]}),
    ]
    output = run("replay", "--code", "source_disabled", exit_code=1)
    assert output.count("source_disabled") == 4
    log.sources.set_enabled("example", True)
    output = run("replay", "--code", "source_disabled")
    assert output.splitlines() == [f"{id} is stored as event {event}" for event, id in enumerate(ids, 1)]
    events = stored()
    assert [(event["messageId"], event["type"]) for event in events] == [
        ("a", "track"),
        ("b", "track"),
        ("c", "page"),
        ("d", "track"),
    ]
    assert events[3]["timestamp"] == events[3]["receivedAt"]  # the batch's sentAt still corrects the sender's clock
    assert run("replay", "--all") == ""


def test_a_batch_item_and_a_pixel_are_replayed_alone(run, client, post, query, stored):
    post("/v1/batch", {"batch": [item(timestamp=AT), {"type": "track", "userId": "1"}]})
    client.get("/v1/pixel/track?writeKey=ILoveData123&userId=1")
    for id in (1, 2):
        body = json.loads(run("show", id, "--raw"))
        run("replay", id, "--body", "-", stdin=json.dumps(body | {"event": "Mended"}))
    assert [event["event"] for event in stored()] == ["Added File", "Mended", "Mended"]


def test_a_replayed_batch_keeps_its_rejected_items(run, refuse, query):
    id = refuse("/v1/batch", '{"batch": nothing}')
    mended = {"batch": [item(timestamp=AT), {"type": "track"}]}
    assert run("replay", id, "--body", "-", stdin=json.dumps(mended)) == f"{id} is stored as event 1\n"
    assert query("SELECT code, route FROM rejected ORDER BY id") == [
        ("invalid_json", "/v1/batch"),
        ("event_not_defined", "/v1/batch"),
    ]
    nothing = {"batch": [{"type": "track"}]}
    assert "event_not_defined" in run("replay", id, "--body", "-", stdin=json.dumps(nothing), exit_code=1)


def test_a_cut_body_is_replayed_only_from_a_whole_one(run, refuse):
    id = refuse("/v1/track", b"no gzip", Content_Encoding="gzip")
    assert "Only the beginning of this body was kept" in run("replay", id, exit_code=1)
    assert run("replay", id, "--body", "-", stdin=json.dumps(GOOD)) == f"{id} is stored as event 1\n"


def test_a_raised_limit_accepts_a_body_that_was_too_large(refuse, path, query):
    id = refuse("/v1/track", GOOD | {"text": "x" * 600_000})
    app = create_app(Config(database=path, max_event_bytes=1_000_000))
    result = app.test_cli_runner().invoke(args=["rejected", "replay", str(id)])
    assert result.stdout == f"{id} is stored as event 1\n"


def test_rejections_are_listed_until_they_are_replayed(run, refuse, log):
    assert run("list") == "ID  RECEIVED  SOURCE  ROUTE  CODE  SEEN  EVENT\n"
    first = refuse("/v1/track", {"userId": "1"})
    refuse("/v1/track", {"userId": "1"})
    refuse("/v1/page", "{")
    lines = run("list").splitlines()
    assert len(lines) == 3
    assert lines[1].split() == ["1", *lines[1].split()[1:3], "example", "/v1/track", "event_not_defined", "2"]
    assert len(run("list", "--code", "invalid_json").splitlines()) == 2
    assert len(run("list", "--source", "nobody").splitlines()) == 1
    run("replay", first, "--body", "-", stdin=json.dumps(GOOD))
    assert len(run("list").splitlines()) == 2
    assert len(run("list", "--replayed").splitlines()) == 3


def test_a_rejection_is_shown_with_its_errors_or_raw(run, refuse, runner):
    body = b'{"event": {}, "\xc3\xa9\\u001b": "\x1b"}'.replace(b"\x1b", b"x")
    id = refuse("/v1/track", body)
    shown = run("show", id)
    assert "event: event_not_string: event must be a string or a number" in shown
    assert "userId: id_required" in shown
    assert "on /v1/track from example" in shown
    assert runner.invoke(args=["rejected", "show", str(id), "--raw"]).stdout_bytes == body
    hostile = refuse("/v1/track", b"\x1b]0;pwned\x07")
    assert "\x1b" not in run("show", hostile)
    assert "There is nothing rejected with the id 99" in run("show", 99, exit_code=1)


def test_rejections_are_deleted_by_id_by_code_or_all(run, refuse, query):
    ids = [refuse("/v1/track", f'{{"number": {number}}}') for number in range(3)]
    refuse("/v1/track", "{")
    assert run("delete", *ids[:2]) == "2 deleted\n"
    assert run("delete", "--code", "invalid_json") == "1 deleted\n"
    assert run("delete", "--all") == "1 deleted\n"
    assert query("SELECT count(*), (SELECT bytes FROM rejected_size) FROM rejected") == [(0, 0)]
    assert "Give ids, or --code, or --all" in run("delete", exit_code=2)


def test_the_oldest_rejections_are_dropped_above_the_limit(log, path, query):
    """They are counted as dropped."""
    small = eventlog.EventLog(path, max_rejected_bytes=3000)

    for number in range(5):
        small.append([], [rejection(b"%04d" % number * 250)])
    small.append([], [rejection(b"%04d" % 4 * 250)])
    small.close()
    assert query("SELECT id, times_seen FROM rejected") == [(4, 1), (5, 2)]
    assert query("SELECT bytes FROM rejected_size") == query("SELECT sum(size) FROM rejected_sizes")
    assert query("SELECT outcome, count FROM counts ORDER BY outcome") == [("dropped", 3), ("rejected", 6)]
    assert log.reader.problems() == []


def test_room_for_a_large_body_is_made_in_small_transactions(log, path, query, monkeypatch):
    """All appends wait for each transaction. The next rejections delete the rest, and the table never grows."""
    log.append([], [rejection(b"%d" % number) for number in range(20_000)])
    deleted = [0]  # rows per transaction

    def watch(connection):
        connection.set_commit_hook(lambda: bool(deleted.append(0)))
        connection.set_update_hook(count)

    def count(kind, database, table, id):
        deleted[-1] += (kind, table) == (apsw.SQLITE_DELETE, "rejected")

    monkeypatch.setattr(apsw, "connection_hooks", [watch])
    small = eventlog.EventLog(path, max_rejected_bytes=960_000)
    sizes = [query("SELECT bytes FROM rejected_size")[0][0]]
    for body_bytes in (950_000, *range(30, 60)):
        small.append([], [rejection(b"x" * body_bytes)])
        sizes += query("SELECT bytes FROM rejected_size")[0]
        if sizes[-1] <= 960_000:
            break
    small.close()
    assert 0 < max(deleted) <= 250
    assert sizes == sorted(set(sizes), reverse=True)
    assert len(sizes) > 3
    assert sizes[-1] <= 960_000
    assert log.reader.problems() == []


@pytest.mark.parametrize(
    ("error_bytes", "body_bytes"),
    [(2, 5), (150, 60), (150, 800), (150, 1900), (150, 2100), (150, 4000), (3000, 50), (30_000, 500), (150, 65_536)],
)
def test_the_counted_size_is_the_size_in_the_file(log, query, error_bytes, body_bytes):
    errors = json.dumps("e" * (error_bytes - 2))
    log.append([], [rejection(b"%04d" % number + b"x" * (body_bytes - 4), errors=errors) for number in range(1000)])
    ((taken,),) = query(
        "SELECT sum(pgsize) FROM dbstat WHERE name IN ('rejected', 'sqlite_autoindex_rejected_1') AND aggregate = 1"
    )
    ((counted,),) = query("SELECT bytes FROM rejected_size")
    assert 0.67 < counted / taken < 1.5


def test_every_change_of_a_row_changes_the_size(log, query):
    size = "SELECT (SELECT bytes FROM rejected_size), (SELECT coalesce(sum(size), 0) FROM rejected_sizes)"
    sizes = []
    for change in (
        lambda: log.append([], [rejection(b"{")]),
        lambda: log.append([], [rejection(b"{", message="a longer one: \u00e9" * 10, errors="[" + " " * 5000 + "]")]),
        lambda: log.append([], [rejection(b"{")]),
        lambda: log.rejections.delete([1]),
    ):
        change()
        ((counted, there),) = query(size)
        assert counted == there
        sizes.append(counted)
    assert sizes[1] > sizes[0] + 5000
    assert sizes[2:] == [sizes[0], 0]


def test_an_upgrade_adds_sizes_and_serves_older_workers(tmp_path, monkeypatch):
    path = str(tmp_path / "old.db")
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:3])
        eventlog.create(path)
        os.unlink(path + "-queue")  # the version before writes its note in another form
        old = apsw.Connection(path)
    insert = """
        INSERT INTO rejected (source, received_at, route, code, message, errors, body, cut, digest)
        VALUES ('example', '', '/v1/track', 'code', '', ?1, ?2, 0, ?2)
        ON CONFLICT (source, digest) DO UPDATE SET errors = excluded.errors, times_seen = times_seen + 1
    """
    rows = [(errors, body.encode()) for errors, body in [("[]", "1"), ("[1]", "2"), ("[22]", "1"), ("[]", "3")]]
    old.execute(insert.replace("?2)", "CAST(?2 AS TEXT))"), rows[0])
    eventlog.migrate(path)
    for row in rows[1:]:
        old.execute(insert.replace("?2)", "CAST(?2 AS TEXT))"), row)
    old.execute("DELETE FROM rejected WHERE id = 2")
    old.close()
    log = eventlog.EventLog(path)
    assert log.reader.problems() == []
    assert [each.errors for each in log.rejections.last(9)] == ["[22]", "[]"]
    log.close()


def test_a_whole_body_is_replayed_after_the_same_bytes_were_cut(run, refuse, path):
    """A body with the wrong label is kept as cut. The same bytes without it are the whole body."""
    body = json.dumps(GOOD).encode()
    id = refuse("/v1/track", body, Content_Encoding="br")
    client = create_app(Config(database=path, max_event_bytes=10)).test_client()
    assert client.post("/v1/track?writeKey=ILoveData123", data=body).json["code"] == "event_too_large"
    assert run("replay", id) == f"{id} is stored as event 1\n"
