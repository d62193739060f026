"""A real PostgreSQL gets every event once, although server and forwarder are killed."""

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from forwarder import forwarder
from needs import lack, need
from postgres import PASSWORD, USER, Cluster
from service import EVENT, Service, wait_until

USERS = 50
EVENTS = 20_000
SKEW = timedelta(hours=5)  # of the senders with an odd number
LONG_ID, LONG_NUMBER = "u" * 100_000, int("9" * 4300)


@pytest.fixture(scope="module")
def cluster():
    with Cluster() as cluster:
        yield cluster


def add(service, cluster, schema, *options):
    service.flask("destinations", "add", "tables", f"{cluster.url}?schema={schema}", "--create", *options)


def iso(time):
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def make_event(n, now):
    """Return event number n of one of the users. Every second sender has a clock that is wrong by SKEW."""
    wrong = SKEW if n % 2 else timedelta()
    made = {
        "messageId": str(n),
        "userId": f"user-{n % USERS}",
        "timestamp": iso(now - timedelta(seconds=n) - wrong),
        "sentAt": iso(now - wrong),
    }
    kind = n % 4
    if kind == 0:
        return made | {"type": "identify", "traits": {"email": f"{n}@example.com", "last": n}}
    if kind == 1:
        return made | {"type": "page", "name": "Home", "properties": {"url": f"https://example.com/{n}"}}
    return made | {"type": "track", "event": "Added File", "properties": {"n": n}} | UNUSUAL.get(n, {})


UNUSUAL = {
    2: {"event": "a\0b", "properties": {"nul": "x\0y"}},
    3: {"properties": {"big": LONG_NUMBER}},
    6: {"userId": LONG_ID, "anonymousId": LONG_ID},
    7: {"properties": {"\0": ["\0\0"]}, "anonymousId": "\U0001f600" * 25_000},
}


def post_events(service, numbers):
    now = datetime.now(UTC)
    for start in range(numbers.start, numbers.stop, 1000):
        batch = [make_event(n, now) for n in range(start, min(start + 1000, numbers.stop))]
        status, answer = service.post("/v1/batch", {"batch": batch})
        assert (status, answer.get("rejected", [])) == (200, []), answer


def position(service):
    ((position,),) = service.query("SELECT position FROM destinations")
    return position


def without_nul(text):
    return text and text.replace("\0", "\ufffd")


def expected_row(*columns, payload):
    """Return what PostgreSQL has for a row of the log."""
    has_nul = r"\u0000" in payload
    stored = json.loads(payload.replace(r"\u0000", "\ufffd"))
    return *map(without_nul, columns), stored, payload if has_nul else None


COLUMNS = "source, message_id, type, user_id, anonymous_id, name, {}, payload"
TIMES = ", ".join(
    f"""to_char({time} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')""" for time in ("timestamp", "received_at")
)


def check_events(service, cluster, schema):
    """Compare each row with the log's, to the millisecond and the last digit."""
    rows = cluster.query(f"SELECT {COLUMNS.format(TIMES)}, payload_text FROM {schema}.events ORDER BY id")
    log = service.query(f"SELECT {COLUMNS.format('timestamp, received_at')} FROM events ORDER BY id")
    assert len(rows) == len(log) == EVENTS
    assert rows == [expected_row(*columns, payload=payload) for *columns, payload in log]
    assert sum(row[-1] is not None for row in rows) == 2
    assert [row[3] for row in rows if row[1] == "6"] == [LONG_ID]
    assert [row[-2]["properties"] for row in rows if row[1] == "3"] == [{"big": LONG_NUMBER}]


def check_views(service, cluster, schema):
    """Compare the views with those of the log, and `users` with what its identifies say."""
    for view in ("identifies", "tracks", "pages", "screens", "groups", "aliases"):
        select = "SELECT source, message_id, user_id FROM {}" + view + " ORDER BY id"
        assert cluster.query(select.format(f"{schema}.")) == service.query(select.format("")), view
    latest = {}
    for user, traits in service.query("SELECT user_id, traits FROM identifies ORDER BY timestamp, id"):
        latest[user] = json.loads(traits)
    users = cluster.query(f"SELECT user_id, email, traits FROM {schema}.users")
    assert sorted(users) == sorted((user, traits["email"], traits) for user, traits in latest.items())
    assert len(users) == USERS / 2


def slow_down(cluster, schema):
    """Make each insert take a while, and return a function that tells whether one is under way."""
    cluster.query(
        f"CREATE FUNCTION {schema}.slow() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END $$;"
        f" CREATE TRIGGER slow AFTER INSERT ON {schema}.events EXECUTE FUNCTION {schema}.slow()"
    )
    return lambda: cluster.query("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'")


