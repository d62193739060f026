"""The live page marks in a rejected body what its errors are about, and shows no key."""

import base64
import gzip
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
from factories import SOURCE_ID, event, events, rejection
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from config import Config
from errors import CODES, field_error
from parsing import json_text
from schemas import CALLS

PROJECT = Path(__file__).parents[2]
sys.path.insert(0, str(PROJECT / "deploy/datasette"))
import body_faults  # noqa: E402
import excerpts  # noqa: E402
import guard  # noqa: E402
import news  # noqa: E402
from hiding import HIDDEN, KeyHider  # noqa: E402

NOTHING_SEEN = news.Position(-1, -1, -1)
AN_EVENT = '{"userId": "1", "event": "x"}'


@pytest.fixture
def settings(path):
    return Config(database=path, max_batch_events=3, max_event_bytes=5000, max_body_bytes=12_000)


@pytest.fixture
def read(path):
    """Return a function that returns what a page shows of all sources, or of one."""

    def read(source="", seen=NOTHING_SEEN):
        with closing(news.connect(path)) as connection:
            return news.read_news(connection, source, seen)

    return read


def marked(shown):
    """Return the marked parts of a body, and the notes in it after a +."""
    prefixes = {"fault": "", "note": "+"}
    return [prefixes[piece.kind] + piece.text for piece in shown["excerpt"] if piece.kind in prefixes]


def text_of(shown):
    return "".join(piece.text for piece in shown["excerpt"])


