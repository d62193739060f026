"""A person is found by an email or another trait, and then forgotten under all linked ids."""

import gzip
import json
from functools import partial
from itertools import count

import pytest
from factories import dead_letters, event, rejection

from eventlog import NotPossible, Trait

EMAIL = "peter@example.com"


@pytest.fixture
def run(run):
    return partial(run, "events", "forget")


@pytest.fixture
def append(log):
    numbers = count(1)

    def append(user_id=None, anonymous_id=None, traits=None, type="identify", **payload):
        body = json.dumps(({"traits": traits} if traits else {}) | payload)
        row = event(next(numbers), type=type, user_id=user_id, anonymous_id=anonymous_id, payload=body)
        log.append([row])

    return append


@pytest.fixture
def ids(query):
    return lambda table="events": [id for (id,) in query(f"SELECT id FROM {table} ORDER BY id")]


def found_by(log, name, value):
    return log.people.find_by_trait(Trait(name, value))


def test_the_ids_are_shown_before_the_question(run, append, ids):
    append("1234", "phone", {"email": EMAIL})
    append("1234", None, type="track")
    append(None, "phone", type="page")
    append("other", None, {"email": "paul@example.com"})
    assert run("--email", EMAIL, stdin="n\n", exit_code=1) == (
        f"Ids with email={EMAIL}: 1234\n"
        "Other ids of this person: phone\n"
        "3 events, 0 rejections, 0 dead letters\n"
        "Delete all of this permanently? [y/N]: n\n"
        "Aborted!\n"
    )
    assert ids() == [1, 2, 3, 4]
    assert run("--email", EMAIL, "--yes").endswith("Deleted, and overwritten on disk\n")
    assert ids() == [4]


@pytest.mark.parametrize(
    ("row", "is_found"),
    [
        ({"traits": {"email": "Peter@Example.COM "}}, True),
        ({"traits": {"Email": EMAIL}}, True),
        ({"context": {"traits": {"email": EMAIL}}, "type": "track"}, True),
        ({"context": {"traits": {"email": EMAIL}}, "type": "group"}, True),
        ({"traits": {"email": EMAIL}, "type": "group"}, False),
        ({"traits": {"email": "speter@example.com"}}, False),
        ({"traits": {"email": None}}, False),
        ({"traits": {"email": [EMAIL]}}, False),
        ({"traits": [EMAIL]}, False),
        ({"properties": {"email": EMAIL}, "type": "track"}, False),
    ],
    ids=str,
)
def test_an_email_is_found_in_the_traits_of_a_user(append, log, row, is_found):
    append("1234", **row)
    assert log.people.find_by_trait(Trait("email", EMAIL, is_email=True)).events == ([1] if is_found else [])


def test_an_email_that_is_a_user_id_is_found(append, log):
    append("Peter@Example.com", type="track")
    append("speter@example.com", type="track")
    person = log.people.find_by_trait(Trait("email", EMAIL, is_email=True))
    assert (person.ids, person.events) == ({"Peter@Example.com": 0}, [1])
    assert found_by(log, "name", "Peter@Example.com").events == []


@pytest.mark.parametrize(
    ("value", "text", "is_found"),
    [
        (1234, "1234", True),
        ("1234", "1234", True),
        (2**70, str(2**70), True),
        (1.5, "1.5", True),
        (True, "true", True),
        (True, "1", False),
        ("Pro", "pro", False),
        ("pro ", "pro", False),
        (12345, "1234", False),
        (None, "null", False),
        ({"a": 1}, '{"a":1}', False),
        ("a=b", "a=b", True),
        ("é\"'\\ß", "é\"'\\ß", True),
    ],
)
def test_a_trait_is_compared_as_text(append, log, value, text, is_found):
    append("u", traits={"plan": value})
    assert found_by(log, "plan", text).events == ([1] if is_found else [])


@pytest.mark.parametrize("name", ["e mail", 'quo"te', "back\\slash", "a.b", "$", "é", "[0]", ""])
def test_the_name_of_a_trait_may_be_any_text(append, log, name):
    append("u", traits={name: 7})
    assert found_by(log, name, "7").ids == {"u": 0}


def test_an_event_without_a_user_is_found_by_its_anonymous_id(append, log):
    append(None, "phone", {"email": EMAIL})
    append(None, "phone", type="page")
    append("1234", "phone", type="track")
    person = found_by(log, "email", EMAIL)
    assert (person.ids, sorted(person.events)) == ({"phone": 0, "1234": 1}, [1, 2, 3])


