"""A destination that keeps a prune from deleting events is named, with how many and since when."""

import re
from functools import partial

import apsw
import pytest
from factories import AT as OLD
from factories import event, new_log

import eventlog
from eventlog import schema
from eventlog.retention import Held

YOUNG = "2020-11-10T00:45:23.412Z"
CUT = "2016-01-01T00:00:00.000Z"
START = "2026-03-01T00:00:00.000Z"


@pytest.fixture
def clock(monkeypatch):
    """Return a function that sets the time at which the next prune runs."""
    set_clock = lambda time: monkeypatch.setattr("eventlog.retention.now", lambda: time)  # noqa: E731
    set_clock(START)
    return set_clock


@pytest.fixture
def held(log):
    """Return a function that returns what each destination holds: (events, since) by name."""
    return lambda: {each.name: (each.events, each.since) for each in log.retention.held()}


@pytest.fixture
def prune(log, clock):
    return partial(log.retention.prune, before=CUT)


@pytest.fixture
def add(log):
    return lambda name, position=0: log.destinations.add(name, "webhook+http://127.0.0.1:9", [], [], position)


@pytest.fixture
def advance(log):
    return lambda name, position: log.destinations.advance(log.destinations.get(name).id, position, 1)


@pytest.fixture
def append(log):
    """Return a function that appends an event for each time."""
    numbers = iter(range(10_000))
    return lambda *times: log.append([event(f"m{next(numbers)}", received_at=at) for at in times])


def test_a_backlog_that_no_prune_wants_is_not_held(append, add, prune, held):
    append(OLD, YOUNG, YOUNG)
    add("slow", 1)
    assert held() == {"slow": (0, None)}
    prune()
    assert held() == {"slow": (0, None)}


def test_each_destination_holds_what_it_lacks(append, add, prune, held):
    append(*[OLD] * 10, YOUNG)
    for name, position in (("dead", 0), ("slow", 4), ("done", 11), ("young", 10)):
        add(name, position)
    prune()
    assert held() == {"dead": (10, START), "slow": (6, START), "done": (0, None), "young": (0, None)}


def test_a_destination_holds_less_as_it_receives(append, add, prune, held, advance):
    append(*[OLD] * 10, YOUNG)
    add("slow", 4)
    prune()
    for position, expected in ((9, (1, START)), (10, (0, None)), (11, (0, None))):
        advance("slow", position)
        assert held() == {"slow": expected}


def test_the_time_is_that_of_the_first_prune_held_back(append, add, prune, held, clock):
    append(*[OLD] * 10)
    add("dead")
    prune()
    for time in ("2026-03-02T00:00:00.000Z", "2026-03-09T00:00:00.000Z"):
        append(OLD)
        clock(time)
        prune()
    assert held() == {"dead": (12, START)}


def test_the_time_begins_anew_after_a_destination_caught_up(append, add, prune, held, clock, advance):
    append(*[OLD] * 10)
    add("slow")
    prune()
    advance("slow", 10)
    append(*[OLD] * 5)
    clock("2026-03-02T00:00:00.000Z")
    prune()
    assert held() == {"slow": (5, "2026-03-02T00:00:00.000Z")}


def test_the_next_prune_decides_what_is_held(append, add, prune, held, log):
    append(*[OLD] * 10, *[YOUNG] * 10)
    add("dead")
    prune(before="2026-01-01T00:00:00.000Z")
    assert held() == {"dead": (20, START)}
    prune()
    assert held() == {"dead": (10, START)}
    prune(even_undelivered=True)
    assert held() == {"dead": (0, None)}


def test_a_log_that_stays_too_large_is_held(append, add, advance, log, held, prune):
    append(*[OLD] * 1000)
    add("dead", 995)
    log.retention.prune(max_bytes=log.retention.used_bytes())
    assert held() == {"dead": (0, None)}
    log.retention.prune(max_bytes=log.retention.prune(max_bytes=0).rest_bytes + 1)
    assert held() == {"dead": (0, None)}, "what it lacks fits"
    append(*[OLD] * 1000)
    advance("dead", 1000)
    log.retention.prune(max_bytes=log.retention.prune(max_bytes=0).rest_bytes + 1)
    assert held() == {"dead": (1000, START)}