# What is marked for each code: the route, the body, the marks, and headers.
KEPT = [
    ("invalid_json", "track", "{'userId': '1', 'event': 'x'}", ["'userId'"]),
    ("invalid_json", "track", '{"userId": "it\'s", "event": \'it is\'}', ["'it is'"]),
    ("invalid_json", "track", '{"userId": “1”, "event": "x"}', ["“1”"]),
    ("invalid_json", "track", '{"userId": "1",\n\n "paid": True}', ["True"]),
    ("invalid_json", "track", '{"userId": "1" "event": "x"}', ["+comma missing", '"event"']),
    ("invalid_json", "track", '{"userId": "1"\n"event": "x"}', ["+comma missing", '"event"']),
    ("invalid_json", "track", '{"userId" "1"}', ["+colon missing", '"1"']),
    ("invalid_json", "track", '{"userId": "1", }', [","]),
    ("invalid_json", "track", '{"userId": "1", "p": [1, 2, ]}', [","]),
    ("invalid_json", "track", '{"userId": Arthur}', ["Arthur"]),
    ("invalid_json", "track", '{userId: "1"}', ["userId"]),
    ("invalid_json", "track", '{"userId": "1", "event": "Added', ['"Added']),
    ("invalid_json", "track", '{"userId": "1"', ["+ends here"]),
    ("invalid_json", "track", "", ["+the body is empty"]),
    ("invalid_json", "track", " \n", ["+the body is empty"]),
    ("invalid_json", "track", '{"userId": "1" // who\n}', ["//"]),
    ("invalid_json", "track", "userId=1&event=x", ["userId=1&event=x"]),
    ("invalid_json", "track", '{\u00a0"userId": "1"}', ["\\xa0"]),
    ("invalid_json", "track", AN_EVENT + "}", ["}"]),
    ("invalid_json", "track", '{"userId": "1", "event": "a\tb"}', ["\t"]),
    ("invalid_json", "track", '{"n": ' + "1" * 4301 + "}", ["1" * 300]),
    ("invalid_json", "track", b'{"userId": "\xc3\xa9\xc3\xa9", "event": "caf\xe9"}', ["\\xe9"]),
    ("invalid_json", "track", b'{"userId": "\xc3\xa9",\n "event": "\xc3\xa9\xff\xfe"}', ["\\xff"]),
    ("invalid_json", "track", "\ufeff{'userId': '1'}", ["'userId'"]),
    ("invalid_json", "track", b'\xef\xbb\xbf{\n"userId": "\xe9"}', ["\\xe9"]),
    ("invalid_json", "track", AN_EVENT.encode("utf-16"), ["\\xff"]),
    ("invalid_json", "track", "data=" + quote('{"userId": "1", }'), [","]),
    ("invalid_json", "track", b"data=" + base64.b64encode(b'{"userId": True}'), ["True"]),
    ("invalid_json", "track", gzip.compress(b'{"userId": None}', mtime=0), ["None"], {"Content_Encoding": "gzip"}),
    ("invalid_json", "batch", '{"batch": [{"type": "track"} {"type": "page"}]}', ["+comma missing", "{"]),
    ("invalid_encoding", "track", AN_EVENT, ['{"'], {"Content_Encoding": "gzip"}),
    ("invalid_encoding", "track", AN_EVENT, [], {"Content_Encoding": "br"}),
    (
        "invalid_encoding",
        "track",
        gzip.compress(AN_EVENT.encode(), mtime=0)[:30],
        ["+ends here"],
        {"Content_Encoding": "gzip"},
    ),
    ("invalid_encoding", "track", "data=###&x=1", ["###"]),
    ("payload_too_large", "track", "x" * 12_001, ["+ends here"]),
    ("payload_too_large", "track", gzip.compress(b"x" * 12_001, mtime=0), ["+ends here"]),
    ("payload_too_large", "batch", json.dumps(dict.fromkeys(map(str, range(1001)))).replace("null", "1"), []),
    (
        "payload_too_large",
        "batch",
        '{"context": {"a": "%s"}, "batch": [1,2,3]}' % ("x" * 4500),
        ['{"a": "' + "x" * 293],
    ),
    ("bad_request", "track", '{"batch": [{"userId": "1"}]}', ['[{"userId": "1"}]']),
    ("bad_request", "batch", "[1, 2]", ["[1, 2]"]),
    ("batch_not_list", "batch", '{"batch": {"userId": "1"}}', ['{"userId": "1"}']),
    ("batch_not_list", "batch", '{"userId": "1"}', ["+batch is missing"]),
    ("empty_batch", "batch", '{"batch": [ ]}', ["[ ]"]),
    ("batch_too_long", "batch", '{"batch": [1, 2, 3, 4]}', ["[1, 2, 3, 4]"]),
    ("event_not_object", "track", ' ["x"] ', ['["x"]']),
    ("event_not_object", "batch", '{"batch": [7]}', ["7"]),
    (
        "event_too_large",
        "track",
        '{"userId": "1", "properties": {"a": 1, "b": "%s"}}' % ("x" * 5000),
        ['"' + "x" * 299],
    ),
    ("event_too_large", "batch", '{"context": {"a": "%s"}, "batch": [1]}' % ("x" * 5000), ['{"a": "' + "x" * 293]),
    ("too_deep", "track", '{"userId": "1", "p": ' + "[" * 199 + '"]", [{}]' + "]" * 199 + "}", ["["]),
    ("invalid_number", "track", '{"userId": "1", "event": "x", "p": {"a.b": [1, NaN]}}', ["NaN"]),
    (
        "invalid_number",
        "track",
        '{"userId": "1", "event": "x", "p": {"a": 1e999, "b": -Infinity}}',
        ["1e999", "-Infinity"],
    ),
    ("invalid_number", "track", '{"userId": NaN, "event": "x"}', ["NaN"]),
    ("invalid_text", "track", '{"userId": "\\ud800", "event": "x"}', ['"\\ud800"']),
    ("id_required", "track", '{"event": "x"}', ["+userId is missing"]),
    ("id_required", "track", '{"userId": " ", "event": "x"}', ['" "']),
    ("id_required", "track", '{"userID": null, "event": "x"}', ["null"]),
    ("id_required", "track", '{"event": "x", "to": "2"}', ["+userId is missing"]),
    ("id_required", "alias", '{"previousId": "1"}', ["+userId is missing"]),
    ("id_not_string", "track", '{"userId": {"id": 7}, "event": "x"}', ['{"id": 7}']),
    ("id_not_string", "track", '{"userID": [7], "event": "x"}', ["[7]"]),
    ("id_not_string", "track", '{"anonymousID": true, "event": "x"}', ["true"]),
    ("id_not_string", "alias", '{"from": true, "to": "2"}', ["true"]),
    ("id_not_string", "track", '{"userId": "1", "userId": [1], "event": "x"}', ["[1]"]),
    ("id_invalid", "track", '{"userId": "a\\u0000", "event": "x"}', ['"a\\u0000"']),
    ("group_id_required", "group", '{"userId": "1"}', ["+groupId is missing"]),
    ("group_id_required", "group", '{"userId": "1", "groupID": ""}', ['""']),
    ("previous_id_required", "alias", '{"userId": "1"}', ["+previousId is missing"]),
    ("message_id_not_string", "track", '{"messageId": [1], "userId": "1", "event": "x"}', ["[1]"]),
    (
        "message_id_too_long",
        "track",
        '{"messageId": "%s", "userId": "1", "event": "x"}' % ("m" * 256),
        ['"' + "m" * 256 + '"'],
    ),
    (
        "message_id_not_string",
        "batch",
        '{"batch": [{"action": "track", "requestId": [1], "userId": "1", "event": "x"}]}',
        ["[1]"],
    ),
    ("unknown_type", "batch", '{"batch": [{"type": "trak", "userId": "1"}]}', ['"trak"']),
    ("unknown_type", "batch", '{"batch": [{"action": "trak", "userId": "1"}]}', ['"trak"']),
    ("unknown_type", "batch", '{"batch": [{"userId": "1"}]}', ["+type is missing"]),
    ("type_mismatch", "track", '{"type": "page", "userId": "1", "event": "x"}', ['"page"']),
    ("event_not_defined", "track", '{"userId": "1"}', ["+event is missing"]),
    ("event_not_defined", "track", '{"userId": "1", "event": ""}', ['""']),
    ("event_not_string", "track", '{"userId": "1", "event": ["x"]}', ['["x"]']),
    ("properties_not_object", "track", '{"userId": "1", "event": "x", "properties": "p"}', ['"p"']),
    ("traits_not_object", "identify", '{"userId": "1", "traits": 7}', ["7"]),
    ("context_not_object", "track", '{"userId": "1", "event": "x", "context": "c"}', ['"c"']),
    ("context_not_object", "batch", '{"batch": [1], "context": "c"}', ['"c"']),
    ("integrations_not_object", "track", '{"userId": "1", "event": "x", "integrations": true}', ["true"]),
    ("name_not_string", "page", '{"userId": "1", "name": 7}', ["7"]),
    ("category_not_string", "page", '{"userId": "1", "category": 7}', ["7"]),
    ("section_not_string", "screen", '{"userId": "1", "section": 7}', ["7"]),
    ("timestamp_invalid", "track", '{"userId": "1", "event": "x", "timestamp": "soon"}', ['"soon"']),
    ("timestamp_invalid", "track", '{"originalTimestamp": [1], "userId": "1", "event": "x"}', ["[1]"]),
]
#: Not kept, since no source is known, nothing is wrong, or the items are kept instead.
NOT_KEPT = {
    *("missing_write_key", "invalid_authorization", "unknown_source", "empty_batch_result"),
    *("not_found", "method_not_allowed", "internal_error", "storage_unavailable"),
}


