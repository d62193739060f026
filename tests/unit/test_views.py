"""The view of each type shows a value wherever the sender's SDK puts it."""

import contextlib
import json
import sqlite3

import apsw
import pytest

import eventlog
from eventlog import schema

AT = "2015-11-10T00:45:23.412Z"
ARTHUR = {"name": "Arthur Dent", "email": "arthur@example.com"}
FORD = {"name": "Ford Prefect", "email": "ford@example.com"}


@pytest.fixture
def seen(post, path):
    """Return a function that posts a call and returns its row of a view, as the standard library's SQLite reads it."""

    def seen(view, **fields):
        type = {"identifies": "identify", "aliases": "alias"}.get(view, view.removesuffix("s"))
        assert post(f"/v1/{type}", {"userId": "1", **fields})[0] == 200
        return newest(path, view)

    return seen


def newest(path, view):
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        return dict(connection.execute(f"SELECT * FROM {view} ORDER BY id DESC").fetchone())


def write(path, type, payload):
    """Store an event that the service would refuse today, as an older version or an import may have."""
    connection = apsw.Connection(path)
    connection.execute(
        "INSERT INTO events (source, message_id, type, name, timestamp, received_at, payload, dedupe_key)"
        " VALUES ('example', 'm', ?, ?, ?, ?, ?, randomblob(16))",
        (type, payload.get("name"), AT, AT, json.dumps(payload)),
    )
    connection.close()


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"traits": ARTHUR}, ARTHUR),
        ({"context": {"traits": ARTHUR}}, ARTHUR),
        ({"context": {"traits": ARTHUR}, "traits": {}}, ARTHUR),
        ({"context": {"traits": ARTHUR}, "traits": []}, ARTHUR),
        ({"context": {"traits": ARTHUR}, "traits": None}, ARTHUR),
        ({"context": {"traits": FORD}, "traits": ARTHUR}, ARTHUR),
        ({"context": {"traits": "Ford"}, "traits": ARTHUR}, ARTHUR),
        ({"context": {"traits": [FORD]}, "traits": ARTHUR}, ARTHUR),
        ({"context": {"traits": {}}, "traits": {}}, {}),
        ({"context": {}}, None),
        ({}, None),
    ],
)
def test_an_identify_shows_traits_from_either_place(seen, fields, shown):
    row = seen("identifies", **fields)
    assert (json.loads(row["traits"]) if row["traits"] else None) == shown
    assert (row["name"], row["email"]) == ((shown or {}).get("name"), (shown or {}).get("email"))


@pytest.mark.parametrize(
    ("traits", "name"),
    [
        ({"plan": "gold"}, "Ford Prefect"),
        ({"plan": "gold", "name": ""}, "Ford Prefect"),
        ({"name": None}, "Ford Prefect"),
        ({"name": ["Arthur"]}, "Ford Prefect"),
        ({"name": True}, "Ford Prefect"),
        ({"name": False}, "Ford Prefect"),
        ({"name": {"first": "Arthur"}}, "Ford Prefect"),
        ({"name": 42}, 42),
        ({"name": 'Arthur "Two Sheds" Dent \\'}, 'Arthur "Two Sheds" Dent \\'),
    ],
)
def test_an_identify_takes_each_trait_from_the_first_place_that_has_it(seen, traits, name):
    row = seen("identifies", traits=traits, context={"traits": FORD})
    assert (row["name"], row["email"]) == (name, "ford@example.com")
    assert json.loads(row["traits"]) == traits


def test_a_group_does_not_show_the_traits_of_its_user(seen):
    row = seen("groups", groupId="5678", context={"traits": FORD})
    assert (row["name"], row["traits"]) == (None, None)


@pytest.mark.parametrize("view", ["pages", "screens"])
@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"name": "Home"}, "Home"),
        ({"event": "Home"}, "Home"),
        ({"properties": {"name": "Home"}}, "Home"),
        ({"name": "Home", "event": "Viewed", "properties": {"name": "Other"}}, "Home"),
        ({"event": "Home", "properties": {"name": "Other"}}, "Home"),
        ({"name": "", "event": "Home"}, "Home"),
        ({"name": None, "event": "", "properties": {"name": "Home"}}, "Home"),
        ({"event": {"name": "Viewed"}, "properties": {"name": "Home"}}, "Home"),
        ({"event": ["Viewed"], "properties": {"name": "Home"}}, "Home"),
        ({"event": True, "properties": {"name": "Home"}}, "Home"),
        ({"event": False}, None),
        ({"event": "Home", "properties": []}, "Home"),
        ({"properties": {"name": {"first": "Home"}}}, None),
        ({}, None),
    ],
)
def test_a_page_and_a_screen_show_their_name_from_three_places(seen, view, fields, name):
    assert seen(view, **fields)["name"] == name


@pytest.mark.parametrize("field", ["url", "referrer"])
@pytest.mark.parametrize(
    ("properties", "page", "shown"),
    [
        ({"field": "here"}, None, "here"),
        ({}, {"field": "here"}, "here"),
        (None, {"field": "here"}, "here"),
        ({"field": "here"}, {"field": "there"}, "here"),
        ({"field": ""}, {"field": "here"}, "here"),
        ({"field": None}, {"field": "here"}, "here"),
        ({"field": ["there"]}, {"field": "here"}, "here"),
        ({"field": False}, {"field": "here"}, "here"),
        ({}, "here", None),
        ({}, ["here"], None),
        ({}, None, None),
    ],
)
def test_a_page_shows_url_and_referrer_from_two_places(seen, field, properties, page, shown):
    named = [{field: each["field"]} if isinstance(each, dict) and each else each for each in (properties, page)]
    row = seen("pages", properties=named[0], context={"page": named[1]})
    assert row[field] == shown
    assert row["referrer" if field == "url" else "url"] is None


WRONG = ["text", 7, True, None, [], ["text"], [{"name": "text"}], {}]


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
@pytest.mark.parametrize(("view", "type"), [("identifies", "identify"), ("pages", "page"), ("screens", "screen")])
def test_a_value_of_a_wrong_type_breaks_no_view(log, path, view, type, wrong):
    fields = ("traits", "context", "properties", "event")
    write(path, type, dict.fromkeys(fields, wrong))
    assert newest(path, view)["id"] == 1
    write(path, type, {"context": {"traits": wrong, "page": wrong}})
    row = newest(path, view)
    assert row["id"] == 2
    assert not {"name", "url", "email"} & {field for field, value in row.items() if value}


@pytest.mark.parametrize("text", ["\ufffd", "\x1b[0m", "'", '"', "\U0001f600", "[1]", '{"a": 1}', "null"])
def test_a_text_is_shown_as_it_is(seen, text):
    assert seen("screens", event=text)["name"] == text


def test_an_upgrade_keeps_the_columns_of_every_view(tmp_path, path, monkeypatch):
    old = str(tmp_path / "old.db")
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[: schema.MIGRATIONS.index("0007_views.sql")])
        eventlog.create(old)
    before, after = columns(old), columns(path)
    assert before == after
    eventlog.migrate(old)
    assert columns(old) == after


def columns(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'view'")]
        return {name: [each[0] for each in connection.execute(f"SELECT * FROM {name}").description] for name in names}
