"""`make browse` shows the log of a running service in a browser."""

import http.client
import json
import re
import subprocess
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
from browse import Browse, look
from needs import need
from service import AUTHENTICATION, PROJECT, SOURCE_ID, Clients, free_port

SECRETS = (SOURCE_ID, "OtherKey", "HookKey")
EVENTS = ["Added File", "Searched", "Signed Up", "Order Completed", "Shared Folder", "Invited Colleague"]
PAGES = {
    "log": "/-/dashboards/log?minutes=60",
    "user": "/-/dashboards/user?user=ford",
    "history": "/tracklog/history?user=ford",
    "rejected": "/tracklog/rejected_why",
    "delivery": "/tracklog/delivery",
    "tracklog": "/tracklog",
    "events": "/tracklog/events",
}
PLOTS = {  # the least number of bars or points, and words on axes and in legends
    "Events per minute, by type": (150, ["received (UTC)", "events per minute", "track", "page", "identify"]),
    "Events per minute, by source": (150, ["received (UTC)", "events per minute", "website", "app", "server"]),
    "Rejections by source and code": (5, ["times", "event_not_defined", "invalid_json", "timestamp_invalid"]),
    "Backlog of each destination": (3, ["events in the backlog", "warehouse", "failing", "paused"]),
    "Most frequent track events": (4, ["events", "Added File", "Searched"]),
    "History": (7, ["when it happened (UTC)", "ford", "ford@example.org", "visitor-7", "alias"]),
}


def line(id, at, source, type, **fields):
    at = at.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
    event = {"type": type, "messageId": f"m-{id}", "userId": f"u-{id % 40}", **fields}
    event |= {"originalTimestamp": at, "timestamp": at, "receivedAt": at}
    return json.dumps({"id": id, "source": source, "event": event}, separators=(",", ":")) + "\n"


def last_hour():
    """Yield export lines: the events of three sources in the last hour, with a changing rate."""
    now, id = datetime.now(UTC), 0
    for minute in range(59, 0, -1):
        for number in range(60 + minute * 7 % 45 + (120 if 20 < minute < 28 else 0)):
            id += 1
            at = now - timedelta(minutes=minute) + timedelta(milliseconds=number * 300)
            source = ("website", "website", "website", "app", "server")[id * 7 % 5]
            kind = ("track", "page", "track", "track", "screen" if source == "app" else "page")[id * 3 % 5]
            fields = {"event": EVENTS[min(id * 37 % 101 % 9, id % 6)]} if kind == "track" else {"name": "Start"}
            yield line(id, at, source, "identify" if id % 17 == 0 else kind, **({} if id % 17 == 0 else fields))
    for number, (kind, fields) in enumerate(
        [
            ("page", {"anonymousId": "visitor-7", "userId": None, "name": "Start"}),
            ("page", {"anonymousId": "visitor-7", "userId": None, "name": "Prices"}),
            ("identify", {"anonymousId": "visitor-7", "userId": "ford@example.org"}),
            ("track", {"userId": "ford@example.org", "event": "Signed Up"}),
            ("alias", {"previousId": "ford@example.org", "userId": "ford"}),
            ("track", {"userId": "ford", "event": "Added File"}),
            ("track", {"userId": "ford", "event": "Order Completed"}),
        ]
    ):
        yield line(id + number + 1, now - timedelta(minutes=48 - number * 8), "website", kind, **fields)


@pytest.fixture
def browse(running):
    """Yield a service with an empty log, and a `make browse` of it."""
    browse = Browse(running)
    yield running, browse
    browse.stop()


@pytest.fixture(scope="module")
def browsed(shared):
    """Yield a service with events of an hour, rejections and destinations, and a `make browse` of its log."""
    service = shared
    export = service.folder / "hour.ndjson"
    export.write_text("".join(last_hour()))
    service.flask("events", "import", export)
    service.flask("sources", "add", "website", "--source-id", "OtherKey")
    service.flask("destinations", "add", "warehouse", "http://HookKey@127.0.0.1:1/v1/batch", "--source", "website")
    service.flask("destinations", "add", "archive", f"archive+file://{service.folder}/archive", "--from", "4000")
    service.flask("destinations", "add", "hook", "webhook+http://HookKey@127.0.0.1:1/in", "--from", "now")
    service.flask("destinations", "pause", "hook")
    other = {"Authentication": "Basic T3RoZXJLZXk6"}
    for number in range(14):
        service.post("/v1/track", {"userId": "1", "properties": {"n": number}}, other)
        service.post("/v1/track", f"{{'no': JSON {number}}}", AUTHENTICATION if number % 3 else other)
    for number in range(5):
        service.post("/v1/track", {"event": "Nobody's", "n": number, "writeKey": "OtherKey"}, other)
        service.post("/v1/page", {"userId": "1", "timestamp": f"soon {number}"}, AUTHENTICATION)
    service.flask("forward", "warehouse", "--once", check=False)
    browse = Browse(service)
    yield service, browse
    browse.stop()