def test_every_code_is_tested():
    tested = {code for code, *_ in KEPT}
    assert tested | NOT_KEPT | {"source_disabled"} == set(CODES)
    assert not tested & NOT_KEPT


@pytest.mark.parametrize(("code", "call", "body", "marks", "headers"), [(*case, {})[:5] for case in KEPT])
def test_the_fault_of_each_code_is_marked(post, read, code, call, body, marks, headers):
    post(f"/v1/{call}", body, **headers)
    (shown,) = read()["rejections"]
    assert (shown["code"], marked(shown)) == (code, marks)
    assert all(error["message"] for error in shown["errors"])


def test_a_rejection_of_a_disabled_source_gets_advice(log, post, read):
    log.sources.set_enabled("example", False)
    post("/v1/track", AN_EVENT)
    (shown,) = read()["rejections"]
    assert (marked(shown), text_of(shown)) == ([], AN_EVENT)
    assert "Enable the source" in shown["advice"]


def test_old_names_are_those_of_the_schemas():
    renamed = {(new, old) for schema in CALLS.values() for old, new in schema.renamed.items()}
    items = {("type", "action"), ("messageId", "requestId")}  # of a batch only, which checking.py renames
    assert {(new, old) for new, olds in body_faults.OLD_NAMES.items() for old in olds} == renamed | items


