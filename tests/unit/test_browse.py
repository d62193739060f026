"""deploy/datasette/guard.py limits what a person's SQL can read in a log."""

import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from factories import AT, event, stored_event
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventlog import DeadLetter
from eventlog.dead_letters import MAX_REFUSALS
from eventlog.destinations import STATES

PROJECT = Path(__file__).parents[2]
METADATA = (PROJECT / "deploy/datasette/metadata.yaml").read_text()
sys.path.insert(0, str(PROJECT / "deploy/datasette"))
import guard  # noqa: E402

SECRETS = {
    "a": ("KeyOne", "BodyOne", "https://UrlOne@host", "ErrorOne"),
    "b": ("lock2", "corpus2 is longer", "kafka://b/2", "2"),
}


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Two logs that differ only in their secrets, open like in `make browse`."""
    folder, opened = tmp_path_factory.mktemp("logs"), []
    for name, (key, body, url, error) in SECRETS.items():
        path = folder / f"{name}.db"
        with closing(sqlite3.connect(path)) as connection:
            for script in sorted((PROJECT / "eventlog/migrations").glob("*.sql")):
                connection.executescript(script.read_text())
            connection.execute("INSERT INTO sources VALUES (?, 'website', 1, ?)", (key, AT))
            columns = "source, received_at, route, code, message, errors, body, cut, digest"
            connection.execute(
                f"INSERT INTO rejected ({columns}) VALUES ('website', ?, 'track', 'invalid_json', ?, ?, ?, 0, ?)",
                (AT, body, f'["{body}"]', body.encode(), body),
            )
            connection.execute("UPDATE rejected_size SET bytes = 7")
            columns = "name, url, headers, types, sources, position, last_error, created_at"
            connection.execute(
                f"INSERT INTO destinations ({columns}) VALUES ('hook', ?, ?, '[]', '[]', 0, ?, ?)",
                (url, url, error, AT),
            )
            columns = "source, message_id, type, user_id, name, timestamp, received_at, payload, dedupe_key"
            connection.execute(
                f"INSERT INTO events ({columns}) VALUES ('website', 'm', 'track', '1', 'Posted', ?, ?, '{{}}', x'00')",
                (AT, AT),
            )
            connection.execute("INSERT INTO counts VALUES ('website', 'track', 'stored', '', 1, ?, ?)", (AT, AT))
            connection.execute("ANALYZE")
            connection.commit()
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        guard.prepare(connection)
        opened.append(connection)
    yield opened
    for connection in opened:
        connection.close()


def asked(connection, sql):
    """Return the rows or the error that a person's SQL gets."""
    try:
        guard.check(connection, sql)
        return connection.execute(sql).fetchall()
    except sqlite3.Error as error:
        return str(error)


def asked_by_page(connection, sql):
    """Return the rows or the error that SQL of the page itself gets."""
    if not guard.is_covered_by_authorizer(sql):
        return asked(connection, sql)
    try:
        return connection.execute(sql).fetchall()
    except sqlite3.Error as error:
        return str(error)


HOSTILE = [
    "SELECT url FROM destinations FULL JOIN (SELECT NULL AS url) USING (url)",
    "SELECT url FROM (SELECT NULL AS url) NATURAL FULL JOIN destinations",
    "SELECT id FROM main.sources FULL JOIN (SELECT NULL AS id) USING (id)",
    "SELECT CAST(body AS TEXT) FROM rejected FULL JOIN (SELECT NULL AS body) USING (body)",
    "WITH events AS (SELECT * FROM sources) SELECT * FROM events FULL JOIN (SELECT NULL AS id) USING (id)",
    "SELECT 1 FROM sources JOIN (SELECT 'KeyOne' AS id) USING (id)",
    "SELECT (SELECT id FROM sources FULL JOIN (SELECT NULL AS id) USING (id)) FROM events",
    "SELECT 1 FROM events LIMIT (SELECT count(*) FROM sources WHERE id LIKE 'Key%')",
    "SELECT max(id) OVER (ORDER BY id) FROM sources NATURAL FULL JOIN (SELECT NULL AS id)",
    "SELECT data FROM sqlite_dbpage FULL JOIN (SELECT NULL AS data) USING (data)",
    "SELECT * FROM dbstat",
    'SELECT * FROM "DbStat"',
    "SELECT * FROM sqlite_stmt",
    "SELECT * FROM sqlite_stat1",
    "SELECT 'x' IN (SELECT id FROM sources)",
    "SELECT id FROM source_keys",
    "SELECT id FROM source_keys FULL JOIN (SELECT NULL AS id) USING (id)",
    "SELECT digest FROM rejected",
    "ATTACH 'file:x?mode=ro' AS x",
    "CREATE TEMP VIEW v AS SELECT * FROM sources",
    "PRAGMA writable_schema = on",
    "PRAGMA integrity_check",
    "SELECT * FROM pragma_integrity_check",
    "SELECT 1; SELECT * FROM sources",
    "/* EXPLAIN */ SELECT * FROM sources",
    "-- EXPLAIN\nSELECT * FROM sources",
]


