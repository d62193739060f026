"""Old events are deleted unless a destination lacks them, and a person is forgotten under all ids."""

import gzip
import json
import random
import threading
from contextlib import closing
from functools import partial
from itertools import chain, count
from pathlib import Path

import apsw
import pytest
from factories import AT as OLD
from factories import dead_letters, event, rejection

import eventlog
from eventlog import body_texts, page_scrubbing, row_deletion
from eventlog.database import Database

CUT, YOUNG = "2016-01-01T00:00:00.000Z", "2020-11-10T00:45:23.412Z"


@pytest.fixture
def run(run):
    return partial(run, "events")


@pytest.fixture
def append(log):
    """Return a function that appends an event for each time and returns their ids."""

    numbers = count(1)

    def append(*times, user_id="1", anonymous_id=None, type="track", padding="", **payload):
        body = json.dumps(payload | {"padding": padding})
        fields = {"type": type, "user_id": user_id, "anonymous_id": anonymous_id, "payload": body}
        log.append([event(next(numbers), received_at=at, **fields) for at in times])
        return [each.id for each in log.reader.read_last(len(times))]

    return append


@pytest.fixture
def refuse(log):
    def refuse(body, at=OLD):
        log.append([], [rejection(body, received_at=at)])

    return refuse


@pytest.fixture
def ids(query):
    return lambda table="events": [id for (id,) in query(f"SELECT id FROM {table} ORDER BY id")]


def test_older_events_are_deleted_and_counted(run, append, refuse, log, ids):
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
    assert lines[-1] == "1200 of the stored events were deleted later"


def test_each_event_is_deleted_by_its_own_time(append, log, ids):
    """The clock stepped back, so the times are not in order."""
    append(OLD)
    young = append(YOUNG)
    append(OLD)
    log.retention.prune(before=CUT)
    assert ids() == young


def test_a_prune_stops_at_many_young_events(append, log, ids, monkeypatch):
    monkeypatch.setattr("eventlog.retention.MAX_SKIPPED_ROWS", 3)
    append(OLD, YOUNG, YOUNG, OLD, YOUNG, YOUNG, YOUNG, OLD)
    assert log.retention.prune(before=CUT).removed == 2
    assert ids() == [2, 3, 5, 6, 7, 8]


def test_undelivered_events_are_kept_by_default(run, append, log, ids):
    append(*[OLD] * 10, YOUNG)
    for name, position in (("fast", 11), ("slow", 4)):
        log.destinations.add(name, "webhook+http://host", [], [], position)
    log.destinations.pause("slow", True)
    assert log.retention.prune(before=CUT) == eventlog.Pruned(removed=4, dropped=0, kept=6)
    assert ids() == [5, 6, 7, 8, 9, 10, 11]
    line = "Deleted 0 events and 0 rejections; kept 7 events that a destination has not received\n  slow has held 7 "
    assert run("prune", "--older-than", "1d", exit_code=1).startswith(line)
    assert run("prune", "--older-than", "1d", "--even-undelivered") == "Deleted 7 events and 0 rejections\n"
    assert log.reader.problems() == []


def test_a_prune_keeps_events_for_a_destination_added_meanwhile(append, log, ids, monkeypatch):
    append(*[OLD] * 10)

    def add_and_delete(*arguments, **options):
        log.destinations.add("new", "webhook+http://host", [], [], 3)
        return row_deletion.delete_rows(*arguments, **options)

    monkeypatch.setattr("eventlog.retention.delete_rows", add_and_delete)
    assert log.retention.prune(before=CUT) == eventlog.Pruned(removed=3, dropped=0, kept=7)
    assert len(ids()) == 7


def test_a_prune_keeps_an_unfinished_batch(append, log, ids):
    append(*[OLD] * 10)
    log.destinations.add("cold", "archive+file:///cold", [], [], 2)
    log.destinations.note_batch_end(log.destinations.get("cold").id, 6)
    assert log.retention.prune(before=CUT, even_undelivered=True) == eventlog.Pruned(removed=6, dropped=0, kept=4)
    assert ids() == [3, 4, 5, 6]


