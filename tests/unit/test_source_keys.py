"""A source keeps its name while its key is changed."""

import json
import multiprocessing
import re
from functools import partial

import apsw
import pytest

import eventlog
from eventlog import schema

AT = "2015-11-10T00:45:23.412Z"
OLD, NEW = "ILoveData123", "new key/+ü"
EVENT = {"userId": "1", "event": "Added File", "messageId": "m"}


@pytest.fixture
def run(run):
    return partial(run, "sources")


@pytest.fixture
def post_with(app, client, monkeypatch):
    """Return a function that posts an event with a key, once the workers have noticed all changes."""

    def post_with(key, **event):
        monkeypatch.setattr("eventlog.sources.CACHE_SECONDS", -1)
        response = client.post("/v1/track", data=json.dumps({**EVENT, **event, "writeKey": key}))
        return response.status_code, response.json.get("code"), response.json.get("duplicate", False)

    return post_with


STORED, DUPLICATE, UNKNOWN = (200, None, False), (200, None, True), (401, "unknown_source", False)


def states(log):
    return [(each.name, each.id, bool(each.retired_at)) for each in log.sources.all_keys()]


# Both keys


def test_both_keys_of_a_source_share_its_name_and_its_messageids(run, post_with, query):
    run("rotate", "example", "--source-id", NEW)
    assert post_with(OLD) == STORED
    assert post_with(NEW) == DUPLICATE
    assert post_with(NEW, messageId="second") == STORED
    assert post_with(OLD, messageId="second") == DUPLICATE
    assert query("SELECT DISTINCT source FROM events") == [("example",)]


@pytest.mark.parametrize("keys", [(OLD, NEW), (NEW, OLD), (OLD, NEW, OLD)])
def test_the_items_of_a_batch_may_have_either_key(run, client, keys, query):
    """A library's queue keeps items from before its key was changed."""
    run("rotate", "example", "--source-id", NEW)
    batch = [EVENT | {"type": "track", "messageId": f"{n}", "writeKey": key} for n, key in enumerate(keys)]
    assert client.post("/v1/batch", data=json.dumps({"batch": batch})).json["stored"] == len(keys)
    assert query("SELECT DISTINCT source FROM events") == [("example",)]
    assert query("SELECT count(*) FROM events WHERE payload LIKE '%key%'") == [(0,)]


@pytest.mark.parametrize("wrong", ["other key", "retired", "nobody", "", "a\0", "\ud800", 7, ["x"], {}])
def test_the_items_of_a_batch_belong_to_one_source(run, client, wrong, query):
    run("rotate", "example", "--source-id", NEW)
    run("rotate", "example", "--source-id", "retired")
    run("rotate", "example", "--retire", "retired")
    run("add", "other", "--source-id", "other key")
    batch = [EVENT | {"type": "track", "writeKey": key} for key in (OLD, NEW, wrong)]
    response = client.post("/v1/batch", data=json.dumps({"batch": batch}))
    assert (response.status_code, response.json["code"]) == (401, "invalid_authorization")
    assert query("SELECT count(*) FROM events") == [(0,)]


def test_a_refused_event_of_either_key_belongs_to_the_source(run, post_with, query):
    run("rotate", "example", "--source-id", NEW)
    assert post_with(OLD, event="")[0] == post_with(NEW, event="")[0] == 400
    assert query("SELECT source, code, times_seen FROM rejected") == [("example", "event_not_defined", 1)] * 2


def test_a_random_key_is_made_and_printed(run, post_with, log):
    text = run("rotate", "example")
    (key,) = re.fullmatch(r"Source example now has the Source ID (\S{20,}) too\n", text).groups()
    assert post_with(key) == STORED
    assert states(log) == [("example", OLD, False), ("example", key, False)]


def test_a_source_can_have_many_keys(run, post_with, log):
    for number in range(5):
        run("rotate", "example", "--source-id", f"key {number}")
    assert [post_with(f"key {number}")[0] for number in range(5)] == [200] * 5
    assert [each.name for each in log.sources.all()] == ["example"]
    assert log.sources.named("example").id == OLD


