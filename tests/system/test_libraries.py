"""Old and new client libraries against a tracklog, and what docs/clients.md tells of each.

One process of each library makes all calls, as in a server that runs for months. They share the outages.
"""

import json
import re
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from http.server import ThreadingHTTPServer
from threading import Thread
from typing import NamedTuple

import pytest
from library import CLIENTS, Driver, QuietHandler
from needs import is_here, lack, need
from nginx import Nginx
from service import PROJECT, Service, wait_until


class Library(NamedTuple):
    """A library, how to run it, and what it does: its row in docs/clients.md."""

    registry: str
    package: str
    version: str
    setting: str  # which points it here
    driver: tuple
    needs: tuple
    tries_at_400: int = 1  # requests until it gives up
    tries_at_401: int = 1
    tries_at_503: int | None = None  # None: it goes on until the event is stored
    waits: bool = True  # while it cannot connect

    @property
    def key(self):
        return f"{self.package}-{self.version}".replace(":", "-")

    @property
    def missing(self):
        return next((part for part in self.needs if not is_here(part)), None)

    def row(self):
        """Return the library's row in docs/clients.md."""
        tries = [tries_as_text(number) for number in (self.tries_at_400, self.tries_at_401, self.tries_at_503)]
        unconnected = "waits" if self.waits else "loses the event"
        name = f"{self.registry} `{self.package}` {self.version}"
        return f"| {' | '.join((name, self.setting, *tries, 'loses nothing', unconnected))} |"


def tries_as_text(number):
    return {None: "sends it again", 1: "gives up"}.get(number, f"gives up after {number} tries")


def python(package, version, module, setting, **behaviour):
    driver = (sys.executable, "drive.py", module)
    has_folder = (CLIENTS / "python" / f"{package}-{version}.txt").exists()
    needs = ("tests/system/clients/python/installed",) if has_folder else ()
    return Library("PyPI", package, version, setting, driver, needs, **behaviour)


def node(package, version, setting, alias=None, driver="drive.mjs", needs=(), **behaviour):
    needs = ("node", "tests/system/clients/node_modules", *needs)
    return Library("npm", package, version, setting, ("node", driver, alias or package), needs, **behaviour)


def java(package, version, setting):
    driver = ("java", "-XX:TieredStopAtLevel=1", "-cp", "java/jars/*", "java/Drive.java")
    return Library("Maven", package, version, setting, driver, ("java", "tests/system/clients/java/jars"))


FIXED = "none: [its host name is fixed](#a-library-whose-host-name-is-fixed)"
HOST = "`Client(KEY, host=URL)`"
OLD_NODE = "`new Analytics(KEY, { host: URL })`"
NEW_NODE = "`new Analytics({ writeKey: KEY, host: URL })`"
RUDDER = "`new Analytics(KEY, { dataPlaneUrl: URL })`"
BROWSER = "`apiHost` and `apiKey` of the integration `Segment.io`, see [below](#in-a-browser)"
AT_ONCE = {"tries_at_400": 5, "tries_at_401": 5, "tries_at_503": 5, "waits": False}
BRIEFLY = {"tries_at_503": 4, "waits": False}
LIBRARIES = [
    python("analytics-python", "1.0.3", "analytics", FIXED, **AT_ONCE),
    python("analytics-python", "1.2.9", "analytics", HOST, **AT_ONCE),
    python("analytics-python", "1.4.post1", "segment.analytics", HOST),
    python("segment-analytics-python", "2.2.3", "segment.analytics", HOST),
    python("segment-analytics-python", "2.4.0", "segment.analytics", HOST),
    python("astronomer-analytics", "1.2.7", "analytics", FIXED, **AT_ONCE),
    python("rudder-sdk-python", "2.1.9", "rudderstack.analytics", HOST),
    node("analytics-node", "2.4.1", OLD_NODE, "analytics-node-2", **BRIEFLY),
    node("analytics-node", "3.5.0", OLD_NODE, "analytics-node-3", **BRIEFLY),
    node("analytics-node", "6.2.0", OLD_NODE, "analytics-node-6", **BRIEFLY),
    node("@segment/analytics-node", "1.3.0", NEW_NODE, "@segment/analytics-node-1", tries_at_401=4, **BRIEFLY),
    node("@segment/analytics-node", "3.1.0", NEW_NODE),
    node("@rudderstack/rudder-sdk-node", "3.0.13", RUDDER, waits=False),
    node("@segment/analytics-next", "1.84.3", BROWSER, driver="drive_browser.mjs", needs=["chromium"]),
    java("com.segment.analytics.java:analytics", "3.5.2", "`Analytics.builder(KEY).endpoint(URL)`"),
]
each_library = pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.key)

