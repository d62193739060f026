"""msgspec reads what it can, and the strict reader the rest. No answer shows which of the two has read a body."""

import json
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import count
from uuid import UUID

import apsw
import pytest
from factories import AUTHENTICATION, TRACK, new_log
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_anything import ANY, EVENT, GOOD_ITEM, LONGEST, go_on
from test_bad_input import BODIES, EVENTS, KEPT, with_value

from app import create_app
from config import Config
from errors import ApiError
from parsing import json_batch, json_text

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@contextmanager
def strictly():
    """Let the strict reader read everything."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_text, "MAX_CHECKED_LENGTH", -1)
        yield


class Service:
    """An app with a log of its own, a clock that stands still, and messageIds that are always the same."""

    current = None

    def __init__(self, path):
        new_log(path).close()
        self._path = path
        self._ids = count(1)
        self._last = {"events": 0, "rejected": 0}
        self.app = create_app(Config(database=path))

    @staticmethod
    def now(zone):
        return NOW

    @classmethod
    def make_message_id(cls):
        return UUID(int=next(cls.current._ids))

    def outcome(self, url, body):
        """Return a POST's answer, and the rows that it has added."""
        Service.current = self
        response = self.app.test_client().post(url, data=body, headers=AUTHENTICATION)
        rejections = self._added("rejected", "source, received_at, route, code, message, errors, body, cut")
        return response.status_code, response.json, self._added_events(), rejections

    def _added_events(self):
        """Return the new events, with the values of their payloads in the order and spelling that Python gives them."""
        columns = "source, message_id, type, user_id, anonymous_id, name, timestamp, received_at, dedupe_key, payload"
        return [(*event, repr(json.loads(payload))) for *event, payload in self._added("events", columns)]

    def _added(self, table, columns):
        with closing(apsw.Connection(self._path, flags=apsw.SQLITE_OPEN_READONLY)) as log:
            rows = log.execute(f"SELECT id, {columns} FROM {table} WHERE id > ? ORDER BY id", (self._last[table],))
            added = rows.fetchall()
        self._last[table] = added[-1][0] if added else self._last[table]
        return added


@pytest.fixture(scope="module")
def assert_same(tmp_path_factory):
    """Return a function that sends a body to two services, of which one has the strict reader only."""
    folder = tmp_path_factory.mktemp("readers")
    services = [Service(str(folder / name)) for name in ("strict.db", "tracklog.db")]

    def assert_same(url, body):
        with strictly():
            expected = services[0].outcome(url, body)
        assert services[1].outcome(url, body) == expected

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ingest.incoming.datetime", Service)
        patch.setattr("ingest.incoming.make_message_id", Service.make_message_id)
        yield assert_same
    for service in services:
        service.app.extensions["eventlog"].close()


def calls(text):
    """Return bodies with a JSON text as a call, an item, and a member of a batch."""
    item = text.replace("{", '{"type": "track", ', 1)
    yield "/v1/track", text
    yield "/v1/batch", f'{{"batch": [{json.dumps(TRACK)}, {item}], "sentAt": "2026-01-02T03:04:00Z"}}'
    yield "/v1/batch", f'{{"context": {{"value": {text}}}, "batch": [{{"type": "page", "userId": "1"}}]}}'
    yield "/v1/batch", f'{{"x": {text}, "batch": [{{"type": "page", "userId": "1"}}]}}'
    yield "/v1/batch", f'{{"batch": {text}, "batch": [{{"type": "page", "userId": "1"}}]}}'


VALUES = [
    *["01", "-", "1.", "1.e5", "-0", "1E400", "0e400", "1e-400", "1e22", "9007199254740993.5", "[1,]", '{"a":1,}'],
    *[
        '{"a":1, "a":2}',
        '"\\ud800"',
        '"\\udc00\\ud800"',
        '"\\ud83d\\ude00"',
        '"\\u0000"',
        '"\x01"',
        '"\x7f"',
        "\ufeff1",
    ],
    *["NaN", "-Infinity", '{"\\ud800": 1, "\ufffd": 2}', "1" * 4300, "-" + "1" * 4300, "1" * 4301, "tru", "nul", "'a'"],
]