@pytest.mark.parametrize("sql", HOSTILE)
def test_a_person_gets_an_error_instead_of_secrets(logs, sql):
    answers = [asked(connection, sql) for connection in logs]
    assert answers[0] == answers[1]
    assert isinstance(answers[0], str)


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT name FROM events", [("Posted",)]),
        ("SELECT event FROM tracks", [("Posted",)]),
        ("SELECT outcome FROM counts WHERE outcome <> 'rejected'", [("stored",)]),
        ("SELECT value FROM events, json_each('[7]')", [(7,)]),
        ("SELECT a.id FROM events AS a JOIN events AS b USING (id) ORDER BY a.source", [(1,)]),
        ("WITH RECURSIVE n (i) AS (SELECT 1 UNION SELECT i + 1 FROM n WHERE i < 3) SELECT max(i) FROM n", [(3,)]),
        ("SELECT name FROM pragma_table_info('sources') WHERE pk", [("id",)]),
        ("SELECT count(*) FROM sqlite_master WHERE name = 'sources'", [(1,)]),
        ("SELECT 1 FROM events WHERE name = 'using sources'", []),
    ],
)
def test_a_person_can_query_data_without_secrets(logs, sql, rows):
    assert asked(logs[0], sql) == rows


def test_the_page_reads_null_instead_of_secrets(logs):
    assert asked_by_page(logs[0], "SELECT * FROM sources") == [(None, "website", 1, AT)]
    assert asked_by_page(logs[0], "SELECT url, last_error, name FROM destinations") == [(None, None, "hook")]
    assert asked_by_page(logs[0], "SELECT body, digest, message, code FROM rejected") == [
        (None, None, None, "invalid_json")
    ]


def test_every_column_is_visible_or_listed_as_secret(logs):
    """A column that is added later is secret until it is listed."""
    columns = {
        table: {name for _, name, *_ in logs[0].execute(f"PRAGMA table_info({table})")}
        for table in guard.VISIBLE_COLUMNS
    }
    assert {table: columns[table] - shown for table, shown in guard.VISIBLE_COLUMNS.items()} == {
        "sources": {"id"},
        "source_keys": {"id"},
        "rejected": {"message", "errors", "body", "digest"},
        "destinations": {"url", "headers", "last_error"},
    }
    assert all(shown <= columns[table] for table, shown in guard.VISIBLE_COLUMNS.items())


# Two logs that differ only in their secrets must answer random statements alike.

COLUMNS = {
    "sources": ("id", "name", "enabled"),
    "source_keys": ("id", "source", "retired_at"),
    "rejected": ("id", "source", "body", "digest", "message", "code"),
    "destinations": ("name", "url", "last_error", "position"),
    "events": ("id", "source", "name", "payload"),
    "tracks": ("id", "source", "event"),
    "counts": ("source", "code", "count"),
    "sqlite_master": ("name", "rootpage"),
}
LITERALS = ("NULL", "1", "'KeyOne'", "'lock2'", "'corpus2 is longer'", "'https://UrlOne@host'", "x'426F64794F6E65'")
FUNCTIONS = ("hex", "length", "typeof", "max", "count", "group_concat", "json_group_array", "quote", "upper")
JOINS = ("FULL JOIN", "FULL JOIN", "LEFT JOIN", "RIGHT JOIN", "JOIN", "CROSS JOIN")


@st.composite
def expressions(draw, columns, depth=2):
    kind = draw(st.integers(0, 9)) if depth else 0
    if kind < 4:
        return draw(st.sampled_from((*columns, *columns, *LITERALS)))
    one, other = draw(expressions(columns, depth - 1)), draw(expressions(columns, depth - 1))
    if kind == 4:
        return f"{draw(st.sampled_from(FUNCTIONS))}({one})"
    if kind == 5:
        return f"{one} {draw(st.sampled_from(('=', '<', '||', 'LIKE', 'IS', 'GLOB', 'AND')))} {other}"
    if kind == 6:
        return f"CASE WHEN {one} THEN {other} ELSE json_extract('{{}}', {one}) END"
    if kind == 7:
        return f"count(*) OVER (ORDER BY {one})"
    query, _ = draw(queries(depth - 1, width=1))
    return f"({query})" if kind == 8 else f"{one} IN ({query})"


