"""Requests carry the operator's headers, whose secrets are filled in by the forwarder and shown nowhere."""

import json
import threading
from base64 import b64encode
from contextlib import closing

import apsw
import pytest
from factories import AT, event
from receiver import answer, receiving
from service import wait_until

import eventlog
import forwarding
from config import VERSION
from eventlog import schema
from forwarding.secrets import make_redactor

SECRET = "hush-4711"
TOKEN = "Authorization: Bearer ${TRACKLOG_SECRET_TOKEN}"
HOOK = "webhook+https://host/in"


@pytest.fixture(autouse=True)
def one_attempt(monkeypatch):
    monkeypatch.setattr("forwarding.attempts.Attempts.wait", lambda *_: None)


@pytest.fixture
def requests():
    """Yield an address, and the list of heads of the requests that it has received."""
    heads = []

    def serve(connection, request):
        heads.append(request.partition(b"\r\n\r\n")[0].decode().split("\r\n"))
        connection.sendall(answer(200, b'{"success": true}'))

    with receiving(serve) as port:
        yield f"127.0.0.1:{port}", heads


@pytest.fixture
def add(run):
    """Return a function that adds the destination `there` with headers, and returns the output."""

    def add(url, *headers, **options):
        return run("destinations", "add", "there", url, *(f"--header={each}" for each in headers), **options)

    return add


def forward(log):
    return forwarding.forward(log.path, ["there"], stop=threading.Event(), once=True)


# Sending


@pytest.mark.parametrize("start", ["http://KEY@", "webhook+http://", "webhook+http://SECRET@"])
def test_a_request_carries_the_headers(log, add, requests, monkeypatch, start):
    address, heads = requests
    monkeypatch.setenv("TRACKLOG_SECRET_TOKEN", SECRET)
    log.append([event()])
    add(f"{start}{address}/in", "X-Token:Bearer ${TRACKLOG_SECRET_TOKEN}!", "x-tenant: \t a:b, c \t")
    assert forward(log) is True
    (head,) = heads
    assert {f"X-Token: Bearer {SECRET}!", "x-tenant: a:b, c", f"User-Agent: tracklog/{VERSION}"} < set(head)
    names = [line.partition(":")[0].lower() for line in head[1:]]
    assert len(names) == len(set(names))
    assert "Content-Type: application/json" in head


def test_a_webhook_may_have_a_token_next_to_its_secret(log, add, requests, monkeypatch):
    address, heads = requests
    monkeypatch.setenv("TRACKLOG_SECRET_TOKEN", SECRET)
    log.append([event()])
    add(f"webhook+http://KEY@{address}/in", TOKEN)
    assert forward(log) is True
    assert f"Authorization: Bearer {SECRET}" in heads[0]


def test_headers_are_stored_without_secrets_and_listed_by_name(log, run, add, monkeypatch, query):
    monkeypatch.setenv("TRACKLOG_SECRET_TOKEN", SECRET)
    add(HOOK, TOKEN, f"X-Literal: {SECRET}-literal")
    assert json.loads(query("SELECT headers FROM destinations")[0][0]) == {
        "Authorization": "Bearer ${TRACKLOG_SECRET_TOKEN}",
        "X-Literal": f"{SECRET}-literal",
    }
    listed = run("destinations", "list")
    assert "  headers      Authorization, X-Literal\n" in listed
    assert SECRET not in listed


# Refusing