def test_a_disabled_source_is_disabled_with_every_key(run, post_with):
    run("disable", "example")
    run("rotate", "example", "--source-id", NEW)
    assert post_with(OLD)[1] == post_with(NEW)[1] == "source_disabled"
    run("enable", "example")
    assert (post_with(OLD), post_with(NEW)) == (STORED, DUPLICATE)


# Retired keys


@pytest.mark.parametrize(("retired", "kept"), [(OLD, NEW), (NEW, OLD)])
def test_a_retired_key_is_unknown_and_the_other_one_works(run, post_with, log, retired, kept):
    run("rotate", "example", "--source-id", NEW)
    assert run("rotate", "example", "--retire", retired) == f"The Source ID {retired} of example is retired\n"
    assert post_with(retired) == UNKNOWN
    assert post_with(kept) == STORED
    assert log.sources.named("example").id == log.sources.all()[0].id == kept


def test_a_worker_notices_a_retired_key_within_a_second(log, monkeypatch):
    log.sources.add_key("example", NEW)
    assert log.sources.find(OLD).name == "example"
    log.sources.retire_key("example", OLD)
    now = eventlog.sources.monotonic()
    monkeypatch.setattr("eventlog.sources.monotonic", lambda: now + 1.01)
    assert log.sources.find(OLD) is None


def test_the_last_key_is_not_retired(run, post_with):
    refusal = "Error: The source 'example' has no other key. Add one first, or disable the source\n"
    assert run("rotate", "example", "--retire", OLD, exit_code=1) == refusal
    run("rotate", "example", "--source-id", NEW)
    run("rotate", "example", "--retire", OLD)
    assert run("rotate", "example", "--retire", NEW, exit_code=1) == refusal
    assert post_with(NEW) == STORED


def test_a_retired_key_can_be_retired_again(run, log):
    run("rotate", "example", "--source-id", NEW)
    run("rotate", "example", "--retire", OLD)
    before = log.sources.all_keys()
    run("rotate", "example", "--retire", OLD)
    assert log.sources.all_keys() == before


@pytest.mark.parametrize("is_retired", [False, True])
@pytest.mark.parametrize("command", ["add other --source-id", "rotate other --source-id"])
def test_a_key_never_becomes_another_sources(run, log, command, is_retired):
    run("rotate", "example", "--source-id", NEW)
    if is_retired:
        run("rotate", "example", "--retire", NEW)
    if command.startswith("rotate"):
        run("add", "other", "--source-id", "other key")
    before = states(log)
    assert "already" in run(*command.split(), NEW, exit_code=1)
    assert states(log) == before
    assert [each.name for each in log.sources.all()] == sorted({name for name, *_ in before})


def test_a_retired_key_works_again_if_its_own_source_asks(run, post_with, log):
    """Retiring the wrong key can be undone at once."""
    run("rotate", "example", "--source-id", NEW)
    run("rotate", "example", "--retire", OLD)
    assert "retired" in run("add", "example", "--source-id", OLD, exit_code=1)
    assert post_with(OLD) == UNKNOWN
    run("rotate", "example", "--source-id", OLD)
    assert post_with(OLD) == STORED
    assert states(log) == [("example", OLD, False), ("example", NEW, False)]


def test_rotating_to_a_key_in_use_changes_nothing(run, log):
    before = log.sources.all_keys()
    assert OLD in run("rotate", "example", "--source-id", OLD)
    assert log.sources.all_keys() == before


def test_adding_a_source_with_its_second_key_changes_nothing(run, log):
    run("rotate", "example", "--source-id", NEW)
    assert run("add", "example", "--source-id", NEW) == f"Source example has the Source ID {NEW}\n"
    assert run("add", "example") == f"Source example has the Source ID {OLD}\n"
    assert states(log) == [("example", OLD, False), ("example", NEW, False)]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nobody",), "There is no source 'nobody'"),
        (("nobody", "--source-id", NEW), "There is no source 'nobody'"),
        (("nobody", "--retire", OLD), "There is no source 'nobody' with the Source ID ILoveData123"),
        (("example", "--retire", "typo"), "There is no source 'example' with the Source ID typo"),
        (("example", "--retire", "other key"), "There is no source 'example' with the Source ID other key"),
        (("example", "--source-id", "a:b"), "printable text"),
        (("example", "--source-id", ""), "printable text"),
        (("example", "--source-id", " a"), "printable text"),
    ],
)
def test_a_rotation_that_is_not_possible_changes_nothing(run, log, arguments, says):
    run("add", "other", "--source-id", "other key")
    run("rotate", "other", "--source-id", "third key")
    before = states(log)
    assert says in run("rotate", *arguments, exit_code=1)
    assert states(log) == before