def test_limits_are_those_of_the_parser():
    assert (body_faults.MAX_DEPTH, body_faults.MAX_STEP_LENGTH) == (json_text.MAX_DEPTH, json_text.MAX_PATH_LENGTH)


def test_the_page_needs_no_library_of_the_service():
    """Its environment has Datasette only."""
    code = f"import sys; sys.path[:0] = {[str(PROJECT), str(PROJECT / 'deploy/datasette')]!r}; import news"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)


# Excerpts


def test_a_long_body_is_shown_around_its_faults(log, read):
    body = json.dumps({"userId": [], "properties": "x" * 100_000, "context": 7, "integrations": {"a": "y" * 50_000}})
    errors = [field_error(each, "id_not_string") for each in ("userId", "properties", "context")]
    log.append([], [rejection(body.encode(), code="id_not_string", errors=json.dumps(errors))])
    (shown,) = read()["rejections"]
    assert marked(shown) == ["[]", '"' + "x" * 299, "7"]
    assert len(text_of(shown)) < 2000
    assert [piece.text for piece in shown["excerpt"] if piece.kind == "gap"] == [
        "99,515 more characters",
        "49,828 more characters",
    ]


def test_only_the_beginning_of_a_cut_body_is_shown_as_such(post, read):
    post("/v1/track", "x" * 12_001)
    (shown,) = read()["rejections"]
    assert shown["cut"]
    assert shown["excerpt"][-1].text == "only the beginning of the body was kept"


def test_invisible_characters_are_shown_as_escapes():
    assert (
        excerpts.visible("a\u202eb\0c\x1b[1m\u00a0\udcff\r\nd\te\x7f") == "a\\u202eb\\x00c\\x1b[1m\\xa0\\xff\nd\te\\x7f"
    )


def test_marks_that_overlap_are_shown_once():
    text = '{"a": {"b": 1}}'
    pieces = excerpts.make_excerpt(
        text, [body_faults.Fault(6, 14), body_faults.Fault(7, 8), body_faults.Fault(14, 14, "n")], str
    )
    assert "".join(piece.text for piece in pieces if piece.kind != "note") == text


@settings_of_hypothesis(deadline=None)
@given(st.integers(0, 4000), st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 3000)), max_size=10))
def test_an_excerpt_has_the_text_in_order_and_exact_gaps(length, spans):
    text = "".join(f"{number} " for number in range(1000))[:length]
    found = sorted(body_faults.Fault(min(at, len(text)), min(at + size, len(text))) for at, size in spans)
    at = 0
    for piece in excerpts.make_excerpt(text, found, str):
        if piece.kind == "gap":
            at += int(piece.text.split()[0].replace(",", ""))
        else:
            assert text.startswith(piece.text, at)
            at += len(piece.text)
    assert at == len(text)


@pytest.mark.parametrize(
    ("code", "message", "advice"),
    [
        ("invalid_json", "line 1, column 2: the byte 0xe9 is not UTF-8", "In Latin-1, this byte is é"),
        ("invalid_json", "line 1, column 2: Expecting", "Remove the character NO-BREAK SPACE"),
    ],
)
def test_invisible_characters_get_advice(log, read, code, message, advice):
    body = b"{\xe9}" if "0xe9" in message else "{\u00a0}".encode()
    log.append([], [rejection(body, code=code, message=message)])
    assert advice in read()["rejections"][0]["advice"]


def test_another_encoding_gets_advice(post, read):
    post("/v1/track", AN_EVENT.encode("utf-16-le"))
    assert read()["rejections"][0]["advice"] == "The body looks like UTF-16 or UTF-32. Send UTF-8."


def test_both_messages_are_shown_if_they_differ(post, read):
    post("/v1/batch", AN_EVENT)
    messages = [error["message"] for error in read()["rejections"][0]["errors"]]
    assert messages == ["This is one call; send it to /v1/track", CODES["batch_not_list"][1]]