def test_the_oldest_are_deleted_until_the_log_is_small(run, append, log, path, ids):
    """Their pages are used again."""
    append(*[YOUNG] * 2000, padding="x" * 1000)
    size = log.retention.used_bytes()
    pages = apsw.Connection(path).pragma("page_count")
    assert run("prune", "--max-size", "1MB").endswith(" events and 0 rejections\n")
    assert 500_000 < log.retention.used_bytes() <= 1_000_000
    assert ids() == list(range(ids()[0], 2001))
    append(*[YOUNG] * (2000 - len(ids())), padding="x" * 1000)
    assert log.retention.used_bytes() >= size * 0.95
    assert apsw.Connection(path).pragma("page_count") <= pages * 1.01


def test_a_log_that_cannot_be_made_small_enough_says_so(run, append, log):
    append(*[OLD] * 10, padding="x" * 100_000)
    log.destinations.add("dead", "webhook+http://host", [], [], 0)
    output = run("prune", "--max-size", "500KB", exit_code=1)
    assert "Deleted 0 events and 0 rejections; kept 10 events that a destination has not received\n" in output
    assert f"The log still uses {log.retention.used_bytes()} bytes" in output


def test_rejections_are_deleted_before_any_event(run, append, refuse, log, ids):
    append(*[OLD] * 100)
    for number in range(40):
        refuse(b"%02d" % number + b"x" * 50_000)
    assert run("prune", "--max-size", "1MB") == f"Deleted 0 events and {40 - len(ids('rejected'))} rejections\n"
    assert len(ids()) == 100
    assert ids("rejected") == list(range(ids("rejected")[0], 41))
    assert 500_000 < log.retention.used_bytes() <= 1_000_000


def test_events_are_deleted_only_after_all_rejections(run, append, refuse, log, ids):
    append(*[OLD] * 2000, padding="x" * 1000)
    refuse(b"x" * 50_000)
    run("prune", "--max-size", "1MB")
    assert ids("rejected") == []
    assert 0 < len(ids()) < 1000
    assert 500_000 < log.retention.used_bytes() <= 1_000_000


@pytest.mark.parametrize("size", ["0KB", "1KB", "500KB"])
def test_nothing_is_deleted_if_dead_letters_are_too_large(run, append, refuse, log, ids, size):
    append(*[OLD] * 10, padding="x" * 100_000)
    log.destinations.add("hook", "webhook+http://host", [], [], 0)
    dead = dead_letters(log.reader.read_after(0))
    log.destinations.advance(log.destinations.get("hook").id, 10, 0, dead)
    refuse(b"{")
    output = run("prune", "--max-size", size, exit_code=1)
    assert "Deleted 0 events and 0 rejections\n" in output
    assert "so --max-size deleted nothing" in output
    assert (len(ids()), len(ids("rejected")), len(ids("dead_letters"))) == (10, 1, 10)
    log.destinations.remove("hook")
    assert "so none" not in run("prune", "--max-size", "500KB")
    assert (len(ids()), len(ids("rejected"))) == (4, 0)


def test_the_size_of_an_emptied_log_is_known_to_the_page(append, refuse, log):
    append(*[OLD] * 500, padding="x" * 1000)
    refuse(b"x" * 500_000)
    rest = log.retention.prune(max_bytes=0).rest_bytes
    pruned = log.retention.prune(max_bytes=rest)
    assert pruned.removed > 490, "but for those that fit into the first page"
    assert (pruned.dropped, log.retention.used_bytes()) == (1, rest)


@pytest.mark.parametrize(
    ("before", "most_bytes", "least", "most"),
    [(CUT, None, 800, 800), (None, 500_000, 700, 900), (YOUNG, 10**9, 800, 800)],
)
def test_the_extent_of_a_prune_is_estimated(append, log, before, most_bytes, least, most):
    append(*[OLD] * 800, *[YOUNG] * 200, padding="x" * 2000)
    assert least <= log.retention.estimate(before, most_bytes) <= most


