"""The log lines: one JSON object each, few, and nothing in them that could break one."""

import io
import json
import logging
import os

import pytest
from werkzeug.test import EnvironBuilder

from telemetry import logs, storage_trouble

TRACK = {"userId": "1", "event": "Posted"}
BASIC = {"Authentication": "Basic SUxvdmVEYXRhMTIz"}
ID = {"X-Request-ID": "0af7651916cd43dd8448eb211c80319c"}


@pytest.fixture
def clock(monkeypatch):
    """The time of the monotonic clock, in a list to be changed."""
    now = [1000.0]
    monkeypatch.setattr(logs, "monotonic", lambda: now[0])
    monkeypatch.setattr(storage_trouble, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def lines(monkeypatch):
    """Return a function that returns what was logged since its last call, each line parsed."""
    stream = io.StringIO()
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logs.logger, "level", logging.INFO)
    logs.write_lines(logging.StreamHandler(stream))

    def lines():
        written = stream.getvalue().splitlines()
        stream.seek(0)
        stream.truncate()
        return [json.loads(line) for line in written]

    yield lines
    logging.captureWarnings(False)


def events(lines, name):
    return [line for line in lines() if line["event"] == name]


# The line


HOSTILE = [
    "two\nlines\r\n",
    "\x1b[2J\x9b2J\x07",
    "\u2028\u2029\x85\x0b\x0c",
    '"}\\',
    "\ud800 lone \udcff",
    "\U0001f600 é",
    "\0",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_breaks_a_line_or_reaches_a_terminal(text):
    record = logging.makeLogRecord({"msg": text, "path": text, "settings": {text: [text]}})
    record.exc_info = (ValueError, ValueError(text), None)
    line = logs.JsonFormatter().format(record)
    assert line.isascii()
    assert line.isprintable()
    sound = text.encode("utf-8", "replace").decode()
    parsed = json.loads(line)
    assert (parsed["message"], parsed["path"], parsed["settings"]) == (sound, sound, {sound: [sound]})
    assert parsed["traceback"].startswith("ValueError: ")
    json.dumps(parsed, ensure_ascii=False).encode()  # no lone surrogate is left in it


def test_a_value_that_json_does_not_know_is_written_as_text():
    line = logs.JsonFormatter().format(logging.makeLogRecord({"msg": "", "path": b"/\xff"}))
    assert json.loads(line)["path"] == repr(b"/\xff")


def test_a_line_stays_below_what_journald_takes_for_one():
    endless = "\U0001f600" * 100_000
    record = logging.makeLogRecord({"msg": endless, "path": endless, "reason": endless})
    record.exc_info = (ValueError, ValueError(endless + "the end"), None)
    line = logs.JsonFormatter().format(record)
    assert len(line) < 48 * 1024
    assert json.loads(line)["traceback"].endswith("the end")


def test_a_line_begins_with_its_time_level_event_and_message():
    record = logging.makeLogRecord({"msg": "%s is %d", "args": ("it", 1), "levelname": "WARNING", "name": "library"})
    record.created, record.process, record.reason, record.source = 1447116323.4125, 7, "late", None
    assert list(json.loads(logs.JsonFormatter().format(record)).items()) == [
        ("time", "2015-11-10T00:45:23.412Z"),
        ("level", "warning"),
        ("event", "library"),
        ("message", "it is 1"),
        ("pid", 7),
        ("reason", "late"),
    ]


def test_the_flask_logger_writes_nothing_beside(app, lines):
    app.logger.warning("once")
    assert [(line["event"], line["message"]) for line in lines()] == [("tracklog", "once")]
    assert app.logger.handlers == []


# Rejections


def test_a_source_s_rejections_of_a_kind_are_one_line_a_minute_and_counted(post, lines, clock):
    for _ in range(5):
        post("/v1/track", {"userId": "1"})
    post("/v1/track", "no JSON")
    post("/v1/track", TRACK, Authentication=None)
    found = events(lines, "rejected")
    assert [(line.get("source"), line["code"], line["count"]) for line in found] == [
        ("example", "event_not_defined", 1),
        ("example", "invalid_json", 1),
        (None, "missing_write_key", 1),
    ]
    assert {line["route"] for line in found} == {"/v1/track"}
    clock[0] += logs.SECONDS_PER_LINE
    post("/v1/track", {"userId": "1"})
    post("/v1/track", {"userId": "1"})
    assert [line["count"] for line in events(lines, "rejected")] == [5]


def test_another_source_s_rejections_have_a_line_of_their_own(client, log, lines):
    log.sources.add("other", "Other")
    for key in ("ILoveData123", "Other", "Other"):
        assert client.post("/v1/batch", json={"writeKey": key, "batch": []}).status_code == 400
    assert [line["source"] for line in events(lines, "rejected")] == ["example", "other"]


def test_the_refused_items_of_a_batch_are_counted_by_kind(post, lines):
    item = {"type": "track", "userId": "1"}
    assert post("/v1/batch", {"batch": [item, {**item, "event": "e"}, item, 1]})[0] == 200
    found = {line["code"]: line["count"] for line in events(lines, "rejected")}
    assert found == {"event_not_defined": 2, "event_not_object": 1}


@pytest.mark.parametrize(("method", "url"), [("GET", "/v1/trak"), ("PUT", "/v1/track")])
def test_what_finds_no_route_is_a_rejection_too(client, lines, method, url):
    client.open(url + "?writeKey=secret", method=method)
    (line,) = events(lines, "rejected")
    assert (line["code"] in ("not_found", "method_not_allowed"), "route" in line) == (True, False)
    assert "secret" not in json.dumps(line)


def test_kinds_take_no_more_memory_however_many_there_are(monkeypatch, clock):
    monkeypatch.setattr(logs, "MAX_KINDS", 3)
    once = logs.RateLimit()

    def passes(code):
        return once.filter(logging.makeLogRecord({"code": code, "count": 1}))

    assert [passes(code) for code in "abcda"] == [True] * 5  # d took the place of a, a that of b
    assert [passes(code) for code in "cda"] == [False] * 3
    assert len(once._kinds) == 3


# Storage


def test_a_storage_trouble_is_one_line_and_its_end_another(app, client, path, lines, clock):
    def post(count, status):
        for _ in range(count):
            assert client.post("/v1/track", json=TRACK, headers=BASIC | ID).status_code == status

    post(1, 200)
    os.rename(path, path + ".away")
    post(3, 503)
    (begun,) = lines()
    assert (begun["event"], begun["level"], begun["request_id"]) == ("storage_trouble", "error", ID["X-Request-ID"])
    assert path in begun["reason"]
    os.rename(path + ".away", path)
    clock[0] += 0.5
    post(1, 200)  # which may be luck
    assert lines() == []
    clock[0] += 59.5
    post(2, 200)
    (over,) = lines()
    assert (over["event"], over["seconds"], over["refused"]) == ("storage_recovered", 60.0, 3)


def test_a_storage_trouble_ends_for_who_asks_whether_it_is_ready(client, path, lines, clock):
    os.rename(path, path + ".away")
    assert client.post("/v1/track", json=TRACK, headers=BASIC).status_code == 503
    clock[0] += 60
    assert client.get("/readyz").status_code == 503
    os.rename(path + ".away", path)
    assert client.get("/readyz").status_code == 200
    assert [line["event"] for line in lines()] == ["storage_trouble", "storage_recovered"]


def test_a_fault_of_ours_is_a_line_with_its_traceback(client, monkeypatch, lines):
    monkeypatch.setattr("routes.track.accept", lambda schema: 1 / 0)
    client.post("/v1/track?writeKey=secret", json=TRACK, headers=BASIC | ID)
    (line,) = lines()
    assert (line["event"], line["route"], line["request_id"]) == ("internal_error", "/v1/track", ID["X-Request-ID"])
    assert line["traceback"].endswith("ZeroDivisionError: division by zero")
    assert "secret" not in json.dumps(line)


# Request ids

ANSWERS = [
    ("POST", "/v1/track", json.dumps(TRACK), 200),
    ("POST", "/v1/track", "no JSON", 400),
    ("GET", "/v1/pixel/track?userId=1&event=e", None, 200),
    ("GET", "/v1/pixel/track", None, 400),
    ("OPTIONS", "/v1/track", None, 204),
    ("GET", "/v1/trak", None, 404),
    ("GET", "/v1/track", None, 405),
    ("GET", "/healthz", None, 200),
]


@pytest.mark.parametrize(("method", "url", "body", "status"), ANSWERS)
def test_every_answer_gives_the_id_back(client, method, url, body, status):
    response = client.open(url, method=method, data=body, headers=BASIC | ID)
    assert (response.status_code, response.headers.getlist("X-Request-ID")) == (status, [ID["X-Request-ID"]])


def test_an_answer_without_the_log_or_after_a_fault_gives_it_back_too(client, path, monkeypatch):
    os.rename(path, path + ".away")
    response = client.post("/v1/track", json=TRACK, headers=BASIC | ID)
    assert (response.status_code, response.headers["X-Request-ID"]) == (503, ID["X-Request-ID"])
    monkeypatch.setattr("routes.track.accept", lambda schema: 1 / 0)
    response = client.post("/v1/track", json=TRACK, headers=BASIC | ID)
    assert (response.status_code, response.headers["X-Request-ID"]) == (500, ID["X-Request-ID"])


@pytest.mark.parametrize("odd", ["", " ", "a b", "a\x1b[2J", "x" * 65, "é", "<b>", "a,b", "a/b"])
def test_what_is_no_plain_id_is_neither_given_back_nor_logged(client, lines, odd):
    response = client.post("/v1/track", data="no JSON", headers=BASIC | {"X-Request-ID": odd})
    assert "X-Request-ID" not in response.headers
    (line,) = lines()
    assert "request_id" not in line


@pytest.mark.parametrize("plain", ["a", "x" * 64, "A-b_c.9", "0af7651916cd43dd8448eb211c80319c"])
def test_a_plain_id_is_in_the_line_of_a_rejection(client, lines, plain):
    client.post("/v1/track", data="no JSON", headers=BASIC | {"X-Request-ID": plain})
    assert [line["request_id"] for line in lines()] == [plain]


# Paths

KEYED_PATHS = ["/v1/secret-key", "/secret-key/settings", "/v1/track/secret-key", "/v1/pixel/secret-key", "//secret-key"]


@pytest.mark.parametrize("url", KEYED_PATHS)
def test_no_line_holds_a_path_that_may_contain_a_key(client, lines, url):
    client.get(url)
    (line,) = events(lines, "rejected")
    assert line.get("route") == ("/v1/pixel/<type>" if "pixel" in url else None)
    assert "secret" not in json.dumps(line)


def test_a_request_is_logged_with_the_rule_of_its_route(app, caplog):
    """gunicorn calls its logger once the request is over."""

    @app.get("/v1/projects/<source_id>/example")
    def example(source_id):
        return source_id

    environ = EnvironBuilder("/v1/projects/secret-key/example?writeKey=secret-key").get_environ()
    app(environ, lambda *_: None).close()
    with caplog.at_level(logging.INFO):
        logs.log_request(logging.getLogger("access"), environ, 200, 10, 0.1)
    (record,) = caplog.records
    assert record.route == "/v1/projects/<source_id>/example"
    assert "secret" not in str(vars(record))