def test_one_command_either_adds_or_retires(run, log):
    assert "give one of them" in run("rotate", "example", "--source-id", NEW, "--retire", OLD, exit_code=2)
    assert states(log) == [("example", OLD, False)]


def test_the_list_has_every_key_with_its_state(run):
    run("add", "another", "--source-id", "A")
    run("rotate", "example", "--source-id", "B")
    run("rotate", "example", "--source-id", "C")
    run("rotate", "example", "--retire", "B")
    run("disable", "example")
    rows = [line.split()[:3] for line in run("list").splitlines()]
    assert rows == [
        ["NAME", "SOURCE", "ID"],
        ["another", "A", "enabled"],
        ["example", OLD, "disabled"],
        ["example", "B", "retired"],
        ["example", "C", "disabled"],
    ]


def test_other_commands_take_a_source_with_two_keys_for_one(run, runner):
    run("rotate", "example")
    added = runner.invoke(args=("destinations", "add", "there", "https://KEY@host/v1/batch"))
    assert added.exit_code == 0, added.output


# Removal


def test_a_source_of_which_nothing_is_in_the_log_is_removed_with_its_keys(run, post_with, log):
    run("rotate", "example", "--source-id", NEW)
    run("rotate", "example", "--retire", OLD)
    assert run("remove", "example") == "Source example is removed\n"
    assert states(log) == log.sources.all() == []
    assert post_with(OLD) == post_with(NEW) == UNKNOWN
    run("add", "website", "--source-id", OLD)
    assert post_with(OLD) == STORED


def leave_event(log, runner):
    log.append([eventlog.Event("example", "m", "track", "1", None, "Added File", AT, AT, "{}")])


def leave_pruned_event(log, runner):
    leave_event(log, runner)
    log.retention.prune(before="9999", even_undelivered=True)
    assert log.reader.read_after(0) == []


def leave_rejection(log, runner):
    log.append([], [eventlog.Rejection("example", AT, "/v1/track", "invalid_json", "", "[]", b"{", False)])


def leave_deleted_rejection(log, runner):
    leave_rejection(log, runner)
    log.rejections.delete(log.rejections.ids())


def leave_imported_event(log, runner):
    log.import_events([(7, eventlog.Event("example", "m", "track", "1", None, "Added File", AT, AT, "{}"))])


def leave_destination(log, runner):
    log.destinations.add("there", "webhook+http://host", [], ["other", "example"], 0)


@pytest.mark.parametrize(
    "leave",
    [
        leave_event,
        leave_pruned_event,
        leave_rejection,
        leave_deleted_rejection,
        leave_imported_event,
        leave_destination,
    ],
)
def test_a_source_that_the_log_names_stays(run, log, runner, leave):
    leave(log, runner)
    before = states(log)
    text = run("remove", "example", exit_code=1)
    assert text == "Error: Events or destinations in the log name the source 'example'. Disable it instead\n"
    assert states(log) == before


def test_a_destination_of_all_or_of_other_sources_keeps_no_source(run, log):
    log.destinations.add("all", "webhook+http://host", [], [], 0)
    log.destinations.add("other", "webhook+http://host", [], ["example 2"], 0)
    run("remove", "example")


def test_a_source_that_is_not_there_is_not_removed(run):
    assert run("remove", "nobody", exit_code=1) == "Error: There is no source 'nobody'\n"


# Logs of earlier versions, and processes of them