def test_a_shared_device_loses_only_events_with_the_trait(append, run, ids):
    append(None, "kiosk", {"email": EMAIL})
    append(None, "kiosk", {"email": "paul@example.com"})
    append("a", "kiosk", type="track")
    append("b", "kiosk", type="track")
    assert f"Ids with email={EMAIL}: none\n1 events, " in run("--email", EMAIL, "--yes")
    assert ids() == [2, 3, 4]


def test_several_ids_with_the_trait_are_one_person(append, log):
    append("old", None, {"email": EMAIL})
    append("new", "phone", {"email": EMAIL})
    append("new", None, type="alias", previousId="older")
    append("older", None, type="track")
    person = found_by(log, "email", EMAIL)
    assert person.ids == {"old": 0, "new": 0, "phone": 1, "older": 1}
    assert sorted(person.events) == [1, 2, 3, 4]


def test_sources_do_not_matter(log):
    log.append([event(n, source=f"s{n}", user_id=f"u{n}", payload='{"traits": {"a": "b"}}') for n in (1, 2)])
    assert found_by(log, "a", "b").ids == {"u1": 0, "u2": 0}


def test_a_dead_letter_of_a_deleted_event_is_found(append, log, ids):
    append("1234", None, {"email": EMAIL})
    log.destinations.add("hook", "webhook+http://host", [], [], 0)
    (dead,) = dead_letters(log.reader.read_last(1))
    log.destinations.advance(log.destinations.get("hook").id, 0, 1, [dead._replace(died_at="2026")])
    log.retention.prune(before="2026", even_undelivered=True)
    log.destinations.note_failure(log.destinations.get("hook").id, f"no {EMAIL}")
    person = log.people.find_by_trait(Trait("email", EMAIL, is_email=True))
    assert (person.ids, len(person.dead_letters)) == ({"1234": 0}, 1)
    log.people.forget(person)
    assert ids("dead_letters") == []
    assert log.destinations.get("hook").last_error == "-"


@pytest.mark.parametrize("end", range(5))
def test_an_interrupted_forget_is_finished_by_the_same_trait(append, log, ids, end):
    append("1234", "phone", {"email": EMAIL})
    append(None, "phone", type="page")
    append("1234", None, {"email": EMAIL})
    append("1234", None, type="track")
    person = found_by(log, "email", EMAIL)
    log.people.forget(person._replace(events=person.events[:end]))
    log.people.forget(found_by(log, "email", EMAIL))
    assert ids() == []


@pytest.mark.parametrize(
    ("body", "goes"),
    [
        (b'{"traits": {"email": "PETER@example.com"}, "userId": "never stored"', True),
        (b"email=peter%40example.com", True),
        (b'{"text": "Write to peter@example.com."}', True),
        (gzip.compress(b'{"email": "peter@example.com"}', mtime=0), True),
        (rb'{"email": "peter\u0040example.com"}', True),
        (rb'{"from": "Peter \u003cpeter@example.com\u003e"}', True),
        (rb'{"text": "Write to\npeter@example.com"}', True),
        (b"{'email': 'peter@example.com'}", True),
        (b"{u'email': u'peter@example.com'}", True),
        (b'{"url": "https://example.com/peter@example.com"}', True),
        (b'{"email": "a.peter@example.com"}', False),
        (b'{"email": "o\'peter@example.com"}', False),
        (b'{"email": "a!peter@example.com"}', False),
        (b'{"email": "~peter@example.com"}', False),
        (b'{"email": "peter@example.com.au"}', False),
        (b'{"email": "peter@example.community"}', False),
        (b'{"email": "peter@exampleXcom"}', False),
    ],
)
def test_a_rejection_that_mentions_the_email_is_deleted(log, ids, body, goes):
    log.append([], [rejection(body)])
    log.people.forget(log.people.find_by_trait(Trait("email", EMAIL, is_email=True)))
    assert ids("rejected") == ([] if goes else [1])


@pytest.mark.parametrize(
    "body",
    [
        '{"email": "ünal@x.de"}'.encode(),
        '{"email": "ÜNAL@X.DE"}'.encode(),
        '{"email": "Ünal@x.de"}'.encode("utf-16"),
        rb'{"email": "\u00dcNAL@x.de"}',
        rb'{"email": "\u00FCnal@x.de"}',
    ],
)
def test_a_rejection_mentions_the_email_in_any_case(log, ids, body):
    log.append([], [rejection(body)])
    log.people.forget(log.people.find_by_trait(Trait("email", "ünal@x.de", is_email=True)))
    assert ids("rejected") == []