WRONG = {
    "no colon": f"Authorization {SECRET}",
    "an empty name": f": {SECRET}",
    "a blank name": f" : {SECRET}",
    "a space before the name": f" X-Key: {SECRET}",
    "a space before the colon": f"X-Key : {SECRET}",
    "a line in the name": f"X\r\nHost: {SECRET}",
    "a variable in the name": "${TRACKLOG_SECRET_TOKEN}: x",
    "a name that is not ASCII": f"X-Clé: {SECRET}",
    "no value": "X-Key:",
    "a blank value": "X-Key: \t",
    "CR": f"X-Key: {SECRET}\rX: y",
    "LF": f"X-Key: {SECRET}\nX: y",
    "CRLF": f"X-Key: {SECRET}\r\nX: y",
    "LF at the end": f"X-Key: {SECRET}\n",
    "CRLF at the start": f"X-Key:\r\n {SECRET}",
    "NUL": f"X-Key: {SECRET}\0",
    "an escape": f"X-Key: {SECRET}\x1b[31m",
    "DEL": f"X-Key: {SECRET}\x7f",
    "Latin-1": f"X-Key: {SECRET}é",
    "a line separator": f"X-Key: {SECRET}\u2028X",
    "Host": f"Host: {SECRET}",
    "HOST": f"HOST: {SECRET}",
    "Content-Length": "content-length: 5",
    "Content_Length": "Content_Length: 5",
    "Content-Type": "Content-Type: text/plain",
    "Content-Encoding": "Content-Encoding: br",
    "Transfer-Encoding": "Transfer-Encoding: chunked",
    "transfer_encoding": "transfer_encoding: chunked",
    "Connection": "Connection: close",
    "Keep-Alive": "Keep-Alive: timeout=5",
    "Upgrade": "Upgrade: h2c",
    "TE": "TE: trailers",
    "Trailer": "Trailer: x",
    "Expect": "Expect: 100-continue",
    "Accept-Encoding": "Accept-Encoding: br",
    "User-Agent": "User-Agent: curl",
    "Idempotency-Key": "Idempotency-Key: 1",
    "X-Signature": f"X-Signature: {SECRET}",
    "webhook-id": "webhook-id: 1",
    "Webhook-Signature": f"Webhook-Signature: v1,{SECRET}",
    "another variable": "X-Key: ${WAREHOUSE_KEY}",
    "a variable of the system": "X-Key: ${PATH}",
    "a variable in small letters": "X-Key: ${tracklog_secret_key}",
}


@pytest.mark.parametrize("header", WRONG.values(), ids=WRONG)
def test_a_wrong_header_cannot_be_added(log, run, add, header):
    assert SECRET not in add(HOOK, header, exit_code=1)
    assert log.destinations.all() == []
    add(HOOK)
    assert SECRET not in run("destinations", "set", "there", "--header", header, exit_code=1)
    assert log.destinations.get("there").headers == {}


@pytest.mark.parametrize("again", ["X-Key", "x-key", "X_KEY"])
def test_a_header_cannot_be_given_twice(log, add, again):
    assert f"The header {again} is given twice" in add(HOOK, f"X-Key: {SECRET}", f"{again}: b", exit_code=1)


@pytest.mark.parametrize("name", ["Authorization", "authorization"])
def test_a_key_in_the_url_leaves_no_room_for_a_token(log, add, name):
    printed = add("https://KEY@host/v1/batch", f"{name}: Bearer {SECRET}", exit_code=1)
    assert printed == (f"Error: The header {name} cannot be set: the forwarder makes it from the key in the URL\n")


@pytest.mark.parametrize("url", ["kafka://host:9092/topic", "archive+file:///folder"])
def test_other_kinds_take_no_headers(log, add, url):
    assert "takes no headers" in add(url, "X-Key: x", exit_code=1)


BAD_VALUES = ["a\r\nX: y", "a\n", "a\rb", "\r\n", "\x01", "é", "a\u2028b", "a\x7f"]


@pytest.mark.parametrize("value", BAD_VALUES)
def test_a_value_is_checked_after_its_variables_are_filled_in(log, add, requests, monkeypatch, caplog, value):
    """At `add`, if the variable is set there, and by the forwarder."""
    address, heads = requests
    log.append([event()])
    add(f"webhook+http://{address}/in", TOKEN)
    monkeypatch.setenv("TRACKLOG_SECRET_TOKEN", SECRET + value)
    assert forward(log) is False
    error = log.destinations.get("there").last_error
    assert error.startswith("The header Authorization needs a value in printable ASCII")
    assert heads == []
    assert SECRET not in error + caplog.text
    log.destinations.remove("there")
    assert SECRET not in add(f"webhook+http://{address}/in", TOKEN, exit_code=1)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil"},
        {"X\r\nHost": "evil"},
        {"X-Key": "a\r\nHost: evil"},
        {"X-Key": "a", "x-key": "b"},
        {"": "a"},
        {"X-Key": "${PATH}"},
    ],
)
def test_a_wrong_header_in_the_log_is_not_sent(log, requests, headers):
    address, heads = requests
    log.append([event()])
    log.destinations.add("there", f"webhook+http://{address}/in", [], [], 0, headers)
    assert forward(log) is False
    assert heads == []
    assert log.destinations.get("there").last_error


# Changing


