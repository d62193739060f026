"""GET /metrics: what the log has counted."""

import os
import re
import shutil
from pathlib import Path

import apsw
import pytest
from prometheus_client.parser import text_string_to_metric_families

import eventlog
import metrics
from app import create_app
from eventlog.database import Database

PROJECT = Path(__file__).parent.parent
OPERATE = (PROJECT / "docs" / "operate.md").read_text()
LONG_AGO = "2015-11-10T00:45:23.412Z"
EVENT = {"userId": "1", "event": "Added File", "messageId": "1"}


def event(message_id="1"):
    return eventlog.Event("example", message_id, "track", "1", None, "e", LONG_AGO, LONG_AGO, "{}")


@pytest.fixture
def scrape(client):
    """Return a function that asks for all samples: (name, *values of the labels by the labels' names) -> value."""

    def scrape():
        response = client.get("/metrics")
        assert (response.status_code, response.content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
        families = text_string_to_metric_families(response.text)
        samples = [sample for family in families for sample in family.samples]
        return {
            (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value for sample in samples
        }

    return scrape


def of(samples, prefix):
    return {key: value for key, value in samples.items() if key[0].startswith(prefix)}


# Of the log


def test_events_are_told_as_the_log_has_counted_them(post, scrape):
    post("/v1/track", EVENT)
    post("/v1/track", EVENT)
    post("/v1/page", {"userId": "1", "messageId": "2"})
    post("/v1/page", {"userId": "1", "messageId": "2"})
    post("/v1/track", {"userId": "1"})
    post("/v1/batch", {"batch": [EVENT | {"type": "track", "messageId": "3"}, {"type": "track", "event": "e"}]})
    assert of(scrape(), "tracklog_events_") == {
        ("tracklog_events_stored_total", "example", "page"): 1,
        ("tracklog_events_stored_total", "example", "track"): 2,
        ("tracklog_events_duplicate_total", "example"): 2,
        ("tracklog_events_rejected_total", "event_not_defined", "example"): 1,
        ("tracklog_events_rejected_total", "id_required", "example"): 1,
    }


def test_counts_of_events_outlive_the_events_and_the_process(post, scrape, settings, path):
    post("/v1/track", EVENT)
    before = of(scrape(), "tracklog_events_")
    connection = apsw.Connection(path)
    connection.execute("DELETE FROM events")
    connection.execute("INSERT INTO counts VALUES ('example', 'track', 'removed', '', 1, '', '')")
    connection.close()
    assert of(scrape(), "tracklog_events_") == before
    other = create_app(settings)
    assert 'tracklog_events_stored_total{source="example",type="track"} 1.0' in other.test_client().get("/metrics").text
    other.extensions["eventlog"].close()


def test_destinations_are_told_by_how_far_they_are(log, scrape):
    log.append([event(str(n)) for n in range(10)])
    log.destinations.add("all", "https://host.example/", (), (), 10)
    log.destinations.add("behind", "https://host.example/", (), (), 0)
    stored = log.reader.read_after(0)
    log.destinations.advance("behind", 4, 3, [eventlog.DeadLetter(stored[3], "bad_request", "no", 1, LONG_AGO)])
    log.destinations.note_failure("behind", "no connection")
    told = of(scrape(), "tracklog_destination_")
    assert told.pop(("tracklog_destination_oldest_waiting_seconds", "behind")) > 10 * 365 * 86_400
    assert told == {
        ("tracklog_destination_backlog_events", "all"): 0,
        ("tracklog_destination_backlog_events", "behind"): 6,
        ("tracklog_destination_oldest_waiting_seconds", "all"): 0,
        ("tracklog_destination_deliveries_total", "all"): 0,
        ("tracklog_destination_deliveries_total", "behind"): 3,
        ("tracklog_destination_failures_total", "all"): 0,
        ("tracklog_destination_failures_total", "behind"): 1,
        ("tracklog_destination_dead_letters", "all"): 0,
        ("tracklog_destination_dead_letters", "behind"): 1,
    }


def test_events_that_are_gone_are_no_backlog(log, scrape, path):
    log.append([event(str(n)) for n in range(10)])
    log.destinations.add("behind", "https://host.example/", (), (), 0)
    connection = apsw.Connection(path)
    connection.execute("DELETE FROM events WHERE id <= 7")
    assert scrape()["tracklog_destination_backlog_events", "behind"] == 3
    connection.execute("DELETE FROM events")
    connection.close()
    assert scrape()["tracklog_destination_backlog_events", "behind"] == 0


def test_the_disk_is_told(log, path, scrape):
    log.append([event()])
    told = scrape()
    assert told["tracklog_log_bytes",] == os.path.getsize(path)
    assert told["tracklog_log_wal_bytes",] == os.path.getsize(path + "-wal")
    assert told["tracklog_disk_free_bytes",] == pytest.approx(shutil.disk_usage(path).free, abs=1 << 30)


@pytest.mark.parametrize("trouble", ["moved", "folder gone", "foreign"])
def test_a_log_in_trouble_is_told(log, path, scrape, trouble):
    assert scrape()["tracklog_log_available",] == 1
    if trouble == "folder gone":
        shutil.rmtree(os.path.dirname(path))
    else:
        os.rename(path, path + ".away")
    if trouble == "foreign":
        apsw.Connection(path).execute("CREATE TABLE theirs (x)")
    told = scrape()
    assert told["tracklog_log_available",] == 0
    assert (("tracklog_disk_free_bytes",) in told) == (trouble != "folder gone")
    assert of(told, "tracklog_events_") == of(told, "tracklog_destination_") == {}


def test_a_scrape_writes_nothing(post, scrape, path):
    post("/v1/track", EVENT)
    connection = apsw.Connection(path)
    before = connection.pragma("data_version")
    scrape()
    assert connection.pragma("data_version") == before
    connection.close()


def test_a_scrape_scans_no_table_that_grows(log, scrape, query, monkeypatch):
    asked = []
    read = Database.read
    monkeypatch.setattr(Database, "read", lambda self, sql, *rest: asked.append(sql) or read(self, sql, *rest))
    log.destinations.add("all", "https://host.example/", (), (), 0)
    asked.clear()
    scrape()
    steps = [step for sql in asked for *_, step in query("EXPLAIN QUERY PLAN " + sql)]
    assert len(steps) > 5
    assert {step for step in steps if step.startswith("SCAN")} <= {
        "SCAN counts",
        "SCAN destinations",
        "SCAN CONSTANT ROW",
    }


# What is written of them


@pytest.fixture
def families(client):
    """All metrics that there are: name -> what it means."""
    return dict(re.findall(r"^# HELP (\S+) (.+)$", client.get("/metrics").text, re.MULTILINE))


def test_every_metric_is_documented_with_its_labels_and_meaning(families, scrape, log, post):
    assert len(families) == len(metrics.OF_THE_LOG)
    labels = {name: labels for name, (_, labels, _) in metrics.OF_THE_LOG.items()}
    for name, meaning in families.items():
        named = ", ".join(f"`{label}`" for label in labels.get(name, ()))
        assert f"| `{name}` | {named} | {meaning} |".replace("|  |", "| |") in OPERATE


def test_no_metric_is_documented_that_there_is_not(families):
    assert set(re.findall(r"^\| `(tracklog_\w+)`", OPERATE, re.MULTILINE)) == set(families)


def test_metrics_are_named_by_the_conventions(families, client):
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", client.get("/metrics").text, re.MULTILINE))
    assert set(kinds) == set(families)
    for name, kind in kinds.items():
        assert re.fullmatch(r"tracklog(_[a-z]+)+", name)
        assert name.endswith("_total") is (kind == "counter")