@pytest.fixture
def make_old(tmp_path):
    """Return a function that makes a log of an earlier schema version, with two sources and an event."""

    def make_old(version):
        path = str(tmp_path / f"version {version}.db")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:version])
            eventlog.create(path)
        connection = apsw.Connection(path)
        sources = [(OLD, "example", 1, AT), ("other key", "other", 0, "2014-01-01T00:00:00.000Z")]
        connection.executemany("INSERT INTO sources VALUES (?, ?, ?, ?)", sources)
        connection.execute(
            "INSERT INTO events (source, message_id, type, user_id, name, timestamp, received_at, payload, dedupe_key)"
            " VALUES ('example', 'm', 'track', '1', 'Added File', ?, ?, '{}', x'00')",
            (AT, AT),
        )
        connection.execute("INSERT INTO counts VALUES ('example', 'track', 'stored', '', 1, ?, ?)", (AT, AT))
        connection.close()
        return path

    return make_old


@pytest.mark.parametrize("version", range(1, len(schema.MIGRATIONS) + 1))
def test_a_log_of_each_version_keeps_its_sources_and_gets_keys(make_old, version):
    path = make_old(version)
    eventlog.migrate(path)
    log = eventlog.EventLog(path)
    assert [tuple(each) for each in log.sources.all_keys()] == [
        ("ILoveData123", "example", True, AT, None),
        ("other key", "other", False, "2014-01-01T00:00:00.000Z", None),
    ]
    log.sources.add_key("example", NEW)
    log.sources.retire_key("example", OLD)
    assert (log.sources.find(OLD), log.sources.find(NEW).name) == (None, "example")
    assert [event.message_id for event in log.reader.read_after(0)] == ["m"]
    log.sources.remove("other")
    with pytest.raises(eventlog.NotPossible):
        log.sources.remove("example")
    assert log.reader.problems() == []
    log.close()


def migrate_and_add_key(path, barrier, key):
    barrier.wait(60)
    eventlog.migrate(path)
    log = eventlog.EventLog(path)
    log.sources.add_key("example", key)
    log.close()


def test_two_processes_migrate_at_once(make_old):
    path = make_old(5)
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(2)
    processes = [spawn.Process(target=migrate_and_add_key, args=(path, barrier, key)) for key in ("a", "b")]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    log = eventlog.EventLog(path)
    assert {each.id for each in log.sources.all_keys()} == {OLD, "a", "b", "other key"}
    assert log.reader.problems() == []
    log.close()


LOOK_UP_AS_BEFORE = "SELECT name, enabled FROM sources WHERE id = ?"
ADD_AS_BEFORE = "INSERT INTO sources (id, name, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"


def test_a_process_of_the_version_before_works_next_to_the_new_log(make_old):
    """It has the log open while the new version migrates it, and knows only the table `sources`."""
    path = make_old(5)
    old = apsw.Connection(path)
    assert old.execute(LOOK_UP_AS_BEFORE, (OLD,)).fetchall() == [("example", 1)]
    eventlog.migrate(path)
    log = eventlog.EventLog(path)
    log.sources.add_key("example", NEW)
    assert old.execute(LOOK_UP_AS_BEFORE, (OLD,)).fetchall() == [("example", 1)]
    log.sources.retire_key("example", OLD)
    assert old.execute(LOOK_UP_AS_BEFORE, (OLD,)).fetchall() == []
    assert old.execute(LOOK_UP_AS_BEFORE, (NEW,)).fetchall() == [("example", 1)]
    old.execute(ADD_AS_BEFORE, ("third key", "third", AT))
    assert log.sources.find("third key").name == "third"
    old.execute("UPDATE sources SET enabled = 0 WHERE name = 'example'")
    assert not log.sources.find(NEW).enabled
    with pytest.raises(apsw.ConstraintError):
        old.execute(ADD_AS_BEFORE, (OLD, "thief", AT))
    assert log.sources.find(OLD) is None
    assert "thief" not in [each.name for each in log.sources.all()]
    old.close()
    log.close()


def test_a_backup_has_the_keys(log, tmp_path):
    log.sources.add_key("example", NEW)
    log.sources.retire_key("example", OLD)
    log.back_up(str(tmp_path / "copy.db"), lambda done, pages: None)
    copy = eventlog.EventLog(str(tmp_path / "copy.db"))
    assert copy.sources.all_keys() == log.sources.all_keys()
    copy.close()