def test_a_new_url_keeps_the_headers(log, run, add):
    add(HOOK, TOKEN)
    run("destinations", "set", "there", "webhook+https://new/in")
    row = log.destinations.get("there")
    assert (row.url, [*row.headers]) == ("webhook+https://new/in", ["Authorization"])


def test_new_headers_replace_all_others_and_keep_the_url(log, run, add):
    add(HOOK, TOKEN, "X-Old: a")
    log.destinations.note_failure(1, "401")
    run("destinations", "set", "there", "--header", "X-New: b")
    row = log.destinations.get("there")
    assert (row.url, row.headers, row.last_error) == (HOOK, {"X-New": "b"}, None)
    run("destinations", "set", "there", "--no-headers")
    assert log.destinations.get("there").headers == {}


@pytest.mark.parametrize("arguments", [[], ["--no-headers", "--header", "X: y"]])
def test_a_change_must_say_what_changes(log, run, add, arguments):
    add(HOOK, TOKEN)
    assert "Give a URL" in run("destinations", "set", "there", *arguments, exit_code=2)
    assert log.destinations.get("there").headers


def test_a_running_forwarder_uses_new_headers(log, run, add, requests):
    address, heads = requests
    log.append([event(1)])
    add(f"webhook+http://{address}/in", "X-Key: old")
    stop = threading.Event()
    thread = threading.Thread(target=forwarding.forward, args=(log.path, []), kwargs={"stop": stop})
    thread.start()
    try:
        wait_until(lambda: heads)
        run("destinations", "set", "there", "--header", "X-Key: new")
        # Its row is read at every look at the log, so an event after the change has the new header.
        log.append([event(2)])
        wait_until(lambda: len(heads) == 2)
    finally:
        stop.set()
        thread.join(10)
    assert ["X-Key: old" in heads[0], "X-Key: new" in heads[1]] == [True, True]


def add_as_before(path, name):
    """Add a destination as a command of the version before does."""
    columns = "name, url, types, sources, position, created_at"
    with closing(apsw.Connection(path)) as connection:
        connection.execute(f"INSERT INTO destinations ({columns}) VALUES (?, ?, '[]', '[]', 7, ?)", (name, HOOK, AT))


def test_an_upgraded_log_sends_no_headers(tmp_path):
    path = str(tmp_path / "old.db")
    with pytest.MonkeyPatch.context() as patch:
        before = schema.MIGRATIONS.index("0008_headers.sql")
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:before])
        eventlog.create(path)
    add_as_before(path, "there")
    eventlog.migrate(path)
    add_as_before(path, "new")
    log = eventlog.EventLog(path)
    assert [(each.headers, each.position) for each in log.destinations.all()] == [({}, 7)] * 2
    log.close()


# Variables

PLACES = [
    "http://${%s}@127.0.0.1:1/v1/batch",
    "http://%%24%%7B%s%%7D@127.0.0.1:1/v1/batch",
    "webhook+http://a:${%s}@127.0.0.1:1/in",
    "webhook+http://127.0.0.1:1/in/${%s}",
    "webhook+http://127.0.0.1:1/in?code=${%s}",
    "webhook+http://127.0.0.1:1/in?code=%%24{%s}",
    "webhook+http://127.0.0.1:1/in?code=${TRACKLOG_SECRET_TOKEN}${%s}",
    "kafka://127.0.0.1:1/topic?sasl.password=${%s}",
    "archive+memory://folder/${%s}",
]


@pytest.mark.parametrize("url", PLACES)
def test_other_variables_are_not_filled_in(log, add, monkeypatch, caplog, url):
    """Not in a URL that is added, nor in one that is in the log."""
    monkeypatch.setenv("WAREHOUSE_KEY", SECRET)
    monkeypatch.setenv("TRACKLOG_SECRET_TOKEN", "known")
    assert "WAREHOUSE_KEY" in (printed := add(url % "WAREHOUSE_KEY", exit_code=1))
    log.append([event()])
    log.destinations.add("there", url % "WAREHOUSE_KEY", [], ["example"], 0)
    assert forward(log) is False
    error = log.destinations.get("there").last_error
    assert error == (
        "Only variables that begin with TRACKLOG_SECRET_ are filled in, and WAREHOUSE_KEY does not. Rename it to "
        "TRACKLOG_SECRET_WAREHOUSE_KEY in the forwarder's environment, and write the new name with: "
        "tracklog destinations set"
    )
    assert SECRET not in error + printed + caplog.text