@pytest.mark.parametrize("email", ["", " ", "a", "x.de", "@x.de", "a@", "@"])
def test_an_email_without_two_parts_is_refused(run, append, email):
    append("1234", None, {"email": EMAIL})
    assert "is not an email address" in run("--email", email, "--yes", exit_code=2)


@pytest.mark.parametrize(
    ("body", "goes"),
    [
        (b'{"traits": {"first name": "Ann"}', True),
        (b'{"traits": {"first name" : "Ann"}', True),
        (b"{'first name': 'Ann'}", True),
        (rb'"{\"first name\":\"Ann\"}"', True),
        (b"traits.first+name=Ann&x=%31", True),
        (b"traits.first name=Ann", True),
        (b'{"first name": "Ann Lee"}', False),
        (b"first name=Anna", False),
        (b'{"last name": "Ann"}', False),
        (b'{"name": "Ann"}', False),
        (b'{"greeting": "Ann"}', False),
    ],
)
def test_a_rejection_that_has_the_trait_is_deleted(log, ids, body, goes):
    log.append([], [rejection(body)])
    log.people.forget(found_by(log, "first name", "Ann"))
    assert ids("rejected") == ([] if goes else [1])


def test_a_rejection_that_mentions_a_found_id_is_deleted(append, log, ids):
    append("1234", None, {"email": EMAIL})
    bodies = [
        b'{"userId": 1234, "event": ""}',
        b'{"userId": 12345}',
        rb'{"text": "from:\r\n1234"}',
        b'{"text": "n1234"}',
    ]
    log.append([], list(map(rejection, bodies)))
    log.people.forget(found_by(log, "email", EMAIL))
    assert ids("rejected") == [2, 4]


def test_a_trait_of_many_is_refused(append, run, log, ids):
    for number in range(101):
        append(f"user {number}", None, {"plan": "pro"})
    output = run("--trait", "plan=pro", "--yes", exit_code=1)
    assert output.startswith("Error: More than 100 ids have plan=pro, too many for one person: user 0, user 1, ")
    assert len(ids()) == 101


def test_a_trait_of_many_is_refused_before_all_are_read(log, monkeypatch):
    """Otherwise a trait of millions would take gigabytes of memory."""
    monkeypatch.setattr("eventlog.people.IDS_PER_QUERY", 200)
    log.append([event(n, user_id=f"u{n}", payload='{"traits": {"a": 1}}') for n in range(1000)])
    passed = []
    with pytest.raises(NotPossible, match="too many for one person"):
        log.people.find_by_trait(Trait("a", "1"), passed.append)
    assert sum(passed) < 1000


def test_a_trait_that_nobody_has_is_reported(run, append, ids):
    append("1234", None, {"email": EMAIL})
    assert run("--email", "p@example.com", "--yes", exit_code=1).endswith(
        "Error: Nothing in the log has the trait email=p@example.com\n"
    )
    assert ids() == [1]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("1234", "--email", EMAIL),
        ("--email", EMAIL, "--trait", "a=b"),
        ("--email", " "),
        ("--trait", "plan"),
        ("--trait", "=pro"),
        ("--trait", "plan="),
    ],
    ids=" ".join,
)
def test_a_wrong_choice_of_a_person_is_a_usage_error(run, arguments):
    assert "Usage: " in run(*arguments, exit_code=2)


def test_a_blank_id_is_refused(run):
    assert "A person's id is not blank" in run(" ", exit_code=1)


def test_a_search_reports_about_as_many_rows_as_it_estimates(append, log):
    for _ in range(3):
        append("1234", "phone", {"email": EMAIL})
    log.append([], [rejection(b"{")])
    passed = []
    person = log.people.find_by_trait(Trait("email", EMAIL), passed.append)
    assert sum(passed) == log.people.estimate(passes=4)
    deleted = []
    log.people.forget(person, deleted.append)
    assert sum(deleted) == 3


def test_a_trait_of_many_anonymous_ids_is_refused(log):
    log.append([event(n, user_id=None, anonymous_id=f"a{n}", payload='{"traits": {"a": 1}}') for n in range(101)])
    with pytest.raises(NotPossible, match="More than 100 ids have a=1"):
        found_by(log, "a", "1")