@st.composite
def tables(draw, depth, wanted=()):
    """Return a table to select from and its columns. A subquery has the `wanted` ones."""
    kind = draw(st.integers(0, 5))
    if kind == 0 and depth:
        query, columns = draw(queries(depth - 1))
        return f"({query})", columns
    if kind < 3 and wanted:
        values = draw(st.lists(st.sampled_from(LITERALS), min_size=len(wanted), max_size=len(wanted)))
        return f"(SELECT {', '.join(f'{value} AS {name}' for value, name in zip(values, wanted, strict=True))})", wanted
    name = draw(st.sampled_from((*COLUMNS, "sources", "source_keys", "rejected", "destinations")))
    return draw(st.sampled_from((name, f"main.{name}", f'"{name}"', f"(SELECT * FROM {name})"))), COLUMNS[name]


@st.composite
def queries(draw, depth=2, width=2):
    table, columns = draw(tables(depth))
    sql = table
    for _ in range(draw(st.integers(0, 2))):
        wanted = tuple(draw(st.lists(st.sampled_from(columns), min_size=1, max_size=2, unique=True)))
        table, others = draw(tables(depth, wanted))
        common = [each for each in wanted if each in others]
        join, using = draw(st.sampled_from(JOINS)), f" USING ({', '.join(common)})"
        sql += f" NATURAL {join} {table}" if draw(st.booleans()) else f" {join} {table}{using if common else ''}"
        columns = tuple(dict.fromkeys((*columns, *others)))
    shown = draw(st.lists(expressions(columns, depth), min_size=1, max_size=width))
    names = tuple(("id", "name", "url", "body")[: len(shown)])
    sql = f"SELECT {', '.join(f'{each} AS {name}' for each, name in zip(shown, names, strict=True))} FROM {sql}"
    for clause in ("WHERE", "GROUP BY", "ORDER BY", "LIMIT"):
        if draw(st.integers(0, 3)) == 0:
            sql += f" {clause} {draw(expressions(() if clause == 'LIMIT' else columns, depth))}"
    if depth == 2 and draw(st.booleans()):
        name = draw(st.sampled_from(("t", "events", "tracks")))
        return f"WITH {name} AS ({sql}) SELECT * FROM {name}", names
    return sql, names


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(queries())
@pytest.mark.parametrize("ask", [asked, asked_by_page])
def test_no_answer_depends_on_a_secret(logs, ask, query):
    one, other = (ask(connection, query[0]) for connection in logs)
    assert one == other


def test_the_page_shows_each_state_of_a_destination(log, path):
    for name in ("delivered", "failing", "forgotten", "new", "paused", "refusing"):
        log.destinations.add(name, "webhook+http://nowhere", [], [], 0)
    log.append([event(n) for n in range(1, MAX_REFUSALS + 1)])
    id_of = {each.name: each.id for each in log.destinations.all()}
    for name in ("delivered", "failing", "forgotten", "paused"):
        log.destinations.note_failure(id_of[name], "no answer")
    log.destinations.advance(id_of["delivered"], 1, 1)
    log.destinations.forget_failures(id_of["forgotten"])
    log.destinations.pause("paused", True)
    refused = [DeadLetter(stored_event(n), "400", "no", 1, AT) for n in range(1, MAX_REFUSALS + 1)]
    assert log.destinations.advance(id_of["refusing"], MAX_REFUSALS, 0, refused)
    sql = re.search(r"&destinations \|-\n(.*?)\n {6}\w", METADATA, re.DOTALL)[1]
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        guard.prepare(connection)
        shown = {name: state for name, state, *_ in connection.execute(sql)}
    assert shown == {each.name: each.state for each in log.destinations.all()}
    assert set(shown.values()) == set(STATES)


@pytest.mark.parametrize(
    ("sql", "is_covered"),
    [
        ("SELECT 'refusing', signatural FROM events", True),
        ("SELECT * FROM a JOIN b USING (id)", False),
        ("SELECT * FROM a JOIN b\nusing(id)", False),
        ('SELECT * FROM "a"natural JOIN b', False),
    ],
)
def test_a_word_with_using_in_it_is_no_join(sql, is_covered):
    assert guard.is_covered_by_authorizer(sql) == is_covered