def test_an_empty_log_is_pruned_and_searched(run):
    assert run("prune", "--older-than", "30d", "--max-size", "20GB") == "Deleted 0 events and 0 rejections\n"
    assert run("forget", "nobody", exit_code=1) == (
        "0 events, 0 rejections, 0 dead letters\nError: Nothing in the log has the id nobody\n"
    )


@pytest.mark.parametrize(
    "arguments", [[], ["--older-than", "30"], ["--older-than", "d"], ["--max-size", "20"], ["--max-size", "-1GB"]]
)
def test_a_prune_needs_a_valid_limit(run, append, arguments, ids):
    append(OLD)
    run("prune", *arguments, exit_code=2)
    assert ids() == [1]


def test_prune_and_ingest_alternate(append, log, path, query):
    """Events are stored between the transactions of a prune."""
    append(*[OLD] * 5000)
    other = eventlog.EventLog(path)
    thread = threading.Thread(target=lambda: log.retention.prune(before=CUT))
    thread.start()
    stored, left = 0, []
    while thread.is_alive():
        other.append([event(f"new {stored}", user_id="2", received_at=YOUNG)])
        stored += 1
        left += query("SELECT count(*) FROM events WHERE user_id = '1'")[0]
    thread.join()
    assert left[-1] == 0
    assert len(set(left)) > 5
    assert len(other.reader.read_after(0, 10_000)) == stored
    other.close()


# One person


def tie(append, *ties):
    """Append an event for each (userId, anonymousId), and an alias for each [userId, previousId]."""
    return [
        *chain.from_iterable(
            append(OLD, user_id=each[0], type="alias", previousId=each[1])
            if isinstance(each, list)
            else append(OLD, user_id=each[0], anonymous_id=each[1])
            for each in ties
        )
    ]


@pytest.mark.parametrize(
    ("ties", "found", "shared"),
    [
        ([("u", None), ("v", None)], {"u"}, []),
        ([("u", "a"), (None, "a"), ("v", "b"), (None, "b")], {"u", "a"}, []),
        ([["u", "p"], ["p", "o"], [None, "x"], ("v", None), ("o", None)], {"u", "p", "o"}, []),
        ([["v", "u"], ["w", "v"], ("w", "c"), (None, "c")], {"u", "v", "w", "c"}, []),
        ([("u", "a"), ("v", "a"), (None, "a")], {"u"}, ["a"]),
        ([("u", "a"), ("v", "a"), ["u", "v"]], {"u", "v", "a"}, []),
        ([("u", "a"), ["w", "u"], ["x", "w"], ("x", "a"), ("y", "b"), ("u", "b")], {"u", "w", "x", "a"}, ["b"]),
        ([(None, "u"), ("v", "u"), ("v", "b")], {"u", "v", "b"}, []),
        ([("v", "u"), ("w", "u")], {"u"}, ["u"]),
        ([("u", "u"), ("u", 'quote"\\é')], {"u", 'quote"\\é'}, []),
    ],
)
def test_ids_that_events_tie_together_are_one_person(append, log, ids, ties, found, shared):
    tie(append, *ties)
    person = log.people.find("u")
    assert (person.ids.keys(), person.shared) == (found, shared)
    log.people.forget(person)
    expected = [n for n, each in enumerate(ties, 1) if not {*each} & found]
    assert ids() == expected
    assert log.reader.problems() == []


def test_an_interrupted_forget_is_finished_from_the_same_id(append, log, ids):
    ties = [
        ("u", "a"),
        ["v", "u"],
        ("v", "b"),
        (None, "b"),
        (None, "a"),
        ("v", None),
        ["w", "v"],
        ("w", "c"),
        (None, "c"),
    ]
    for end in range(len(ties)):
        theirs = tie(append, *ties)
        person = log.people.find("u")
        assert sorted(person.events) == theirs
        log.people.forget(person._replace(events=person.events[:end]))
        assert sorted(log.people.find("u").events) == sorted(person.events[end:])
        log.people.forget(log.people.find("u"))
        assert ids() == []