TIME = "2015-11-10T00:45:23.412+00:00"
CALLS = {
    "identify": {"userId": "1234", "traits": {"name": "Arthur Dent", "logins": 42.5}},
    "track": {
        "userId": "1234",
        "event": "Added File",
        "properties": {"title": "Größe \U0001f418", "sizes": [1.5, "b"]},
    },
    "page": {"userId": "1234", "name": "Questions", "properties": {"url": "http://example.com/"}},
    "screen": {"userId": "1234", "name": "Sound", "properties": {"volume": 11.5}},
    "group": {"userId": "1234", "groupId": "5678", "traits": {"name": "The Hitchhikers"}},
    "alias": {"userId": "5678", "previousId": "1234"},
}


class Collector(Service):
    """A service whose socket stays open while it restarts, as under systemd."""

    def restart(self):
        """Start again, with one worker: an outage does not take from it the sources that it has seen."""
        self.stop()
        self.start_on(self.listening, "--workers", "1")

    def statuses(self, key=None):
        """Return the status of every POST so far that has this source, or none."""
        lines = self.lines("request")
        return [line["status"] for line in lines if line["method"] == "POST" and line.get("source") == key]

    def statuses_after(self, before, number, key=None):
        """Return the statuses after the first ones, once the log lines of that number of requests are written."""
        wait_until(lambda: len(self.statuses(key)) >= before + number)
        return self.statuses(key)[before:]

    def is_stored(self, key, before):
        return 200 in self.statuses(key)[before:]

    def events(self, key):
        """Return the events of this key's source."""
        rows = self.query("SELECT payload FROM events WHERE source = ? ORDER BY id", key)
        return [json.loads(payload) for (payload,) in rows]

    def tracked(self, key):
        return [event.get("event") for event in self.events(key) if event["type"] == "track"]


@pytest.fixture(scope="module")
def collector(tmp_path_factory):
    collector = Collector(tmp_path_factory.mktemp("collector"))
    collector.environment |= {"TRACKLOG_ACCESS_LOG": "on", "TRACKLOG_TRUSTED_PROXIES": "1"}
    keys = [library.key for library in LIBRARIES]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda key: collector.flask("sources", "add", key, "--source-id", key), keys))
    collector.listening = socket.create_server(("127.0.0.1", 0))
    collector.restart()
    yield collector
    collector.stop()
    collector.listening.close()


@pytest.fixture(scope="module")
def nginx(collector):
    need("nginx")
    need("openssl")
    nginx = Nginx(collector.folder, f"127.0.0.1:{collector.port}")
    yield nginx
    nginx.stop()


