"""A POST becomes rows that sqlite3 shows."""

import json
import subprocess

import pytest
from needs import need
from service import AUTHENTICATION, PROJECT, SOURCE_ID, wait_until

# The examples of the original API's page, as valid JSON.
IDENTIFY = {
    "userId": "1234",
    "traits": {"name": "Arthur Dent", "email": "earthling1@hitchhikersguide.com", "hasTowel": True},
    "timestamp": "2015-11-10T00:45:23.412Z",
}
TRACK = {
    "userId": "1234",
    "event": "Added File",
    "properties": {"fileTitle": "Life, the Universe, and Everything", "fileSize": "509kb", "fileType": "PDF"},
    "timestamp": "2015-11-10T00:45:23.412Z",
}
PAGE = {
    "userId": "1234",
    "section": "Blog",
    "name": "10 Questions with Marvin, the clinically depressed robot",
    "properties": {"referrer": "http://reddit.com/r/AMA"},
    "timestamp": "2015-11-10T00:45:23.412Z",
}
GROUP = {
    "userId": "1234",
    "groupId": "5678",
    "traits": {"name": "The Hitchhikers", "relativePosition": "[39.1000 N, 84.5167 W]"},
    "timestamp": "2015-11-10T00:45:23.412Z",
}
ALIAS = {"previousId": "1234", "userId": "5678", "timestamp": "2015-11-10T00:45:23.412Z"}

CALLS = {"identify": IDENTIFY, "track": TRACK, "page": PAGE, "group": GROUP, "alias": ALIAS}
VIEWS = {"identify": "identifies", "track": "tracks", "page": "pages", "group": "groups", "alias": "aliases"}


def test_the_examples_posted_with_curl_are_in_events_and_views(running):
    need("curl")
    for call, example in CALLS.items():
        header = f"Authentication: {AUTHENTICATION['Authentication']}"
        url = f"http://127.0.0.1:{running.port}/v1/{call}"
        curl = ["curl", "-sS", "--fail-with-body", url, "-H", header, "-d", json.dumps(example)]
        answer = subprocess.run(curl, check=True, capture_output=True, text=True).stdout
        assert json.loads(answer)["success"] is True
    for call, example in CALLS.items():
        ((timestamp, payload),) = running.query("SELECT timestamp, payload FROM events WHERE type = ?", call)
        assert timestamp == "2015-11-10T00:45:23.412Z"
        assert example.items() <= json.loads(payload).items()
        assert SOURCE_ID not in payload
        assert running.query(f"SELECT timestamp FROM {VIEWS[call]}") == [(timestamp,)]
    assert running.query("SELECT name, email FROM identifies") == [("Arthur Dent", "earthling1@hitchhikersguide.com")]
    assert running.query("SELECT event FROM tracks") == [("Added File",)]
    assert running.query("SELECT section, name, referrer FROM pages") == [
        ("Blog", PAGE["name"], "http://reddit.com/r/AMA")
    ]
    assert running.query("SELECT group_id, name FROM groups") == [("5678", "The Hitchhikers")]
    assert running.query("SELECT previous_id, user_id FROM aliases") == [("1234", "5678")]
    assert running.query("SELECT DISTINCT source FROM events") == [("example",)]


@pytest.mark.smoke
def test_a_message_id_is_stored_once_per_source(running, basic):
    running.flask("sources", "add", "second", "--source-id", "Second")
    event = TRACK | {"messageId": "m-1"}
    assert running.post("/v1/track", event) == (200, {"success": True, "messageId": "m-1"})
    assert running.post("/v1/track", event) == (200, {"success": True, "messageId": "m-1", "duplicate": True})
    assert running.post("/v1/track", event, basic("Second")) == (200, {"success": True, "messageId": "m-1"})
    assert running.query("SELECT source FROM events ORDER BY id") == [("example",), ("second",)]


@pytest.mark.smoke
def test_a_source_disabled_while_workers_run_is_refused_soon(running):
    assert running.post("/v1/track", TRACK)[0] == 200
    running.flask("sources", "disable", "example")
    wait_until(lambda: running.post("/v1/track", TRACK)[0] == 401)
    running.flask("sources", "enable", "example")
    wait_until(lambda: running.post("/v1/track", TRACK)[0] == 200)


def test_the_sqlite3_of_the_distribution_shows_tables_and_views(running):
    need("sqlite3")
    for call, example in CALLS.items():
        running.post(f"/v1/{call}", example)
    running.post("/v1/screen", {"userId": "1234", "name": "Home"})
    running.post("/v1/track", {"event": "without an id"})
    names = [name for (name,) in running.query("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')")]
    assert {"events", "rejected", "sources", "counts", *VIEWS.values(), "screens"} <= set(names)
    for name in names:
        shown = subprocess.run(
            ["sqlite3", "-box", running.database, f"SELECT * FROM {name}"], capture_output=True, check=True
        )
        assert shown.stderr == b""
        is_empty = running.query(f"SELECT count(*) FROM {name}") == [(0,)]
        assert is_empty == (name in ("destinations", "dead_letters")), name
        assert shown.stdout.startswith(b"" if is_empty else "┌".encode()), name


@pytest.mark.smoke
def test_the_command_line_of_gunicorn_overrides_settings(service):
    service.environment["TRACKLOG_BIND"] = "127.0.0.1:1"
    service.start("--workers", "1")
    assert "Using worker: gevent" in service.said()
    assert len(service.workers()) == 1
    assert PROJECT.joinpath("gunicorn.conf.py").exists()
