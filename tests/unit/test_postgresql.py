"""PostgreSQL gets each event once, and whatever is wrong with the server is retried with the reason."""

import configparser
import itertools
import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import quote

import pytest
from factories import AT, event, stored_event
from postgres import PASSWORD, USER, Cluster
from psycopg import sql
from service import wait_until

import forwarding
from eventlog import NotPossible
from forwarding import DeliveryRejected, Forwarder, Outcome, RetryLater, open_deliverer, redact_url

PROJECT = Path(__file__).parents[2]
FFFD = "\ufffd"
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def cluster():
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def schema(cluster):
    """Return the name of a new schema with the tables."""
    name = f"events{next(NUMBERS)}"
    with closing(open_deliverer(f"{cluster.url}?schema={name}")) as kind:
        kind.create()
    return name


@pytest.fixture
def url(cluster, schema):
    return f"{cluster.url}?schema={schema}"


@pytest.fixture
def kind(url):
    with closing(open_deliverer(url)) as kind:
        yield kind


@pytest.fixture
def rows(cluster, schema):
    """Return a function that runs a statement in the schema, and returns its rows."""
    return lambda query, *values: cluster.query(
        query, *values, options=f"-c search_path={schema} -c default_transaction_read_only=off"
    )


def message_ids(rows):
    return [message_id for (message_id,) in rows("SELECT message_id FROM events ORDER BY id")]


# What is stored