@pytest.mark.parametrize("body", [body for body, _ in BODIES.values()], ids=BODIES)
@pytest.mark.parametrize("url", ["/v1/track", "/v1/batch", "/v1/validate"])
def test_both_readers_give_the_same_verdict_on_a_bad_body(assert_same, url, body):
    assert_same(url, body)


@pytest.mark.parametrize("case", [*EVENTS, *KEPT])
def test_both_readers_store_an_unusual_call_alike(assert_same, case):
    for url, body in calls(EVENTS[case][0] if case in EVENTS else KEPT[case]):
        assert_same(url, body)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: ascii(value)[:30])
def test_both_readers_store_an_unusual_value_alike(assert_same, value):
    for url, body in calls(with_value(value)):
        assert_same(url, body)
    for url, body in calls(value):
        assert_same(url, body)


many = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ENVELOPE = st.dictionaries(st.sampled_from(["context", "integrations", "sentAt", "writeKey", "x"]), ANY)


@many
@given(route=st.sampled_from(["track", "page", "batch", "validate"]), event=EVENT | GOOD_ITEM | ANY)
def test_both_readers_store_any_call_alike(assert_same, route, event):
    assert_same(f"/v1/{route}", json.dumps(event))


@many
@given(
    batch=st.lists(EVENT | ANY | GOOD_ITEM, max_size=4),
    envelope=ENVELOPE,
    slip=st.text('{}[]",:1\\x', max_size=1),
    at=st.integers(0, 300),
)
def test_both_readers_store_any_batch_alike(assert_same, batch, envelope, slip, at):
    """Send a batch, sometimes with a character too many, so that it is almost JSON."""
    text = json.dumps({**envelope, "batch": batch})
    assert_same("/v1/batch", text[:at] + slip + text[at:])


def outcome(parse, text):
    """Return what a text is parsed to, with the spelling of numbers and the order of keys, or why it is not."""
    try:
        return repr(parse(text))
    except ApiError as refused:
        return refused.message


def plain_batch(text):
    value = json_batch.parse_batch(text, 1000, LONGEST, go_on)
    if isinstance(value, dict) and isinstance(value.get("batch"), list):
        return {**value, "batch": [(item.value, item.text) for item in value["batch"]]}
    return value


NUMBERS = st.from_regex(r"-?[0-9]{1,25}(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,4})?", fullmatch=True) | st.floats().map(repr)
TEXTS = st.text('\\u0dDcC89"ab/nt\x01\x7fé\U0001f600', max_size=16).map('"{}"'.format)


@settings(max_examples=500, deadline=None)
@example("1.7976931348623158e308").via("rounds to the largest number")
@example("1.7976931348623159e308").via("rounds to infinity")
@example("2.2250738585072011e-308").via("between two subnormal numbers")
@example("0.500000000000000166533453693773481063544750213623046875").via("exactly between two numbers")
@given(NUMBERS | TEXTS | ANY.map(json.dumps) | ANY.map(lambda value: json.dumps(value, indent=1)))
def test_both_readers_read_the_same_value(text):
    for parse, body in (
        (lambda text: json_text.parse(text).value, text),
        (plain_batch, f'{{"batch": [{text}, 1], "x": {text}}}'),
        (plain_batch, f'{{"batch": {text}, "batch": [1], "x": 01}}'),
    ):
        with strictly():
            expected = outcome(parse, body)
        assert outcome(parse, body) == expected


@settings(max_examples=500, deadline=None)
@given(NUMBERS | TEXTS | ANY.map(json.dumps))
def test_a_checked_value_is_encoded_as_it_was_sent(text):
    try:
        value, _, is_checked = json_text.parse(text)
    except ApiError:
        return
    if is_checked:
        assert repr(json.loads(json_text.encode(value, is_checked=True))) == repr(json.loads(text))
        assert json_text.is_unicode(text)
        assert not list(json_text.find_defects(value, go_on))