def test_the_pages_show_the_log_and_load_nothing_from_elsewhere(browsed, tmp_path):
    _, browse = browsed
    assert f"{browse.url}/-/dashboards/log" in browse.printed.read_text()
    seen = look(browse, tmp_path, PAGES)
    assert seen.keys() == PAGES.keys()
    for name, page in seen.items():
        assert page["failed"] == [], name
        assert {url.split("/")[2] for url in page["requested"] if not url.startswith("data:")} == {browse.url[7:]}
        assert not [secret for secret in SECRETS if secret in page["words"]], name
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    plots = {plot["title"]: plot for page in seen.values() for plot in page["plots"]}
    assert plots.keys() == PLOTS.keys()
    for title, (marks, words) in PLOTS.items():
        assert plots[title]["marks"] >= marks, title
        assert not [word for word in words if word not in plots[title]["words"]], title
    assert "Signed Up" in seen["history"]["words"]


def test_html_of_senders_is_shown_and_not_executed(browse, tmp_path):
    service, browse = browse
    hostile = '<img src="/hostile" onerror="throw 1">'
    for type, fields in (("track", {"event": hostile}), ("page", {"name": hostile}), ("identify", {})):
        assert service.post(f"/v1/{type}", {"userId": hostile, "anonymousId": hostile, **fields})[0] == 200
    user = urlencode({"user": hostile})
    pages = {"log": PAGES["log"], "user": f"/-/dashboards/user?{user}", "history": f"/tracklog/history?{user}"}
    seen = look(browse, tmp_path, pages | {"newest": "/tracklog/newest"})
    for page in seen.values():
        assert page["failed"] == []
        assert not [url for url in page["requested"] if url.endswith("/hostile")]
    assert hostile in seen["newest"]["words"]
    assert any(hostile in word for plot in seen["user"]["plots"] for word in plot["words"])


def test_every_canned_query_works(browsed):
    service, browse = browsed
    queries = json.loads(browse.get("/tracklog.json")[1])["queries"]
    assert {each["name"] for each in queries} == {
        "newest",
        "per_minute",
        "rejected_why",
        "delivery",
        "senders",
        "history",
    }
    assert all(each["title"] for each in queries)
    assert browse.rows("/tracklog/newest")[0]["id"] == service.query("SELECT max(id) FROM events")[0][0]
    per_minute = browse.rows("/tracklog/per_minute")
    assert sum(row["events"] for row in per_minute) == service.query("SELECT count(*) FROM events")[0][0]
    why = {(row["source"], row["code"]): row["times"] for row in browse.rows("/tracklog/rejected_why")}
    assert why[("website", "event_not_defined")] == 14
    assert why[("example", "timestamp_invalid")] == 5
    delivery = {row["name"]: row for row in browse.rows("/tracklog/delivery")}
    assert [delivery[name]["state"] for name in ("warehouse", "archive", "hook")] == ["failing", "ok", "paused"]
    assert delivery["hook"]["behind"] == 0 < delivery["archive"]["behind"] < delivery["warehouse"]["behind"]
    assert {row["name"] for row in browse.rows("/tracklog/senders")} == {"example", "website"}


def test_the_history_of_a_user_follows_alias_and_identify(browsed):
    _, browse = browsed
    kinds = ["page", "page", "identify", "track", "alias", "track", "track"]
    for user in ("ford", "ford@example.org", "visitor-7"):
        assert [row["type"] for row in browse.rows("/tracklog/history", user=user)] == kinds[::-1]
    assert browse.rows("/tracklog/history", user="nobody") == []


SECRET_SQL = [
    "SELECT * FROM sources",
    "SELECT name FROM sources WHERE id = 'OtherKey'",
    "SELECT id FROM source_keys",
    "SELECT url FROM destinations",
    "SELECT url FROM destinations FULL JOIN (SELECT NULL AS url) USING (url)",
    "SELECT id FROM (SELECT NULL AS id) NATURAL FULL JOIN main.sources",
    "WITH s AS (SELECT * FROM sources JOIN destinations) SELECT json_group_array(id || url) FROM s",
    "SELECT body, hex(body), CAST(body AS TEXT) FROM rejected",
]


@pytest.mark.parametrize("end", [".json", ".csv", ""])
@pytest.mark.parametrize("sql", SECRET_SQL)
def test_no_query_reads_columns_with_keys(browsed, sql, end):
    service, browse = browsed
    assert service.query("SELECT 1 FROM rejected WHERE CAST(body AS TEXT) LIKE '%OtherKey%'")
    status, body = browse.get(f"/tracklog{end}", sql=sql)
    if end == ".csv":
        assert body.strip() == ""  # Datasette says nothing else of an error in a CSV
    else:
        assert (status, "can be queried" in body) == (400, True)
    assert not [secret for secret in SECRETS if secret in body and secret not in sql]


@pytest.mark.parametrize(
    "query",
    [
        {"_where": "exists (SELECT 1 FROM sources JOIN (SELECT 'OtherKey' AS id) USING (id))"},
        {"_where": "1 IN (SELECT url FROM destinations FULL JOIN (SELECT NULL AS url) USING (url))"},
    ],
)
def test_no_condition_reads_columns_with_keys(browsed, query):
    for table in ("events", "rejected", "destinations"):
        status, body = browsed[1].get(f"/tracklog/{table}.json", **query)
        assert (status, "can be queried" in body) == (400, True), body


