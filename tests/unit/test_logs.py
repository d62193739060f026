"""Each log line is one JSON object, and there are few of them."""

import io
import json
import logging
import os

import pytest
from factories import AUTHENTICATION, TRACK
from werkzeug.test import EnvironBuilder

from telemetry import logs, storage_trouble

ID = {"X-Request-ID": "0af7651916cd43dd8448eb211c80319c"}


@pytest.fixture
def clock(monkeypatch):
    """The time of the monotonic clock, in a list that a test can change."""
    now = [1000.0]
    monkeypatch.setattr(logs, "monotonic", lambda: now[0])
    monkeypatch.setattr(storage_trouble, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def lines(monkeypatch):
    """Return a function that returns the parsed lines that were logged since its last call."""
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


def named(lines, name):
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


def test_a_value_unknown_to_json_is_logged_as_text():
    line = logs.JsonFormatter().format(logging.makeLogRecord({"msg": "", "path": b"/\xff"}))
    assert json.loads(line)["path"] == repr(b"/\xff")


def test_a_line_is_short_enough_for_journald():
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


def test_the_flask_logger_writes_each_record_once(app, lines):
    app.logger.warning("once")
    assert [(line["event"], line["message"]) for line in lines()] == [("tracklog", "once")]
    assert app.logger.handlers == []


# Rejections


def test_rejections_of_a_kind_are_one_line_a_minute(post, lines, clock):
    """The line has the number of rejections since the line before."""
    for _ in range(5):
        post("/v1/track", {"userId": "1"})
    post("/v1/track", "no JSON")
    post("/v1/track", TRACK, Authentication=None)
    found = named(lines, "rejected")
    assert [(line.get("source"), line["code"], line["count"]) for line in found] == [
        ("example", "event_not_defined", 1),
        ("example", "invalid_json", 1),
        (None, "missing_write_key", 1),
    ]
    assert {line["route"] for line in found} == {"/v1/track"}
    clock[0] += logs.SECONDS_PER_LINE
    post("/v1/track", {"userId": "1"})
    post("/v1/track", {"userId": "1"})
    assert [line["count"] for line in named(lines, "rejected")] == [5]


def test_each_source_has_its_own_line_of_rejections(client, log, lines):
    log.sources.add("other", "Other")
    for key in ("ILoveData123", "Other", "Other"):
        assert client.post("/v1/batch", json={"writeKey": key, "batch": []}).status_code == 400
    assert [line["source"] for line in named(lines, "rejected")] == ["example", "other"]


def test_the_rejected_items_of_a_batch_are_counted_by_code(post, lines):
    item = {"type": "track", "userId": "1"}
    assert post("/v1/batch", {"batch": [item, {**item, "event": "e"}, item, 1]})[0] == 200
    found = {line["code"]: line["count"] for line in named(lines, "rejected")}
    assert found == {"event_not_defined": 2, "event_not_object": 1}


@pytest.mark.parametrize(("method", "url"), [("GET", "/v1/trak"), ("PUT", "/v1/track")])
def test_a_request_without_a_route_is_logged_as_rejected(client, lines, method, url):
    client.open(url + "?writeKey=secret", method=method)
    (line,) = named(lines, "rejected")
    assert (line["code"] in ("not_found", "method_not_allowed"), "route" in line) == (True, False)
    assert "secret" not in json.dumps(line)


def test_the_number_of_remembered_kinds_is_bounded(monkeypatch, clock):
    monkeypatch.setattr(logs, "MAX_KINDS", 3)
    once = logs.RateLimit()

    def passes(code):
        return once.filter(logging.makeLogRecord({"code": code, "count": 1}))

    assert [passes(code) for code in "abcdabcd"] == [True] * 8  # each was forgotten for the three after it
    assert [passes(code) for code in "bcd"] == [False] * 3


# Storage


def test_a_storage_trouble_is_two_lines(app, client, path, lines, clock):
    """One line when it begins and one when it ends."""

    def post(count, status):
        for _ in range(count):
            assert client.post("/v1/track", json=TRACK, headers=AUTHENTICATION | ID).status_code == status

    post(1, 200)
    os.rename(path, path + ".away")
    post(3, 503)
    (begun,) = lines()
    assert (begun["event"], begun["level"], begun["request_id"]) == ("storage_trouble", "error", ID["X-Request-ID"])
    assert path in begun["reason"]
    os.rename(path + ".away", path)
    clock[0] += 0.5
    post(1, 200)  # one success may be luck
    assert lines() == []
    clock[0] += 59.5
    post(2, 200)
    (over,) = lines()
    assert (over["event"], over["seconds"], over["refused"]) == ("storage_recovered", 60.0, 3)


def test_a_successful_readiness_check_ends_a_storage_trouble(client, path, lines, clock):
    os.rename(path, path + ".away")
    assert client.post("/v1/track", json=TRACK, headers=AUTHENTICATION).status_code == 503
    clock[0] += 60
    assert client.get("/readyz").status_code == 503
    os.rename(path + ".away", path)
    assert client.get("/readyz").status_code == 200
    assert [line["event"] for line in lines()] == ["storage_trouble", "storage_recovered"]


def test_an_internal_error_is_a_line_with_a_traceback(client, monkeypatch, lines):
    monkeypatch.setattr("routes.track.accept", lambda schema: 1 / 0)
    client.post("/v1/track?writeKey=secret", json=TRACK, headers=AUTHENTICATION | ID)
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
def test_every_answer_returns_the_request_id(client, method, url, body, status):
    response = client.open(url, method=method, data=body, headers=AUTHENTICATION | ID)
    assert (response.status_code, response.headers.getlist("X-Request-ID")) == (status, [ID["X-Request-ID"]])


def test_an_error_answer_returns_the_request_id(client, path, monkeypatch):
    os.rename(path, path + ".away")
    response = client.post("/v1/track", json=TRACK, headers=AUTHENTICATION | ID)
    assert (response.status_code, response.headers["X-Request-ID"]) == (503, ID["X-Request-ID"])
    monkeypatch.setattr("routes.track.accept", lambda schema: 1 / 0)
    response = client.post("/v1/track", json=TRACK, headers=AUTHENTICATION | ID)
    assert (response.status_code, response.headers["X-Request-ID"]) == (500, ID["X-Request-ID"])


@pytest.mark.parametrize("odd", ["", " ", "a b", "a\x1b[2J", "x" * 65, "é", "<b>", "a,b", "a/b"])
def test_an_invalid_request_id_is_not_returned_or_logged(client, lines, odd):
    response = client.post("/v1/track", data="no JSON", headers=AUTHENTICATION | {"X-Request-ID": odd})
    assert "X-Request-ID" not in response.headers
    (line,) = lines()
    assert "request_id" not in line


@pytest.mark.parametrize("plain", ["a", "x" * 64, "A-b_c.9", "0af7651916cd43dd8448eb211c80319c"])
def test_a_rejections_line_has_the_request_id(client, lines, plain):
    client.post("/v1/track", data="no JSON", headers=AUTHENTICATION | {"X-Request-ID": plain})
    assert [line["request_id"] for line in lines()] == [plain]


# Paths

KEYED_PATHS = ["/v1/secret-key", "/secret-key/settings", "/v1/track/secret-key", "/v1/pixel/secret-key", "//secret-key"]


@pytest.mark.parametrize("url", KEYED_PATHS)
def test_no_line_holds_a_path_that_may_contain_a_key(client, lines, url):
    client.get(url)
    (line,) = named(lines, "rejected")
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