@pytest.mark.parametrize("text", ["NaN", "[1e400]", '{"a": -Infinity}', '"\\ud800"', '{"\\udc00": 1}'])
def test_only_a_value_that_json_has_is_checked(text):
    assert json_text.parse(with_value("1")).is_checked
    assert not json_text.parse(with_value(text)).is_checked
    batch = f'{{"batch": [{{}}, {text}]}}'
    assert not any(item.is_checked for item in json_batch.parse_batch(batch, 1000, LONGEST, go_on)["batch"])


def test_a_long_value_is_left_to_the_strict_reader():
    """msgspec takes 10 us for some numbers of 22 characters."""
    text = "[" + "1.2345678901234567e307, " * 800 + "1]"
    assert not json_text.parse(text).is_checked
    batch = json_batch.parse_batch(f'{{"batch": [1, {text}]}}', 1000, LONGEST, go_on)["batch"]
    assert not any(item.is_checked for item in batch)


@pytest.mark.parametrize(
    ("limit", "short", "long"),
    [
        ("MAX_SPLIT_LENGTH", '{"batch": [1]}'.ljust(100), '{"batch": [1]}'.ljust(101)),
        ("MAX_SPLIT_COMMAS", '{"batch": [1' + ",1" * 100 + "]}", '{"batch": [1' + ",1" * 101 + "]}"),
    ],
)
def test_a_long_batch_is_not_split_in_one_call(monkeypatch, limit, short, long):
    def is_checked(text):
        return json_batch.parse_batch(text, 1000, LONGEST, go_on)["batch"][0].is_checked

    assert is_checked(long)
    monkeypatch.setattr(json_batch, limit, 100)
    assert is_checked(short)
    assert not is_checked(long)


def test_a_batch_above_an_event_s_limit_is_not_split_in_one_call():
    text = '{"batch": [1, [1, 2]]}'
    assert json_batch.parse_batch(text, 1000, len(text), go_on)["batch"][0].is_checked
    assert not json_batch.parse_batch(text, 1000, len(text) - 1, go_on)["batch"][0].is_checked


def test_other_requests_can_run_between_the_items_of_a_batch():
    pauses = []
    batch = json_batch.parse_batch('{"batch": [1, 2, 3]}', 1000, LONGEST, lambda: pauses.append(1))["batch"]
    assert [item.is_checked for item in batch] == [True] * 3
    assert len(pauses) == 3


@pytest.mark.parametrize("text", ['{"batch": [1, 2, 3]}', '{"a": 1, "a": 1, "batch": [1, 2]}'])
def test_a_batch_over_a_limit_is_left_to_the_strict_reader(monkeypatch, text):
    monkeypatch.setattr(json_batch, "MAX_MEMBERS", 2)
    with pytest.raises(ApiError) as refusal:
        json_batch.parse_batch(text, 2, LONGEST, go_on)
    assert refusal.value.code in ("batch_too_long", "payload_too_large")


NUMBER_IDS = {
    "1e22": "1e+22", "1E+22": "1e+22", "1e16": "1e+16", "1e-7": "1e-07", "0.00001": "1e-05", "1e2": "100.0",
    "1.0": "1.0", "-0": "0", "-0.0": "-0.0", "18446744073709551616": "18446744073709551616",
    "123456789.123456789123456789": "123456789.12345679",
}  # fmt: skip


@pytest.mark.parametrize("number", NUMBER_IDS)
@pytest.mark.parametrize("body", ["?", '{"batch": [?]}', '{"batch": [?, NaN]}'], ids=["call", "batch", "strict reader"])
def test_a_number_as_an_id_always_becomes_the_same_text(post, query, body, number):
    """Another text would make an event that is sent again a new one."""
    call = f'{{"type": "track", "event": "e", "userId": {number}, "messageId": {number}}}'
    assert post("/v1/batch" if "batch" in body else "/v1/track", body.replace("?", call))[0] == 200
    assert query("SELECT message_id, user_id FROM events") == [(NUMBER_IDS[number],) * 2]
    assert post("/v1/track", call)[1]["duplicate"] is True
