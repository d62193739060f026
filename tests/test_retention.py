"""What is old goes, with its counts; what a destination lacks stays."""

import json
import threading
from itertools import count

import apsw
import pytest

import eventlog

OLD, CUT, YOUNG = "2015-11-10T00:45:23.412Z", "2016-01-01T00:00:00.000Z", "2020-11-10T00:45:23.412Z"


@pytest.fixture
def run(runner):
    def run(*arguments, exit_code=0, stdin=None):
        result = runner.invoke(args=["events", *arguments], input=stdin)
        assert result.exit_code == exit_code, result.output
        return result.output

    return run


@pytest.fixture
def append(log):
    """Append events, as many as there are times, and return their ids."""

    numbers = count(1)

    def append(*times, user_id="1", anonymous_id=None, type="track", padding="", **payload):
        body = json.dumps(payload | {"padding": padding})
        log.append(
            [
                eventlog.Event("example", f"{next(numbers)}", type, user_id, anonymous_id, None, at, at, body)
                for at in times
            ]
        )
        return [event.id for event in log.reader.read_last(len(times))]

    return append


@pytest.fixture
def refuse(log):
    def refuse(body, at=OLD):
        log.append([], [eventlog.Rejected("example", at, "/v1/track", "invalid_json", "no", "[]", body, False)])

    return refuse


@pytest.fixture
def ids(query):
    return lambda table="events": [id for (id,) in query(f"SELECT id FROM {table} ORDER BY id")]


def test_what_is_older_goes_and_is_counted(run, append, refuse, log, ids):
    append(*[OLD] * 1200)
    young = append(YOUNG)
    refuse(b"old")
    refuse(b"old")
    refuse(b"young", YOUNG)
    assert log.retention.prune(before=CUT) == eventlog.Pruned(removed=1200, dropped=1, kept=0)
    assert ids() == young
    assert ids("rejected") == [3]
    assert log.reader.problems() == []
    outcomes = {each.outcome: (each.times, each.first_at, each.last_at) for each in log.reader.counts()}
    assert outcomes == {
        "stored": (1201, OLD, YOUNG),
        "removed": (1200, OLD, OLD),
        "rejected": (3, OLD, YOUNG),
        "dropped": (2, OLD, OLD),
    }
    lines = run("stats").splitlines()
    assert lines[1].split()[:4] == ["example", "track", "1201", "0"]
    assert [line.split()[:3] for line in lines[4:-3]] == [["example", "invalid_json", "3"]]
    assert lines[-1] == "1200 of the stored are removed again"


def test_each_event_goes_by_its_own_time_though_the_clock_stepped_back(append, log, ids):
    append(OLD)
    young = append(YOUNG)
    append(OLD)
    log.retention.prune(before=CUT)
    assert ids() == young


def test_behind_a_long_stretch_of_young_events_none_is_looked_for(append, log, ids, monkeypatch):
    monkeypatch.setattr("eventlog.retention.STRETCH", 3)
    append(OLD, YOUNG, YOUNG, OLD, YOUNG, YOUNG, YOUNG, OLD)
    assert log.retention.prune(before=CUT).removed == 2
    assert ids() == [2, 3, 5, 6, 7, 8]


def test_what_any_destination_lacks_stays_unless_told_otherwise(run, append, log, ids):
    append(*[OLD] * 10, YOUNG)
    for name, position in (("fast", 11), ("slow", 4)):
        log.destinations.add(name, "webhook+http://host", [], [], position)
    log.destinations.pause("slow", True)
    assert log.retention.prune(before=CUT) == eventlog.Pruned(removed=4, dropped=0, kept=6)
    assert ids() == [5, 6, 7, 8, 9, 10, 11]
    line = "0 events and 0 refused bodies are removed; 7 events stay, which slow lacks\n"
    assert run("prune", "--older-than", "1d", exit_code=1) == line
    assert run("prune", "--older-than", "1d", "--even-undelivered") == "7 events and 0 refused bodies are removed\n"
    assert log.reader.problems() == []