def test_forget_asks_before_it_deletes(run, append, log, ids, refuse):
    tie(append, ("1234", "a-1"), ("1234", "kiosk"), ("99", "kiosk"), (None, "a-1"))
    refuse(b'{"userId": "1234"')
    assert run("forget", "1234", stdin="n\n", exit_code=1) == (
        "Other ids of this person: a-1\n"
        "Shared with other people, so only events with an id of this person match: kiosk\n"
        "3 events, 1 rejections, 0 dead letters\n"
        "Delete all of this permanently? [y/N]: n\n"
        "Aborted!\n"
    )
    assert ids() == [1, 2, 3, 4]
    assert run("forget", "1234", "--yes").endswith("Deleted, and overwritten on disk\n")
    assert (ids(), ids("rejected")) == ([3], [])


@pytest.mark.parametrize(
    ("body", "goes"),
    [
        (b'{"userId": "caf\xc3\xa9/7"', True),
        (rb'{"userId": "caf\u00E9\/7"}', True),
        (b"{'userId': 'caf\xc3\xa9/7'}", True),
        (b'{"url": "http://host/?user=caf\xc3\xa9/7&x=1"}', True),
        (b'{"userId": "caf\xc3\xa9/77"}', False),
        (b'{"userId": "xcaf\xc3\xa9/7"}', False),
        (b'{"userId": "cafe/7"}', False),
    ],
)
def test_a_rejection_with_the_persons_id_is_deleted(log, refuse, ids, body, goes):
    """The body may spell the id in any way."""
    refuse(body)
    log.people.forget(log.people.find("café/7"))
    assert ids("rejected") == ([] if goes else [1])
    assert log.reader.problems() == []


def test_an_unreadable_rejection_is_deleted_only_on_request(run, append, refuse, ids, monkeypatch):
    append(OLD, user_id="1234")
    refuse(random.Random(1).randbytes(1000))
    refuse(gzip.compress(b"[1234]" * 2000))
    refuse(gzip.compress(bytes(20_000)))
    refuse(b"{}")
    refuse(b'{"a": "' + b"\xff\xfe" * 50)
    monkeypatch.setattr(body_texts, "MAX_BYTES", 5000)
    refuse(gzip.compress(b"no " * 5000))
    output = run("forget", "1234", "--yes")
    assert "1 events, 1 rejections, 0 dead letters\n3 rejections cannot be searched; --unreadable" in output
    assert ids("rejected") == [1, 3, 4, 5, 6]
    append(OLD, user_id="1234")
    assert "1 events, 3 rejections" in run("forget", "1234", "--yes", "--unreadable")
    assert ids("rejected") == [4, 5]


@pytest.mark.parametrize(
    ("number", "text"), [("42", "42"), ("-7", "-7"), ("1.5", "1.5"), (str(2**70), str(2**70)), ("1E2", "100.0")]
)
def test_a_number_as_an_id_in_an_alias_is_its_text(log, ids, number, text):
    """A call's ids are stored as text, but an import keeps the numbers of a line."""

    def alias(user, previous):
        fields = f'"userId":{user},"previousId":{previous}'
        user = json.loads(user) if user[0] == '"' else text
        payload = f'{{"type":"alias",{fields}}}'
        log.import_events([(1, event(fields, type="alias", user_id=user, payload=payload))])

    alias('"u"', number)
    alias(number, '"o"')
    alias('"v"', "99")
    for id in ("u", "o", text):
        assert log.people.find(id).ids.keys() == {"u", "o", text}
    log.people.forget(log.people.find(text))
    assert ids() == [3]