@pytest.mark.parametrize("kills", [5, pytest.param(20, marks=pytest.mark.full)])
def test_kills_of_server_and_forwarder_lose_and_repeat_no_event(running, cluster, kills):
    """Half of the kills come during a transaction, and half between its commit and the move of the position."""
    schema = f"kills_{kills}"
    add(running, cluster, schema)
    is_inserting = slow_down(cluster, schema)
    number = EVENTS // kills // 2

    repeats = 0

    def count():
        ((number,),) = cluster.query(f"SELECT count(*) FROM {schema}.events")
        return number

    with ExitStack() as forwarders:
        process = forwarders.enter_context(forwarder(running))
        for step in range(2 * kills):
            post_events(running, range(step * number, (step + 1) * number))
            wait_until(is_inserting, 60)
            with open(f"{running.database}-queue", "r+") as queue:
                if step % 4 in (0, 3):
                    fcntl.flock(queue, fcntl.LOCK_EX)  # so that the forwarder cannot move its position
                    wait_until(lambda: not is_inserting(), 60)
                if step % 2:
                    cluster.kill()
                    cluster.start()
                else:
                    process.kill()
                    process.wait()
                repeats += count() > position(running)
            if not step % 2:
                process = forwarders.enter_context(forwarder(running))
        wait_until(lambda: position(running) == EVENTS, 120)
    assert repeats
    assert running.query("SELECT count(*) FROM dead_letters") == [(0,)]
    check_events(running, cluster, schema)
    check_views(running, cluster, schema)


def test_two_collectors_store_an_event_that_both_have_once(tmp_path, cluster):
    """Equal source names mean the same source, and different ones another."""
    with ExitStack() as stack:
        first, second = (stack.enter_context(Service(tmp_path / name).with_source()) for name in ("a", "b"))
        second.with_source("website", "website-key")
        for service in (first, second):
            service.start()
            add(service, cluster, "collectors")
            stack.enter_context(forwarder(service))
        for start in range(0, 4000, 1000):
            post_events(first, range(start, start + 2000))
            post_events(second, range(start + 500, start + 2500))
        alone = {
            "batch": [{"type": "track", "messageId": str(n), **EVENT} for n in range(100)],
            "writeKey": "website-key",
        }
        assert second.post("/v1/batch", alone, {})[0] == 200
        for service in (first, second):
            wait_until(
                lambda service=service: [(position(service),)] == service.query("SELECT max(id) FROM events"), 60
            )
            assert service.query("SELECT count(*) FROM dead_letters") == [(0,)]
    rows = cluster.query("SELECT source, message_id FROM collectors.events")
    assert sorted(rows) == sorted(
        [("example", str(n)) for n in range(5500)] + [("website", str(n)) for n in range(100)]
    )


def test_a_forwarder_that_waits_for_the_server_stops_soon(running, cluster):
    running.post("/v1/track", EVENT)
    add(running, cluster, "waits")
    with cluster.connect() as connection:
        with connection.transaction(), forwarder(running) as process:
            connection.execute("LOCK TABLE waits.events")
            wait_until(lambda: cluster.query("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))
            process.terminate()
            process.wait(15)
        assert connection.execute("SELECT count(*) FROM waits.events").fetchone() == (0,)
    assert position(running) == 0
    running.flask("forward", "--once")
    assert cluster.query("SELECT count(*) FROM waits.events") == [(1,)]


def test_the_server_is_authenticated_by_its_certificate(running):
    need("openssl")
    with Cluster() as cluster:
        certificate, key = cluster.folder / "cert.pem", cluster.folder / "key.pem"
        names = ["-subj", "/CN=db", "-addext", "subjectAltName=IP:127.0.0.1"]
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate]
        subprocess.run([*command, *names], check=True, capture_output=True, cwd=cluster.folder, **cluster.as_user)
        cluster.kill()
        cluster.settings |= {"ssl": "on", "ssl_cert_file": certificate, "ssl_key_file": key}
        cluster.start()
        running.environment |= {"PGPASSWORD": PASSWORD, "PGSSLMODE": "verify-full"}
        url = f"postgresql://{USER}@{cluster.address}/postgres"
        refused = running.flask("destinations", "add", "tables", url, "--create", check=False)
        assert refused.returncode == 1
        assert "root certificate file" in refused.stderr
        running.flask("destinations", "add", "tables", f"{url}?sslrootcert={certificate}", "--create")
        running.flask("destinations", "test", "tables")
        with cluster.connect(sslmode="require") as connection:
            assert connection.execute("SELECT count(*) FROM tracklog.events").fetchone() == (1,)


@contextmanager
def small_disk(mebibytes):
    """Mount a small file system, where the server's user can enter."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", folder]
        if subprocess.run(command, capture_output=True).returncode:
            lack("the right to mount a file system")
        os.chmod(folder, 0o755)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_of_the_server_loses_no_event(running):
    with small_disk(250) as disk, Cluster(disk / "cluster") as cluster:
        add(running, cluster, "full")
        cluster.query("CHECKPOINT")
        filler = disk / "filler"
        filler.write_bytes(bytes(shutil.disk_usage(disk).free - 100_000))
        post_events(running, range(0, 20_000))
        with forwarder(running):
            wait_until(lambda: running.query("SELECT last_error FROM destinations") != [(None,)], 60)
            filler.unlink()
            if cluster.process.poll() is not None:
                cluster.start()
            wait_until(lambda: position(running) == EVENTS, 120)
        assert running.query("SELECT count(*) FROM dead_letters") == [(0,)]
        assert cluster.query('SELECT count(DISTINCT message_id) FROM "full".events') == [(EVENTS,)]