def test_only_the_archive_holds_an_object_that_is_being_written(append, add, log, held, prune):
    append(*[OLD] * 10)
    add("dead")
    add("cold", 2)
    log.destinations.note_batch_end(log.destinations.get("cold").id, 6)
    prune(even_undelivered=True)
    assert held() == {"cold": (4, START), "dead": (0, None)}


def test_a_removed_destination_holds_nothing(append, add, prune, held, log):
    append(*[OLD] * 10)
    add("dead")
    prune()
    log.destinations.remove("dead")
    add("dead")
    assert held() == {"dead": (0, None)}
    log.destinations.remove("dead")
    assert prune().removed == 10


def test_held_bytes_are_the_share_of_the_log(append, add, prune, log):
    append(*[OLD] * 1000, *[YOUNG] * 3000)
    add("dead")
    prune()
    (held,) = log.retention.held()
    assert held == Held("dead", 1000, pytest.approx(log.retention.used_bytes() / 4, rel=0.01), START)
    log.retention.prune(before="2026-01-01T00:00:00.000Z", even_undelivered=True)
    assert log.retention.held() == [Held("dead", 0, 0, None)]


def test_a_prune_names_what_holds_it_back_and_the_way_out(append, add, prune, run):
    append(*[OLD] * 10)
    for name, position in (("dead", 0), ("slow", 4), ("done", 10)):
        add(name, position)
    prune()
    lines = run("events", "prune", "--older-than", "1d", exit_code=1).splitlines()
    assert lines[:3] == [
        "Deleted 0 events and 0 rejections; kept 10 events that a destination has not received",
        "  dead has held 10 of them since 2026-03-01 00:00",
        "  slow has held 6 of them since 2026-03-01 00:00",
    ]
    assert "tracklog destinations remove" in lines[3]
    assert "--even-undelivered" in lines[3]


def test_the_list_says_what_a_destination_holds(append, add, prune, run):
    append(*[OLD] * 10)
    add("dead")
    add("done", 10)
    assert "pruned" not in run("destinations", "list")
    prune()
    dead, done = run("destinations", "list").split("\ndone: ")
    assert "  keeps        10 events from being pruned, since 2026-03-01 00:00" in dead
    assert "pruned" not in done


def test_metrics_tell_what_a_destination_holds(append, add, prune, client, log, clock):
    append(*[OLD] * 10)
    add("dead", 4)
    add("done", 10)
    prune()
    samples = re.findall(r"^(\w+_held_\w+\{.*\}) (.*)$", client.get("/metrics").text, re.MULTILINE)
    values = {name: float(value) for name, value in samples}
    dead, _ = log.retention.held()
    assert values.pop('tracklog_destination_held_seconds{destination="dead"}') > 7 * 86_400
    assert values == {
        'tracklog_destination_held_events{destination="dead"}': 6,
        'tracklog_destination_held_bytes{destination="dead"}': dead.bytes,
        'tracklog_destination_held_events{destination="done"}': 0,
        'tracklog_destination_held_bytes{destination="done"}': 0,
        'tracklog_destination_held_seconds{destination="done"}': 0,
    }


def test_a_log_of_the_version_before_holds_nothing_until_a_prune(tmp_path, monkeypatch):
    """That version does not know the columns, and still adds destinations after the upgrade."""
    path = str(tmp_path / "old.db")
    version = next(n for n, name in enumerate(schema.MIGRATIONS) if name.endswith("_held_events.sql"))
    add = "INSERT INTO destinations (name, url, types, sources, position, created_at) VALUES (?, '', '[]', '[]', 0, '')"
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:version])
        eventlog.create(path)
        apsw.Connection(path).execute(add, ("before",))
    log = new_log(path)
    apsw.Connection(path).execute(add, ("after",))
    log.append([event(received_at=OLD)])
    assert log.retention.held() == [Held("after", 0, 0, None), Held("before", 0, 0, None)]
    log.retention.prune(before=CUT)
    assert [(each.name, each.events) for each in log.retention.held()] == [("after", 1), ("before", 1)]
    log.close()