def test_a_person_is_found_in_a_log_with_a_gap_between_ids(log, append, ids):
    append(OLD, user_id="1234")
    log.import_events([(2**53 - 1, event("far", user_id="1234"))])
    append(OLD, user_id="1234")
    log.people.forget(log.people.find("1234"))
    assert ids() == []


def test_nobody_has_a_blank_id(run, refuse, ids):
    refuse(b'{"userId": " "}')
    assert run("forget", " ", "--yes", exit_code=1) == "Error: A person's id is not blank\n"
    assert ids("rejected") == [1]


def test_forget_deletes_dead_letters_and_answers_too(append, log, query, ids):
    append(OLD, OLD, user_id="1234")
    append(OLD)
    log.destinations.add("hook", "webhook+http://host", [], [], 0)
    dead = [each._replace(died_at=YOUNG) for each in dead_letters(log.reader.read_after(0))]
    log.destinations.advance(log.destinations.get("hook").id, 3, 0, dead)
    log.retention.prune(before=CUT)
    log.destinations.note_failure(log.destinations.get("hook").id, "500 user 1234 is unknown")
    person = log.people.find("1234")
    assert (person.events, len(person.dead_letters)) == ([], 2)
    log.people.forget(person)
    assert [letter.event.id for letter in log.destinations.dead_letters("hook")] == [3]
    assert log.destinations.get("hook").last_error == "-"


def test_an_event_deleted_during_its_delivery_is_no_dead_letter(append, log):
    append(OLD, OLD)
    log.destinations.add("hook", "webhook+http://host", [], [], 0)
    dead = dead_letters(log.reader.read_after(0))
    log.retention.prune(before=CUT, even_undelivered=True)
    log.destinations.advance(log.destinations.get("hook").id, 2, 0, dead)
    assert log.destinations.dead_letters("hook") == []


def test_a_forgotten_event_that_is_sent_again_is_stored_again(append, log):
    sent = event(user_id="1234")
    assert log.append([sent, sent]) == [True, False]
    log.people.forget(log.people.find("1234"))
    assert log.append([sent]) == [True]


# The bytes


def person(n):
    return f"person-{n % 30:02}"


def test_no_page_keeps_bytes_of_deleted_rows(log, path, query):
    """SQLite's secure_delete leaves copies in pages whose rows moved to other pages."""
    for start in range(0, 3000, 500):
        log.append(
            [
                event(n, user_id=person(n), payload=json.dumps((person(n) * 99)[: n * 37 % 900]))
                for n in range(start, start + 500)
            ]
        )
    with closing(Database(path)) as database:
        for n in range(29):
            row_deletion.delete_rows(
                database, "events", [id for (id,) in query("SELECT id FROM events WHERE user_id = ?", person(n))]
            )
    assert len(people_in(path)) > 1
    page_scrubbing.scrub(path)
    assert people_in(path) == [29]
    assert log.reader.problems() == []
    assert len(log.reader.read_after(0)) == 100


def people_in(path):
    """Return the numbers of the people whose ids are anywhere in the file or its -wal."""
    with closing(apsw.Connection(path)) as connection:
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    content = Path(path).read_bytes() + Path(f"{path}-wal").read_bytes()
    return [n for n in range(30) if person(n).encode() in content]


def test_a_reader_that_blocks_a_forget_is_reported(append, log, path, monkeypatch, run, ids):
    monkeypatch.setattr(page_scrubbing, "MAX_WAIT_SECONDS", 0.3)
    append(OLD, user_id="1234")
    reader = apsw.Connection(path)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM events").fetchall()
    append(OLD, user_id="5")
    assert "another process reads or writes" in run("forget", "1234", "--yes", exit_code=1)
    assert ids() == [2]
    reader.close()
    assert remains_of_rows(path)
    assert "Nothing in the log has the id 1234" in run("forget", "1234", "--yes", exit_code=1)
    assert not remains_of_rows(path)


def remains_of_rows(path):
    """Return whether the file or its -wal has the id of the forgotten person."""
    return any(b"1234" in Path(each).read_bytes() for each in (path, f"{path}-wal"))