@pytest.mark.parametrize("value", [None, ""])
@pytest.mark.parametrize("url", [PLACES[0], PLACES[2]])
def test_a_variable_without_a_value_is_missing(log, add, monkeypatch, url, value):
    """Otherwise a webhook would be unsigned."""
    monkeypatch.delenv("TRACKLOG_SECRET_A", raising=False)
    if value is not None:
        monkeypatch.setenv("TRACKLOG_SECRET_A", value)
    add(url % "TRACKLOG_SECRET_A")
    log.append([event()])
    assert forward(log) is False
    expected = "The environment has no TRACKLOG_SECRET_A, which the destination needs"
    assert log.destinations.get("there").last_error == expected


# Redacting

FORMS = {
    "a literal": (f"Authorization: Bearer {SECRET}", SECRET),
    "a variable": ("Authorization: Bearer ${TRACKLOG_SECRET_TOKEN}", SECRET),
    "the whole value": ("X-Key: ${TRACKLOG_SECRET_TOKEN}", SECRET),
    "a part": ("Cookie: session=${TRACKLOG_SECRET_TOKEN}; a=b", SECRET),
    "a literal part": (f'X-Auth: Key key="{SECRET}",user=me', SECRET),
    "Basic": (f"Authorization: Basic {b64encode(f'me:{SECRET}'.encode()).decode()}", SECRET),
    "base64 of it": (f"X-Key: {SECRET}", b64encode(SECRET.encode()).decode().rstrip("=")),
    "without a prefix": (f"X-Key: whsec_{SECRET}", SECRET),
}


@pytest.mark.parametrize("status", [400, 401, 503])
@pytest.mark.parametrize(("header", "said"), FORMS.values(), ids=FORMS)
def test_a_destination_that_repeats_a_header_is_not_quoted(
    log, add, run, client, monkeypatch, caplog, header, said, status
):
    monkeypatch.setenv("TRACKLOG_SECRET_TOKEN", SECRET)
    log.append([event()])
    body = f"<p>{said} is wrong</p>".encode()
    with receiving(lambda connection, _: connection.sendall(answer(status, body))) as port:
        add(f"webhook+http://127.0.0.1:{port}/in", header)
        forward(log)
        tested = run("destinations", "test", "there", exit_code=1)
    shown = run("destinations", "list") + run("destinations", "dead", "there") + tested
    logged = "".join(json.dumps([vars(record), record.getMessage()], default=str) for record in caplog.records)
    assert "*** is wrong" in shown + logged
    assert said not in shown + logged + client.get("/metrics").text


def test_a_traceback_shows_no_header(log, add, monkeypatch, caplog):
    monkeypatch.setenv("TRACKLOG_SECRET_TOKEN", SECRET)
    log.append([event()])

    def fail(self, body, headers):
        raise RuntimeError(f"{self._headers}")

    monkeypatch.setattr("forwarding.http.Poster.post", fail)
    add(HOOK, TOKEN)
    assert forward(log) is False
    (record,) = [each for each in caplog.records if each.event == "forwarder_failed"]
    assert "RuntimeError" in record.traceback
    assert SECRET not in json.dumps(vars(record), default=str)


@pytest.mark.parametrize("shown", range(3, len(SECRET) + 1))
@pytest.mark.parametrize("url", [f"webhook+https://{SECRET}@host/", HOOK])
def test_a_secret_that_was_cut_is_not_shown(url, shown):
    """An answer is quoted up to 300 characters."""
    redact = make_redactor(url, {} if SECRET in url else {"X-Key": SECRET})
    assert redact(f"400 it is not {SECRET[:shown]}") == "400 it is not ***"
    assert redact(f"400 it is not {SECRET[:shown]}\ufffd") == "400 it is not ***"


@pytest.mark.parametrize("value", [SECRET, f" {SECRET} ", f"{SECRET}\t", f'{SECRET}":;,=~', "x" * 6000])
def test_a_variable_may_have_any_printable_value(log, add, requests, monkeypatch, value):
    address, heads = requests
    monkeypatch.setenv("TRACKLOG_SECRET_TOKEN", value)
    log.append([event()])
    add(f"webhook+http://{address}/in", "X-Key: ${TRACKLOG_SECRET_TOKEN}")
    assert forward(log) is True
    assert f"X-Key: {value}" in heads[0]
