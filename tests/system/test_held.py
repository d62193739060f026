"""A destination that never accepts an event holds the nightly prune back until it is removed."""

import re
import sqlite3
from contextlib import closing

import pytest
from forwarder import answering, forwarder
from needs import need
from promtool import firing, names_of
from service import PROJECT, wait_until

EVENTS = 3000


def nightly_prune(service, check=True):
    """Run the command of the shipped timer, and return what it says."""
    unit = (PROJECT / "deploy" / "tracklog-prune.service").read_text()
    arguments = re.search(r"^ExecStart=\S+/(?:flask|tracklog) (.*)$", unit, re.MULTILINE)[1].split()
    return service.flask(*arguments, check=check)


def change(service, sql):
    """Change the log as the time that passes would."""
    with closing(sqlite3.connect(service.database)) as connection, connection:
        connection.execute(sql)


def fires(service):
    """Return whether the alert fires if the metrics stay as they are for an hour."""
    with service.connection() as connection:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    samples = re.findall(r"^(tracklog_(?:destination|disk)_\S+) (\S+)$", text, re.MULTILINE)
    alerts = firing({name: f"{value}x60" for name, value in samples}, 60)
    return "TracklogDestinationHoldsPrune" in names_of(alerts)


@pytest.mark.parametrize("status", [503, 404])
def test_a_dead_destination_holds_the_nightly_prune_until_removed(running, status):
    need("promtool")
    for start in range(0, EVENTS, 1000):
        batch = [{"type": "track", "userId": "1", "event": "Posted", "messageId": f"{start + n}"} for n in range(1000)]
        assert running.post("/v1/batch", {"batch": batch})[1]["stored"] == 1000
    with answering(lambda *_: (status, {}, b"no")) as port:
        running.flask("destinations", "add", "gone", f"webhook+http://127.0.0.1:{port}/")
        with forwarder(running):
            wait_until(lambda: "failing" in running.flask("destinations", "list").stdout)
            change(running, "UPDATE events SET received_at = '2015-11-10T00:45:23.412Z'")
            held = nightly_prune(running, check=False)
    assert held.returncode == 1
    assert f"Deleted 0 events and 0 rejections; kept {EVENTS} events" in held.stdout
    assert f"  gone has held {EVENTS} of them since 20" in held.stdout
    assert f"keeps        {EVENTS} events from being pruned, since 20" in running.flask("destinations", "list").stdout
    assert not fires(running)

    change(running, "UPDATE destinations SET held_since = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-8 days')")
    nightly_prune(running, check=False)
    assert fires(running)

    running.flask("destinations", "remove", "gone", "--yes")
    free = running.query("SELECT freelist_count FROM pragma_freelist_count")
    assert f"Deleted {EVENTS} events" in nightly_prune(running).stdout
    assert running.query("SELECT freelist_count FROM pragma_freelist_count") > free
    assert not fires(running)