def test_a_row_has_the_columns_of_the_log_and_exact_times(kind, rows):
    payload = {"messageId": "1", "timestamp": AT, "properties": {"size": 1.5}}
    stored = stored_event(1, anonymous_id="a", payload=json.dumps(payload))
    assert kind.deliver([stored]) == Outcome()
    columns = "source, message_id, type, user_id, anonymous_id, name, timestamp, received_at, payload, payload_text"
    at = datetime(2015, 11, 10, 0, 45, 23, 412_000, UTC)
    assert rows(f"SELECT {columns} FROM events") == [
        ("example", "1", "track", "1", "a", "Added File", at, at, payload, None)
    ]
    assert rows("SELECT message_id FROM events WHERE message_hash = sha256(convert_to(message_id, 'UTF8'))")


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00.001Z", "1969-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"])
def test_a_time_is_unchanged(kind, rows, at):
    kind.deliver([stored_event(1, timestamp=at)])
    shown = """to_char(timestamp AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""
    assert rows(f"SELECT {shown} FROM events") == [(at,)]


def test_a_repeat_changes_nothing(kind, url, rows):
    """In the same batch, in a later one, and from another collector, where the event has another id."""
    kind.deliver([stored_event(1), stored_event(2), stored_event(1, payload="{}")])
    kind.deliver([stored_event(2, payload="{}"), stored_event(3)])
    with closing(open_deliverer(url)) as other:
        other.deliver([stored_event(3, payload="{}")._replace(id=9), stored_event(4)])
    assert message_ids(rows) == ["1", "2", "3", "4"]
    assert rows("SELECT count(*) FROM events WHERE payload = '{}'") == [(0,)]


def test_two_sources_may_use_one_message_id(kind, rows):
    kind.deliver([stored_event(1), stored_event(1, source="website")._replace(id=2)])
    assert message_ids(rows) == ["1", "1"]


def test_ids_follow_the_order_of_the_log(kind, rows):
    kind.deliver([stored_event(n) for n in range(1, 101)])
    kind.deliver([stored_event(n) for n in range(101, 201)])
    assert message_ids(rows) == [str(n) for n in range(1, 201)]


@pytest.mark.parametrize(
    ("payload", "stored"),
    [
        (r'{"a":"x\u0000y"}', {"a": f"x{FFFD}y"}),
        (r'{"a":"\u0000\u0000"}', {"a": FFFD * 2}),
        (r'{"k\u0000":{"n":["\u0000"]}}', {f"k{FFFD}": {"n": [FFFD]}}),
        (r'{"a":"\\\u0000"}', {"a": f"\\{FFFD}"}),
        (r'{"a":"\\\\\u0000\\u0000"}', {"a": f"\\\\{FFFD}\\u0000"}),
    ],
)
def test_a_nul_in_a_payload_is_replaced_and_the_text_kept(kind, rows, payload, stored):
    kind.deliver([stored_event(1, payload=payload)])
    assert rows("SELECT payload, payload_text FROM events") == [(stored, payload)]


@pytest.mark.parametrize("payload", [r'{"a":"\\u0000"}', r'{"a":"\\\\u0000"}', '{"a":"\ufffd\u2028\U0001f600"}'])
def test_a_payload_without_a_nul_has_no_second_copy(kind, rows, payload):
    kind.deliver([stored_event(1, payload=payload)])
    assert rows("SELECT payload, payload_text FROM events") == [(json.loads(payload), None)]


def test_a_nul_in_another_column_is_replaced(kind, rows):
    kind.deliver([stored_event(1, name="a\0b", user_id="\0", anonymous_id="c\0")])
    assert rows("SELECT name, user_id, anonymous_id FROM events") == [(f"a{FFFD}b", FFFD, f"c{FFFD}")]


@pytest.mark.parametrize("text", ["x" * 100_000, "\U0001f600" * 25_000, "'\t\n\\N\\.\r"])
def test_ids_of_any_length_and_characters_are_stored(kind, rows, text):
    kind.deliver([stored_event(1)._replace(user_id=text, anonymous_id=text, message_id=text, name=text)])
    assert rows("SELECT user_id, anonymous_id, message_id, name FROM events") == [(text,) * 4]
    assert rows("SELECT 1 FROM events WHERE left(user_id, 255) = left(%s, 255) AND user_id = %s", text, text)


@pytest.mark.parametrize(
    "number", ["9" * 4300, "-" + "1" * 4300, "1e308", "5e-324", "0.1", "12345678901234567890.12345"]
)
def test_a_number_keeps_its_value(kind, rows, number):
    kind.deliver([stored_event(1, payload=f'{{"n":{number}}}')])
    assert rows("SELECT (payload ->> 'n')::numeric = %s::numeric FROM events", number) == [(True,)]


def test_the_deepest_nesting_is_stored(kind, rows):
    kind.deliver([stored_event(1, payload='{"a":' + "[" * 199 + "]" * 199 + "}")])
    assert message_ids(rows) == ["1"]


def test_a_number_beyond_numeric_makes_only_its_event_a_dead_letter(log, url, rows):
    log.append([event(n, payload='{"n":1e-20000}' if n == 5 else "{}") for n in range(1, 21)])
    log.destinations.add("tables", url, (), (), 0)
    assert Forwarder(log, "tables", stop=threading.Event(), once=True).run()
    assert message_ids(rows) == [str(n) for n in range(1, 21) if n != 5]
    ((letter,), code) = log.destinations.dead_letters("tables"), "22003"
    assert (letter.event.message_id, letter.code) == ("5", code)


def test_a_constraint_of_the_operator_rejects_only_its_event(kind, rows):
    rows("ALTER TABLE events ADD CHECK (user_id <> 'robot')")
    with pytest.raises(DeliveryRejected, match="violates check constraint"):
        kind.deliver([stored_event(1), stored_event(2, user_id="robot")])
    kind.deliver([stored_event(1)])
    assert message_ids(rows) == ["1"]


# Views

PAYLOADS = [
    ("identify", {"traits": {"name": "Ada", "email": "a@example.com", "age": 36}}),
    ("identify", {"context": {"traits": {"name": "Bob", "email": 7}}}),
    ("identify", {"traits": {}, "context": {"traits": {"name": "Cleo"}}}),
    ("identify", {"traits": {"name": "", "email": {"x": 1}}, "context": {"traits": {"name": "Dan"}}}),
    ("identify", {"traits": [], "context": {"traits": {"name": "Eve"}}}),
    ("identify", {"traits": [1], "context": {"traits": {}}}),
    ("identify", {"traits": {"name": True, "email": False}, "context": {"traits": {"name": "Fay", "email": True}}}),
    ("identify", {"traits": None}),
    ("identify", {}),
    ("track", {"event": "Added File", "properties": {"fileType": "PDF", "n": [1, 2.5, None]}}),
    ("track", {"event": "Added File"}),
    ("page", {"section": "docs", "name": "Home", "properties": {"url": "https://a/", "referrer": ""}}),
    ("page", {"category": "docs", "context": {"page": {"url": "https://b/", "referrer": "https://c/"}}}),
    ("page", {"event": "Viewed", "properties": {"name": "later", "url": None}}),
    ("page", {"name": "", "properties": {"name": "P"}}),
    ("screen", {"section": "s", "name": "Main", "properties": {"a": {"b": "c"}}}),
    ("page", {"name": True, "properties": {"name": "P", "url": False}, "context": {"page": {"url": "https://d/"}}}),
    ("screen", {"properties": {"name": "P"}}),
    ("screen", {"name": False, "properties": {"name": True}}),
    ("group", {"groupId": "g1", "traits": {"name": "Initech", "plan": "x"}}),
    ("group", {"groupId": 12}),
    ("alias", {"previousId": "old", "userId": "1"}),
]


def loaded(value):
    """Return the value of a cell, whether it was JSON or not, and numbers as text, which PostgreSQL makes of them."""
    if isinstance(value, str) and value.startswith(("{", "[")):
        value = json.loads(value)
    return str(value) if isinstance(value, int) else value


@pytest.mark.parametrize("view", ["identifies", "tracks", "pages", "screens", "groups", "aliases"])
def test_a_view_shows_the_same_as_that_of_the_log(log, url, rows, query, view):
    log.append([event(n, type=type, payload=json.dumps(body)) for n, (type, body) in enumerate(PAYLOADS, 1)])
    log.destinations.add("tables", url, (), (), 0)
    assert Forwarder(log, "tables", stop=threading.Event(), once=True).run()
    columns = [name for (_, name, *_) in query(f"PRAGMA table_info({view})") if name not in ("id", "timestamp")]
    select = f"SELECT {', '.join(columns)} FROM {view} ORDER BY id"
    in_log = [tuple(map(loaded, row)) for row in query(select)]
    assert in_log
    assert [tuple(map(loaded, row)) for row in rows(select)] == in_log


def test_users_have_the_latest_value_of_each_trait(kind, rows):
    """Latest by when it happened, and not by when it arrived."""
    identifies = [
        ("1", "2015-11-10T00:00:02.000Z", {"name": "Ada L.", "email": None}),
        ("1", "2015-11-10T00:00:01.000Z", {"name": "Ada", "plan": "free", "email": "a@example.com"}),
        ("1", "2015-11-10T00:00:02.000Z", {"plan": "pro"}),
        ("2", "2015-11-10T00:00:00.000Z", {}),
        (None, "2015-11-10T00:00:00.000Z", {"name": "nobody"}),
    ]
    kind.deliver(
        stored_event(n, type="identify", user_id=user, timestamp=at, payload=json.dumps({"traits": traits}))
        for n, (user, at, traits) in enumerate(identifies, 1)
    )
    first, last = (datetime(2015, 11, 10, 0, 0, second, tzinfo=UTC) for second in (1, 2))
    assert rows("SELECT * FROM users WHERE user_id = '1'") == [
        ("1", "Ada L.", None, {"name": "Ada L.", "plan": "pro", "email": None}, first, last)
    ]
    assert rows("SELECT user_id, name, traits FROM users WHERE user_id <> '1'") == [("2", None, {})]


# Tables


def test_the_scripts_are_installed_with_the_package():
    setup = configparser.ConfigParser()
    setup.read(PROJECT / "setup.cfg")
    patterns = setup["options.package_data"]["forwarding"].split()
    others = [path.name for path in (PROJECT / "forwarding").iterdir() if path.suffix not in (".py", ".pyc", "")]
    assert "postgresql_1.sql" in others
    assert all(any(fnmatch(name, pattern) for pattern in patterns) for name in others)


def test_tables_are_created_by_two_at_once(cluster):
    kinds = [open_deliverer(f"{cluster.url}?schema=at_once") for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(kind.create) for kind in kinds]:
            done.result(30)
    for kind in kinds:
        kind.close()
    assert cluster.query("SELECT version FROM at_once.tracklog_versions") == [(1,)]


def test_a_schema_may_have_any_name(cluster):
    name = """a "b" 'c'; DROP TABLE x \\ $user %s {}"""
    with closing(open_deliverer(f"{cluster.url}?schema={quote(name)}")) as kind:
        kind.create()
        kind.deliver([stored_event(1)])
    table = sql.SQL("SELECT message_id FROM {}.events").format(sql.Identifier(name))
    assert cluster.query(table) == [("1",)]
    cluster.query(forwarding.write_deletion(f"{cluster.url}?schema={quote(name)}", ["1"]))
    assert cluster.query(table) == []


def test_tables_of_a_later_version_fit_and_stay(kind, rows):
    rows("INSERT INTO tracklog_versions VALUES (2, now())")
    rows("ALTER TABLE events ADD COLUMN added text DEFAULT 'x'")
    kind.create()
    kind.deliver([stored_event(1)])
    assert rows("SELECT added FROM events") == [("x",)]


def test_tables_of_an_earlier_version_are_migrated_by_adding(kind, rows, tmp_path, monkeypatch):
    script = tmp_path / "postgresql_2.sql"
    script.write_text("ALTER TABLE events ADD COLUMN added text")
    kind.deliver([stored_event(1)])
    monkeypatch.setattr("forwarding.postgresql_tables.MIGRATIONS", [None, script])
    with pytest.raises(RetryLater, match=r"version 1 of the tables .* 2 is needed"):
        kind.deliver([stored_event(2)])
    kind.create()
    kind.deliver([stored_event(2)])
    assert rows("SELECT message_id, added FROM events ORDER BY id") == [("1", None), ("2", None)]


def test_tables_of_others_are_not_touched(cluster):
    cluster.query("CREATE SCHEMA taken; CREATE TABLE taken.events (a int); INSERT INTO taken.events VALUES (1)")
    with closing(open_deliverer(f"{cluster.url}?schema=taken")) as kind, pytest.raises(RetryLater, match="exists"):
        kind.create()
    assert cluster.query("SELECT * FROM taken.events") == [(1,)]
    assert cluster.query("SELECT to_regclass('taken.tracklog_versions')") == [(None,)]


def test_a_role_needs_only_the_documented_rights(cluster, schema, rows):
    role = "writer"
    cluster.query(f"DROP ROLE IF EXISTS {role}")
    documented = (PROJECT / "docs" / "forward.md").read_text()
    grants = "CREATE ROLE" + documented.partition("```sql\nCREATE ROLE")[2].partition("```")[0]
    for old, new in {"'...'": f"'{PASSWORD}'", "analytics": "postgres", "collector": role, "events.": ""}.items():
        assert old in grants
        grants = grants.replace(old, new)
    rows(grants.replace("SCHEMA events", f"SCHEMA {schema}"))
    address = f"postgresql://{role}:{PASSWORD}@{cluster.address}/postgres?schema={schema}"
    with closing(open_deliverer(address)) as kind:
        kind.create()
        kind.deliver([stored_event(1), stored_event(1)])
    assert message_ids(rows) == ["1"]
    rows(f"DROP OWNED BY {role}")
    cluster.query(f"DROP ROLE {role}")


# Trouble


def fails_once(kind, reason):
    with pytest.raises(RetryLater, match=reason) as failure:
        kind.deliver([stored_event(1)])
    assert "\n" not in str(failure.value)
    assert PASSWORD not in str(failure.value)


@pytest.mark.parametrize(
    ("change", "repair", "reason"),
    [
        ("ROLE tester SET default_transaction_read_only = on", "ROLE tester RESET ALL", "read-only"),
        ("TABLE events RENAME TO gone", "TABLE gone RENAME TO events", 'relation "events" does not exist'),
        ("TABLE tracklog_versions RENAME TO gone", "TABLE gone RENAME TO tracklog_versions", "--create"),
        ("TABLE events RENAME name TO gone", "TABLE events RENAME gone TO name", 'column "name"'),
        ("SEQUENCE events_id_seq RESTART", "SEQUENCE events_id_seq RESTART 9", "events_pkey"),
        ("SEQUENCE events_id_seq MAXVALUE 2 START 2 RESTART 2", "SEQUENCE events_id_seq NO MAXVALUE", "maximum"),
    ],
)
def test_trouble_of_the_server_is_retried_with_its_reason(kind, rows, change, repair, reason):
    kind.deliver([stored_event(0)])
    rows(f"ALTER {change}")
    if "MAXVALUE" in change:
        rows("SELECT nextval('events_id_seq')")
    kind.close()  # a new connection has the new settings
    try:
        fails_once(kind, reason)
    finally:
        rows(f"ALTER {repair}")
    kind.deliver([stored_event(1)])
    assert message_ids(rows) == ["0", "1"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("@127.0.0.1:{port}", "@127.0.0.1:9"), "Connection refused"),
        ((PASSWORD, "wrong-4711"), "password authentication failed"),
        (("/postgres?", "/nowhere?"), 'database "nowhere" does not exist'),
        (("schema=", "schema=no%20%22"), "version 0 of the tables.*--create"),
        (("?schema", "?sslmode=require&schema"), "does not support SSL"),
        (("?schema", "?sslmode=perhaps&schema"), "sslmode"),
        (("?schema", "?connect_timeout=soon&schema"), "connect_timeout"),
        (("?schema", "?target_session_attrs=standby&schema"), "standby"),
    ],
)
def test_a_place_that_does_not_fit_is_retried_with_its_reason(cluster, url, change, reason):
    old, new = (part.format(port=cluster.port) for part in change)
    assert old in url
    with closing(open_deliverer(url.replace(old, new, 1))) as kind:
        fails_once(kind, reason)
        fails_once(kind, reason)


def test_another_encoding_is_refused_before_an_event_is_lost(cluster):
    cluster.query("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    with closing(open_deliverer(cluster.url.replace("/postgres", "/latin"))) as kind:
        kind.create()
        fails_once(kind, "encoding LATIN1; it must be UTF8")


def test_a_lost_connection_is_opened_again(kind, rows):
    kind.deliver([stored_event(1)])
    rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tracklog'")
    with pytest.raises(RetryLater):
        kind.deliver([stored_event(2)])
    kind.deliver([stored_event(2)])
    assert message_ids(rows) == ["1", "2"]


@contextmanager
def locked(cluster, schema):
    """Hold a lock for which an insert waits."""
    with cluster.connect() as connection, connection.transaction():
        connection.execute(sql.SQL("LOCK TABLE {}.events").format(sql.Identifier(schema)))
        yield


def test_a_statement_that_waits_too_long_is_canceled(cluster, schema, kind, rows, monkeypatch):
    monkeypatch.setattr("forwarding.postgresql.STATEMENT_SECONDS", 0.2)
    with locked(cluster, schema):
        fails_once(kind, "statement timeout")
    monkeypatch.undo()
    kind.deliver([stored_event(1)])
    assert message_ids(rows) == ["1"]


def test_a_server_that_is_stopped_is_given_up(cluster, kind, rows, monkeypatch):
    kind.deliver([stored_event(1)])
    ((pid,),) = rows("SELECT pid FROM pg_stat_activity WHERE application_name = 'tracklog'")
    monkeypatch.setattr("forwarding.postgresql.TRANSACTION_SECONDS", 0.2)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(RetryLater):
            kind.deliver([stored_event(2)])
    finally:
        os.kill(pid, signal.SIGCONT)
    monkeypatch.undo()
    kind.deliver([stored_event(2)])
    assert message_ids(rows) == ["1", "2"]


def test_abort_ends_a_delivery_that_waits(cluster, schema, kind):
    with locked(cluster, schema), ThreadPoolExecutor(1) as threads:
        delivery = threads.submit(kind.deliver, [stored_event(1)])
        waiting = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'tracklog' AND wait_event_type = 'Lock'"
        wait_until(lambda: cluster.query(waiting))
        assert kind.abort() is True
        assert isinstance(delivery.exception(30), RetryLater)


def test_abort_before_the_connection_sends_nothing(kind, rows):
    kind.abort()
    with pytest.raises(RetryLater):
        kind.deliver([stored_event(1)])
    assert message_ids(rows) == []


def test_collectors_that_insert_the_same_events_form_no_deadlock(url, rows):
    batches = [[stored_event(n) for n in order] for order in (range(3000), range(2999, -1, -1))] * 2
    kinds = [open_deliverer(url) for _ in batches]
    with ThreadPoolExecutor(len(kinds)) as threads:
        for done in [threads.submit(kind.deliver, batch) for kind, batch in zip(kinds, batches, strict=True)]:
            assert done.result(60) == Outcome()
    for kind in kinds:
        kind.close()
    assert sorted(map(int, message_ids(rows))) == list(range(3000))


def test_a_commit_waits_for_the_disk_whatever_the_default_is(kind, rows):
    rows("ALTER ROLE tester SET synchronous_commit = off")
    try:
        rows("CREATE TABLE noted (value text)")
        rows(
            "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN INSERT INTO noted VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$"
        )
        rows("CREATE TRIGGER note AFTER INSERT ON events EXECUTE FUNCTION note()")
        kind.deliver([stored_event(1)])
    finally:
        rows("ALTER ROLE tester RESET synchronous_commit")
    assert rows("SELECT value FROM noted") == [("on",)]


# URLs


@pytest.mark.parametrize(
    ("end", "sentence"),
    [
        ("db?schema=", None),
        ("db?schema=" + "x" * 64, "at most 63 bytes"),
        ("db?schema=a%00b", "schema must be"),
        ("db?no_such_option=1", "no_such_option"),
    ],
)
def test_an_invalid_url_is_rejected_with_a_reason(end, sentence):
    if sentence is None:
        open_deliverer(f"postgresql://127.0.0.1:9/{end}").close()  # a blank option is none
        return
    with pytest.raises(NotPossible, match=sentence):
        open_deliverer(f"postgresql://127.0.0.1:9/{end}")


def test_libpq_reads_its_variables(cluster, rows, schema, monkeypatch):
    variables = {"PGHOST": "127.0.0.1", "PGPORT": cluster.port, "PGUSER": USER, "PGPASSWORD": PASSWORD}
    for name, value in {**variables, "PGDATABASE": "postgres", "PGCLIENTENCODING": "latin1"}.items():
        monkeypatch.setenv(name, str(value))
    with closing(open_deliverer(f"postgresql://?schema={schema}")) as kind:
        kind.deliver([stored_event(1, user_id="\U0001f600")])
    assert message_ids(rows) == ["1"]


@pytest.mark.parametrize(
    "end",
    ["user:${TRACKLOG_SECRET_WORD}@{at}/postgres?schema=s", "{at}/postgres?user=user&password=${TRACKLOG_SECRET_WORD}"],
)
def test_a_password_may_have_any_character_and_is_never_shown(cluster, monkeypatch, end):
    password = "a:b@c/d?e#f%41 '\\"
    cluster.query(sql.SQL('DROP ROLE IF EXISTS "user"; CREATE ROLE "user" LOGIN PASSWORD {}').format(password))
    monkeypatch.setenv("TRACKLOG_SECRET_WORD", password)
    url = "postgresql://" + end.replace("{at}", cluster.address)
    with closing(open_deliverer(url)) as kind:
        fails_once(kind, "version 0 of the tables")
    assert "WORD" not in redact_url(url).replace("password=${TRACKLOG_SECRET_WORD}", "")


def test_only_harmless_options_are_shown():
    assert redact_url("postgresql://me:hush@h/db?schema=s&sslmode=verify-full&password=hush&options=x") == (
        "postgresql://***@h/db?schema=s&sslmode=verify-full&***"
    )


# Commands


@pytest.mark.parametrize("command", ["add tables", "set there"])
def test_a_command_creates_the_tables(cluster, log, run, command):
    log.destinations.add("there", cluster.url, (), (), 0)
    schema = f"made_by_{command[:3]}"
    run("destinations", *command.split(), f"{cluster.url}?schema={schema}", "--create")
    assert cluster.query(f"SELECT count(*) FROM {schema}.users") == [(0,)]
    assert run("destinations", "test", command.split()[1])
    assert cluster.query(f"SELECT user_id, source FROM {schema}.events") == [("tracklog", "example")]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://user:hush-4711@127.0.0.1:9/db", "Connection refused"),
        ("postgresql://user:${TRACKLOG_SECRET_NONE}@127.0.0.1:9/db", "TRACKLOG_SECRET_NONE"),
        ("webhook+http://127.0.0.1:9", "has no tables"),
        ("kafka://127.0.0.1:9/topic", "has no tables"),
    ],
)
def test_a_destination_whose_tables_cannot_be_created_is_not_added(log, run, url, reason):
    said = run("destinations", "add", "new", url, "--create", exit_code=1)
    assert reason in said
    assert PASSWORD not in said
    assert log.destinations.all() == []


IDS = ["1234", "o'hara", "a\\b'", "\U0001f600\u202e\n;\x1b", ':name %s $1 "x"', "x" * 300]


@pytest.mark.parametrize("id", IDS)
def test_forget_prints_a_statement_that_deletes_the_person_there(cluster, log, run, url, rows, id):
    """The ids may have any characters, and the statement only printable ones."""
    log.append(
        [
            event("user", user_id=id, anonymous_id="device"),
            event("device", user_id=None, anonymous_id="device"),
            event("alias", type="alias", user_id=id, payload=json.dumps({"previousId": "before"})),
            event("other", user_id="other", anonymous_id="theirs"),
        ]
    )
    log.destinations.add("tables", url, (), (), 0)
    assert Forwarder(log, "tables", stop=threading.Event(), once=True).run()
    rows(
        "INSERT INTO events (source, message_id, message_hash, type, user_id, timestamp, received_at, payload)"
        " VALUES ('example', 'earlier', '', 'alias', 'later', now(), now(), %s)",
        json.dumps({"previousId": id}),
    )
    said = run("events", "forget", id, "--yes")
    assert PASSWORD not in said
    (statement,) = [line for line in said.splitlines() if line.strip().startswith("DELETE")]
    assert statement.isprintable()
    cluster.query(statement)
    assert message_ids(rows) == ["other"]


def test_forget_prints_the_statement_for_one_whose_events_were_pruned(cluster, log, run, url, rows):
    log.destinations.add("tables", url, (), (), 0)
    with closing(open_deliverer(url)) as kind:
        kind.deliver([stored_event(1, user_id="gone"), stored_event(2)])
    said = run("events", "forget", "gone", "--yes", exit_code=1)
    cluster.query(next(line for line in said.splitlines() if "DELETE" in line))
    assert message_ids(rows) == ["2"]


def test_a_package_that_cannot_be_imported_is_named(monkeypatch):
    """As psycopg without its binary, on a machine without libpq."""

    def fail(name):
        raise ImportError("no pq wrapper available")

    monkeypatch.setattr("forwarding.urls.import_module", fail)
    with pytest.raises(NotPossible, match=r"pip install '.\[postgresql\]'.*no pq wrapper"):
        open_deliverer("postgresql://host/db")