def test_tables_with_keys_show_their_other_columns(browsed):
    _, browse = browsed
    rejected = browse.rows("/tracklog/rejected", code="invalid_json", _facet="code", _sort="body")
    assert {(row["code"], row["body"], row["message"], row["digest"]) for row in rejected} == {
        ("invalid_json", None, None, None)
    }
    destinations = browse.rows("/tracklog/destinations")
    assert {row["name"]: row["url"] for row in destinations} == {"warehouse": None, "archive": None, "hook": None}
    assert browse.rows("/tracklog/destinations", url__startswith="http") == []
    assert browse.rows("/tracklog/rejected", body__contains="OtherKey") == []
    assert browse.get("/tracklog/rejected.csv", _stream="on")[1].count("invalid_json") == len(rejected)
    for path in ("/tracklog/rejected/1", "/tracklog/destinations/1", "/tracklog/delivery.csv", "/tracklog"):
        status, body = browse.get(path)
        assert status == 200, path
        assert not [secret for secret in SECRETS if secret in body], path


def test_events_and_counts_can_be_queried(browsed):
    service, browse = browsed
    ((count,),) = service.query("SELECT count(*) FROM tracks")
    assert browse.rows("/tracklog", sql="SELECT count(*) AS n FROM tracks") == [{"n": count}]
    assert browse.rows("/tracklog/events", _where="type = 'alias'")[0]["user_id"] == "ford"
    assert browse.rows("/tracklog", sql="SELECT sum(count) AS n FROM counts WHERE code = :code", code="invalid_json")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:{port}", 200),
        ("localhost:{port}", 200),
        ("[::1]:{port}", 200),
        ("LOCALHOST", 200),
        ("evil.example:{port}", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost:{port}@evil.example", 421),
        ("", 421),
        ("0.0.0.0:{port}", 421),
    ],
)
def test_only_the_names_of_this_machine_are_served(browsed, host, status):
    """Otherwise a web page whose host name resolves to 127.0.0.1 could read the log."""
    port = browsed[1].port
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/tracklog/newest.json", headers={"Host": host.format(port=port)})
    answer = connection.getresponse()
    assert (answer.status, answer.read() == b"This host name is not served") == (status, status == 421)
    connection.close()


@pytest.mark.parametrize(
    "path",
    [
        "/tracklog/sources",
        "/tracklog/sources/OtherKey",
        "/tracklog/source_keys",
        "/tracklog.db",
        "/_memory",
        "/-/dashboards/none",
    ],
)
def test_other_databases_and_tables_are_not_served(browsed, path):
    assert browsed[1].get(path)[0] in (403, 404)


@pytest.mark.parametrize("sql", ["DELETE FROM events", "PRAGMA wal_checkpoint", "ATTACH 'x.db' AS x", "VACUUM"])
def test_no_statement_writes(browsed, sql):
    _, browse = browsed
    assert browse.get("/tracklog.json", sql=sql)[0] == 400


SLOW = """
    WITH RECURSIVE forever (n) AS (SELECT max(id) FROM events UNION ALL SELECT n + 1 FROM forever)
    SELECT max(n) FROM forever
"""


def test_a_slow_query_is_ended_and_delays_no_event(browsed):
    service, browse = browsed
    with Clients(service.port, 8) as clients:
        clients.go_on()
        for _ in range(3):
            seen = len(clients.acknowledged)
            status, body = browse.get("/tracklog.json", sql=SLOW)
            assert (status, "interrupted" in body or "too long" in body) == (400, True), body
            assert len(clients.acknowledged) > seen + 100
        clients.go_on()
    assert (clients.refused, clients.failed) == ([], [])
    assert clients.acknowledged_ids() <= service.message_ids()


def test_a_reader_never_checkpoints(browse):
    service, browse = browse
    service.post("/v1/track", {"userId": "1", "event": "In the write-ahead log"})
    wal = service.database.with_name("tracklog.db-wal")
    before = service.database.read_bytes(), wal.read_bytes()
    assert browse.rows("/tracklog/newest")[0]["name"] == "In the write-ahead log"
    service.stop()
    assert browse.rows("/tracklog/newest")[0]["name"] == "In the write-ahead log"
    browse.stop()
    assert (service.database.read_bytes(), wal.read_bytes()) == before
    service.start()
    assert service.post("/v1/track", {"userId": "1", "event": "Later"})[0] == 200


def test_without_a_log_it_says_so(service):
    need("make")
    need(".venv-browse")
    environment = service.environment | {"TRACKLOG_DATABASE": str(service.folder / "none.db")}
    command = ["make", "browse", f"BROWSE_PORT={free_port()}"]
    ended = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0
    assert re.search(r"^Error: There is no log at \S+none\.db$", ended.stderr, re.MULTILINE), ended.stderr
    assert not (service.folder / "none.db").exists()