def test_a_destination_that_is_added_meanwhile_keeps_what_it_lacks(append, log, ids, monkeypatch):
    append(*[OLD] * 10)
    walk = log.retention._walk

    def walk_and_add(*arguments):
        for found in walk(*arguments):
            log.destinations.add("new", "webhook+http://host", [], [], 3)
            yield found

    monkeypatch.setattr(
        log.retention, "_walk", lambda table, *rest: (walk_and_add if table == "events" else walk)(table, *rest)
    )
    assert log.retention.prune(before=CUT) == eventlog.Pruned(removed=3, dropped=0, kept=7)
    assert len(ids()) == 7


def test_the_object_that_an_archive_is_writing_does_not_change(append, log, ids):
    append(*[OLD] * 10)
    log.destinations.add("cold", "archive+file:///cold", [], [], 2)
    log.destinations.reserve("cold", 6)
    assert log.retention.prune(before=CUT, even_undelivered=True) == eventlog.Pruned(removed=6, dropped=0, kept=4)
    assert ids() == [3, 4, 5, 6]


def test_the_oldest_go_until_the_log_is_small_enough_and_what_they_took_is_used_again(run, append, log, path, ids):
    append(*[YOUNG] * 2000, padding="x" * 1000)
    size = log.retention.used_bytes()
    pages = apsw.Connection(path).pragma("page_count")
    assert run("prune", "--max-size", "1MB").endswith(" events and 0 refused bodies are removed\n")
    assert 500_000 < log.retention.used_bytes() <= 1_000_000
    assert ids() == list(range(ids()[0], 2001))
    append(*[YOUNG] * (2000 - len(ids())), padding="x" * 1000)
    assert log.retention.used_bytes() >= size * 0.95
    assert apsw.Connection(path).pragma("page_count") <= pages * 1.01


def test_a_log_that_cannot_be_made_small_enough_says_so(run, append, log):
    append(*[OLD] * 10)
    log.destinations.add("dead", "webhook+http://host", [], [], 0)
    output = run("prune", "--max-size", "1KB", exit_code=1)
    assert "0 events and 0 refused bodies are removed; 10 events stay, which dead lacks\n" in output
    assert f"The log uses {log.retention.used_bytes()} bytes all the same" in output


@pytest.mark.parametrize(
    ("before", "most_bytes", "least", "most"),
    [(CUT, None, 800, 800), (None, 500_000, 700, 900), (YOUNG, 10**9, 800, 800)],
)
def test_how_far_a_prune_will_go_is_known_before(append, log, before, most_bytes, least, most):
    append(*[OLD] * 800, *[YOUNG] * 200, padding="x" * 2000)
    assert least <= log.retention.estimate(before, most_bytes) <= most


def test_an_empty_log_is_pruned(run):
    assert run("prune", "--older-than", "30d", "--max-size", "20GB") == "0 events and 0 refused bodies are removed\n"


@pytest.mark.parametrize(
    "arguments", [[], ["--older-than", "30"], ["--older-than", "d"], ["--max-size", "20"], ["--max-size", "-1GB"]]
)
def test_a_prune_that_is_not_told_how_much_is_refused(run, append, arguments, ids):
    append(OLD)
    run("prune", *arguments, exit_code=2)
    assert ids() == [1]


def test_prune_and_ingest_take_turns(append, log, path, monkeypatch):
    """Neither waits for the other's end: events are stored between two transactions of a prune."""
    append(*[OLD] * 5000)
    other = eventlog.EventLog(path)
    thread = threading.Thread(target=lambda: log.retention.prune(before=CUT))
    thread.start()
    stored, left = 0, []
    while thread.is_alive():
        other.append([eventlog.Event("example", f"new {stored}", "track", "2", None, None, YOUNG, YOUNG, "{}")])
        stored += 1
        left.append(other._written.read("SELECT count(*) FROM events WHERE user_id = '1'")[0][0])
    thread.join()
    assert left[-1] == 0
    assert len(set(left)) > 5
    assert len(other.reader.read_after(0, 10_000)) == stored
    other.close()