@pytest.mark.parametrize(
    "text",
    [
        '"' + '\\"' * 4_000_000,  # a search from each quote would take hours
        "[" * 1_000_000,
        '{"a":' * 100_000,
        "\n" * 8_000_000 + "x",
    ],
    ids=["quotes", "lists", "objects", "lines"],
)
def test_no_body_takes_long_to_search(text):
    for message in ("The body is nested too deeply", f"line {len(text)}, column 1: x"):
        body_faults.find_faults(text.encode(), text, "invalid_json", message, [])
    body_faults.find_faults(text.encode(), text, "invalid_number", "x", [field_error("a.a.a", "invalid_number")])


def test_bodies_are_shown_as_they_are_once_marking_took_long(post, read, monkeypatch):
    monkeypatch.setattr(news, "MARKING_SECONDS", -1)
    post("/v1/track", "{'userId': 1}")
    post("/v1/track", "data=%7B%7D")
    form, text = read()["rejections"]
    assert (marked(text), text_of(text)) == ([], "{'userId': 1}")
    assert (marked(form), text_of(form)) == ([], "data=%7B%7D")


# Keys

LONG = "z" * 2000
SPELLINGS = [
    '{{"writeKey": "{key}", "event": "x"}}',
    '{{"writeKey":"{key}',
    "{{'writeKey': '{key}', 'event': 'x'}}",
    '{{"secret": "{key}"}}',
    '{{"properties": {{"note": "my key is {key}."}}}}',
    '{{"{key}": 1}}',
    "writeKey={key}&event=x",
    "x=1&y={key}",
    '{{"nested": "{{\\"writeKey\\": \\"{key}\\"}}"}}',
    '{{"url": "https://{key}@host/?writeKey={key}"}}',
]