@pytest.fixture(scope="module")
def site():
    """Return the URL of a page of another origin than the tracklog."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=CLIENTS))
    Thread(target=server.serve_forever).start()
    yield f"http://127.0.0.1:{server.server_port}/package.json"
    server.shutdown()
    server.server_close()


class Sender(Driver):
    """A library at work."""

    def __init__(self, library, site):
        super().__init__(*library.driver, PYTHONPATH=str(CLIENTS / "python" / library.key), SITE=site)
        self.library = library

    def connect(self, port, key=None):
        self._tell(url=f"http://127.0.0.1:{port}", key=key or self.library.key)

    def make(self, call="track", **fields):
        self._tell(call=call, timestamp=TIME, **(CALLS[call] | fields))

    def start_flush(self):
        """Make the library send what it holds."""
        self._tell(flush=True)
        self._flushes += 1

    def flush(self):
        """Return when every call was answered with 200, or given up. A browser's may be only about to be sent again."""
        self.start_flush()
        self.wait_until_flushed()

    def wait_until_flushed(self):
        wait_until(self.is_flushed, 60)

    def is_flushed(self):
        assert self.process.poll() is None
        return len(self.said("flushed")) == self._flushes

    def _tell(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    _flushes = 0


@pytest.fixture(scope="module")
def senders(collector, site):
    """Return the sender of each library that can be run here."""
    with ExitStack() as stack:
        here = [library for library in LIBRARIES if not library.missing]
        yield {library: stack.enter_context(Sender(library, site)) for library in here}


@pytest.fixture
def sender(library, senders, collector):
    """Return the library's sender, connected to the collector."""
    if library.missing:
        lack(library.missing)
    senders[library].connect(collector.port)
    return senders[library]


@each_library
@pytest.mark.parametrize("way", ["direct", "nginx"])
def test_every_call_is_stored_with_its_values(way, library, sender, collector, request):
    if way == "nginx":
        sender.connect(request.getfixturevalue("nginx").port)
    before = len(collector.events(library.key))
    for call in CALLS:
        sender.make(call)
    sender.flush()
    events = collector.events(library.key)[before:]
    assert sorted(event["type"] for event in events) == sorted(CALLS)
    for event in events:
        if library.package == "rudder-sdk-python" and event["type"] == "identify":
            event["traits"] = event["context"]["traits"]
        if library.package == "@segment/analytics-next" and event["type"] == "alias":
            event["userId"] = CALLS["alias"]["userId"]  # it sends the id of the page's user
        for field, value in CALLS[event["type"]].items():
            # A browser adds the page's own properties.
            assert (event[field] | value if isinstance(value, dict) else value) == event[field]
        times = [datetime.fromisoformat(event[name]) for name in ("originalTimestamp", "timestamp")]
        assert datetime.fromisoformat(TIME) in times


@each_library
def test_an_invalid_event_is_reported_and_kept(library, sender, collector):
    before, failures = len(collector.statuses(library.key)), len(sender.said("failed"))
    sender.make("group", groupId="a\0b")
    sender.flush()
    assert collector.statuses_after(before, library.tries_at_400, library.key) == [400] * library.tries_at_400
    assert len(sender.said("failed")) == failures + 1
    kept = collector.query("SELECT code, times_seen FROM rejected WHERE source = ?", library.key)
    assert kept == [("id_invalid", library.tries_at_400)]


@each_library
def test_an_unknown_key_is_reported(library, sender, collector):
    sender.connect(collector.port, "Unknown")
    before, failures = len(collector.statuses()), len(sender.said("failed"))
    sender.make()
    sender.flush()
    assert collector.statuses_after(before, library.tries_at_401) == [401] * library.tries_at_401
    assert len(sender.said("failed")) == failures + 1


def start_calls(senders, *events):
    """Make calls of each library, which sends them meanwhile."""
    for sender in senders.values():
        for event in events:
            sender.make(event=event)
        sender.start_flush()


def finish_calls(senders):
    for sender in senders.values():
        sender.wait_until_flushed()


def connect(senders, collector):
    """Give each library a connection that it has used."""
    for sender in senders.values():
        sender.connect(collector.port)
    start_calls(senders, "connected")
    finish_calls(senders)


@pytest.fixture(scope="module")
def statuses_of_an_outage(senders, collector):
    """Make a call of each library while the log is away, until some have given up, then bring the log back."""
    connect(senders, collector)
    before = {library: len(collector.statuses(library.key)) for library in senders}
    away = collector.database.with_name("away.db")
    collector.database.rename(away)
    try:
        start_calls(senders, "503")
        for library, sender in senders.items():
            collector.statuses_after(before[library], library.tries_at_503 or 1, library.key)
            if library.tries_at_503:
                sender.wait_until_flushed()
    finally:
        away.rename(collector.database)
    for library in senders:
        if not library.tries_at_503:
            wait_until(partial(collector.is_stored, library.key, before[library]), 60)
    finish_calls(senders)
    return {library: collector.statuses(library.key)[before[library] :] for library in senders}


@each_library
def test_a_503_is_sent_again_or_reported(statuses_of_an_outage, library, sender, collector):
    *tries, last = statuses_of_an_outage[library]
    stored = collector.tracked(library.key).count("503")
    if library.tries_at_503:
        assert ([*tries, last], stored) == ([503] * library.tries_at_503, 0)
    else:
        assert (set(tries), last, stored) == ({503}, 200, 1)


RESTART_EVENTS = [f"restart {number:02}" for number in range(20)]


@pytest.fixture(scope="module")
def restart(senders, collector):
    """Restart the service, and make calls of each library meanwhile."""
    connect(senders, collector)
    collector.stop()
    start_calls(senders, *RESTART_EVENTS)
    collector.restart()
    finish_calls(senders)


@each_library
def test_nothing_is_lost_at_a_restart(restart, library, sender, collector):
    wait_until(lambda: set(RESTART_EVENTS) <= set(collector.tracked(library.key)))
    tracked = [event for event in collector.tracked(library.key) if event in RESTART_EVENTS]
    assert sorted(tracked) == RESTART_EVENTS


@pytest.fixture(scope="module")
def nothing_listens(senders, collector):
    """Make a call of each library while its port is closed, until some have given up, then serve again."""
    connect(senders, collector)
    collector.stop()
    collector.listening.close()
    start_calls(senders, "unconnected")
    finish_calls({library: sender for library, sender in senders.items() if not library.waits})
    collector.listening = socket.create_server(("127.0.0.1", collector.port))
    collector.restart()
    finish_calls(senders)


@each_library
def test_an_event_without_a_connection_waits_or_is_lost(nothing_listens, library, sender, collector):
    if library.waits:
        wait_until(lambda: "unconnected" in collector.tracked(library.key))
    assert collector.tracked(library.key).count("unconnected") == library.waits


def locked():
    """Return the package and version of each library that the lock files pin."""
    lines = [path.read_text().splitlines()[0] for path in CLIENTS.glob("python/*.txt")]
    lines += re.findall(r"^    (\S*analytics\S* == .*)$", (PROJECT / "setup.cfg").read_text(), re.MULTILINE)
    yield from (tuple(re.split(" ?== ?", line.split(" --")[0])) for line in lines)
    packages = json.loads((CLIENTS / "package-lock.json").read_text())["packages"]
    for alias in packages[""]["dependencies"].keys() - {"playwright-core"}:
        package = packages[f"node_modules/{alias}"]
        yield package.get("name", alias), package["version"]
    pom = (CLIENTS / "java" / "pom.xml").read_text()
    dependency = r"<groupId>(com.*)</groupId>\s*<artifactId>(.*)</artifactId>\s*<version>(.*)</version>"
    for group, artifact, version in re.findall(dependency, pom):
        yield f"{group}:{artifact}", version


@pytest.mark.smoke
def test_every_locked_library_is_run():
    assert sorted(locked()) == sorted((library.package, library.version) for library in LIBRARIES)


@pytest.mark.smoke
def test_the_page_tells_of_each_library_what_it_does():
    section = (PROJECT / "docs" / "clients.md").read_text().partition("## Libraries")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (?:PyPI|npm|Maven) `.*", section, re.MULTILINE)
    assert rows == [library.row() for library in LIBRARIES]