@pytest.mark.parametrize("template", SPELLINGS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32-le"])
@pytest.mark.parametrize("pad", ["", LONG])
def test_no_key_is_shown(log, read, template, encoding, pad):
    body = (pad + template.format(key=SOURCE_ID) + pad).encode(encoding)
    message = f"line 1, column {len(pad) + 1}: write a comma before {SOURCE_ID}"
    errors = json.dumps([{"field": f"p.{SOURCE_ID}", "code": "invalid_number", "message": SOURCE_ID}])
    log.append([], [rejection(body, message=message, errors=errors)])
    shown = read()["rejections"][0]
    assert SOURCE_ID not in json.dumps(shown).replace("\\\\x00", "")


@pytest.mark.parametrize("shift", range(30))
def test_a_key_that_begins_outside_the_shown_part_is_hidden(log, read, shift):
    fault = 5000
    for start in (fault - excerpts.BEFORE - shift, fault + 1 + excerpts.AFTER - shift, excerpts.BEGINNING - shift):
        body = "z" * start + SOURCE_ID + "z" * 9000
        log.append([], [rejection(body.encode(), message=f"line 1, column {fault}: x")])
    for shown in read()["rejections"]:
        assert not [part for part in (SOURCE_ID[:6], SOURCE_ID[-6:]) if part in text_of(shown)]


@pytest.mark.parametrize(
    "spelling",
    [
        SOURCE_ID,
        "".join(f"\\u{ord(each):04x}" for each in SOURCE_ID),
        SOURCE_ID.replace("L", "\\u004C").replace("3", "%33"),
        "".join(f"%{ord(each):02X}" for each in SOURCE_ID),
        *(base64.b64encode(f"{'x' * n}{SOURCE_ID}:{'y' * n}".encode()).decode() for n in range(4)),
        *(base64.urlsafe_b64encode(f"{'?' * n}{SOURCE_ID}".encode()).decode() for n in range(4)),
    ],
)
def test_a_key_is_hidden_however_it_is_spelled(spelling):
    hidden = KeyHider([SOURCE_ID]).hide(f'{{"x": "{spelling}"}}')
    assert len(hidden) == len(spelling) + 9
    assert hidden.count(HIDDEN) >= len(SOURCE_ID)
    shown = [part for part in hidden.split(HIDDEN) if part][1:-1]
    assert not [part for part in shown if SOURCE_ID[2:6] in base64.b64decode(part + "==").decode("latin-1")]


@pytest.mark.parametrize(
    "text",
    [
        '{"writeKey": "unknown-key"}',
        '{"WRITEKEY" : "unknown-key"}',
        "{'secret': 'unknown-key'}",
        '{"writeKey": unknown-key}',
        '{"writeKey": "unknown-key',
        '{\\"writeKey\\": \\"unknown-key\\"}',
        "a=1&writeKey=unknown-key&b=2",
        "%22writeKey%22%3A%22unknown-key%22",
        '{"writeKey": "\\u0075nknown-key"}',
    ],
)
def test_the_value_of_a_write_key_is_hidden(text):
    """A sender may use the key of another log."""
    assert "nknown" not in KeyHider([]).hide(text)


@pytest.mark.parametrize("length", [8, 19, 31])
def test_the_beginning_of_a_key_is_hidden_at_the_end_of_a_text(length):
    """A message quotes 20 characters of a body, and of a body that is too large only the beginning is kept."""
    key = "0123456789abcdef" * 2
    assert KeyHider([key]).hide(f'write a colon before "{key[:length]}') == f'write a colon before "{HIDDEN * length}'


def test_other_texts_are_not_hidden():
    text = '{"event": "I love data", "client_secret": "x", "id": "abcd1", "words": "a secret story", "n": "it1"}'
    assert KeyHider([SOURCE_ID, "it", "abc", ""]).hide(text) == text
    assert KeyHider(["it"]).hide('{"it": 1}') == f'{{"{HIDDEN * 2}": 1}}'


def test_keys_of_all_sources_are_hidden_also_retired_ones(log, read):
    log.sources.add("website", "OtherSourceKey")
    log.sources.add_key("website", "NextSourceKey")
    log.sources.retire_key("website", "OtherSourceKey")
    log.append([], [rejection(b'{"a": "OtherSourceKey, NextSourceKey, ILoveData123, ThirdSourceKey"}')])
    assert text_of(read()["rejections"][0]) == f'{{"a": "{HIDDEN * 14}, {HIDDEN * 13}, {HIDDEN * 12}, ThirdSourceKey"}}'


def test_the_page_reads_nothing_else_that_may_hold_keys(log, path):
    log.destinations.add("hook", "webhook+http://HookKey@nowhere", [], [], 0)
    readable = {table: set(news.COLUMNS[table]) - visible for table, visible in guard.VISIBLE_COLUMNS.items()}
    assert readable == {
        "sources": set(),
        "source_keys": {"id"},
        "rejected": {"message", "errors", "body"},
        "destinations": set(),
    }
    with closing(news.connect(path)) as connection:
        assert [*connection.execute("SELECT url FROM destinations").fetchone()] == [None]
        assert [*connection.execute("SELECT id FROM sources").fetchone()] == [None]
        with pytest.raises(sqlite3.DatabaseError):
            connection.execute("DELETE FROM events")


# What is new


def test_no_query_scans_the_events_or_the_rejections(path, log):
    statements = [value for name, value in vars(news).items() if isinstance(value, str) and "SELECT" in value]
    statements = [sql.format(table=table) for sql in statements for table in ("events", "rejected")]
    assert len(statements) == 2 * 6
    with closing(news.connect(path)) as connection:
        for sql in statements:
            plan = connection.execute(f"EXPLAIN QUERY PLAN {sql}", {"source": "", "after": 0, "oldest": 0}).fetchall()
            scans = [row[3] for row in plan if "SCAN" in row[3]]
            assert not [scan for scan in scans if "events" in scan or "rejected" in scan], sql


def test_a_page_shows_the_newest_of_its_source(log, read):
    log.append(events(60), [rejection(f"{n}".encode()) for n in range(30)])
    log.append([event("other", source="website")], [rejection(b"other", source="website")])
    shown = read("example")
    assert [each["id"] for each in shown["events"]] == [*range(60, 10, -1)]
    assert [each["id"] for each in shown["rejections"]] == [*range(30, 5, -1)]
    assert (shown["counts"]["stored"]["count"], shown["counts"]["rejected"]["count"]) == (60, 30)
    assert [len(read("website")[name]) for name in ("events", "rejections")] == [1, 1]
    assert [read()[name][0]["source"] for name in ("events", "rejections")] == ["website", "website"]
    assert shown["sources"] == ["example", "website"]


def test_a_page_then_gets_only_what_is_new(log, read):
    log.append(events(5), [rejection(b"1")])
    seen = read()["seen"]
    assert [read(seen=seen)[name] for name in ("events", "rejections")] == [[], []]
    log.append([event("new")], [rejection(b"2")])
    news_of_page = read(seen=seen)
    assert [each["id"] for each in news_of_page["events"]] == [6]
    assert [each["id"] for each in news_of_page["rejections"]] == [2, 1]


def test_a_body_that_is_rejected_again_is_news(log, read):
    log.append([], [rejection(b"1"), rejection(b"2")])
    seen = read()["seen"]
    log.append([], [rejection(b"1")])
    shown = read(seen=seen)
    assert [(each["id"], each["times_seen"]) for each in shown["rejections"]] == [(2, 1), (1, 2)]
    assert shown["counts"]["rejected"]["count"] == 3


def test_a_page_tells_how_many_rows_it_leaves_out(log, read):
    log.append(events(5), [rejection(b"first")])
    seen = read()["seen"]
    assert (read()["more_events"], read()["more_rejections"]) == (0, 0)
    log.append(
        [event(n) for n in range(100, 200)] + [event("other", source="website")],
        [rejection(f"{n}".encode()) for n in range(40)],
    )
    shown = read("example", seen)
    assert (shown["more_events"], shown["more_rejections"]) == (50, 15)
    assert (read("example", shown["seen"])["more_events"], len(read("website", seen)["events"])) == (0, 1)


def test_a_page_looks_back_only_so_far(log, read, monkeypatch):
    monkeypatch.setattr(news, "EVENTS_BACK", 10)
    monkeypatch.setattr(news, "REJECTIONS_BACK", 10)
    log.append([event("old", source="website")], [rejection(b"old", source="website")])
    log.append(events(30), [rejection(f"{n}".encode()) for n in range(30)])
    shown = read("website")
    assert (shown["events"], shown["rejections"]) == ([], [])
    assert shown["counts"]["rejected"]["count"] == 1


def test_an_empty_log_is_shown(read):
    shown = read("nobody")
    assert (shown["events"], shown["rejections"], shown["counts"], shown["seen"]) == ([], [], {}, (0, 0, 0))


BODIES = st.one_of(
    st.binary(max_size=60),
    st.text(alphabet="{}[]\",:'\\ \n\u00e9\u0000data=%&+1aN", max_size=60).map(str.encode),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.just("userId"), inner, max_size=3)
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value, ensure_ascii=False).encode()),
)
MESSAGES = st.one_of(
    st.sampled_from([message for _, message in CODES.values()]),
    st.builds(
        "line {}, column {}: {}".format,
        st.integers(0, 99),
        st.integers(0, 99) | st.just(10**12),
        st.sampled_from(
            ["remove the comma", "write a comma before x", "the byte 0xe9 is not UTF-8", "the body is empty", "x"]
        ),
    ),
    st.sampled_from(
        ["data must be", "The body should be gzip", "The gzip data ends", "context", "at most 7 bytes", ""]
    ),
)
FIELDS = st.sampled_from(["userId", "", ".", "[0]", "[0][1]", "a.b", "batch", "type", "x[", "a..b", "\ud800"])


@settings_of_hypothesis(max_examples=500, deadline=None)
@given(
    BODIES,
    st.sampled_from([*CODES]),
    MESSAGES,
    st.lists(st.tuples(FIELDS, st.sampled_from([*CODES])), max_size=3),
    st.booleans(),
)
def test_every_rejection_can_be_shown(body, code, message, errors, is_cut):
    """One that could not be shown would hide all others of its source."""
    columns = rejection(body, code=code, message=message, errors=json.dumps([field_error(*each) for each in errors]))
    row = {**columns._asdict(), "id": 1, "cut": is_cut, "times_seen": 1, "became": None}
    shown = news.describe_rejection(row, KeyHider(["abc", SOURCE_ID]).hide)
    json.dumps(shown, ensure_ascii=False).encode()
