"""GET /metrics shows the counts of the log and of the workers."""

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from math import inf
from pathlib import Path

import apsw
import pytest
import yaml
from factories import TRACK, dead_letters, event, events
from prometheus_client import values
from prometheus_client.parser import text_string_to_metric_families

import errors
import eventlog
from app import create_app
from eventlog.database import Database
from eventlog.destinations import STATES
from telemetry import metrics

PROJECT = Path(__file__).parents[2]
MONITOR = (PROJECT / "docs" / "monitor.md").read_text()
EVENT = TRACK | {"messageId": "1"}


@pytest.fixture
def folder(tmp_path):
    """The folder for the counts of workers."""
    return str(tmp_path / "metrics")


@pytest.fixture(autouse=True)
def no_folder_of_another_test(monkeypatch):
    """Restore what a worker sets for prometheus-client."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    yield
    values.close_all_multiprocess_files()


@pytest.fixture
def shared(app, folder):
    """The app's metrics, set up like in a worker."""
    app.extensions["metrics"].start_counting(folder)
    return app.extensions["metrics"]


@pytest.fixture
def scrape(client):
    """Return a function that returns all samples as (name, *label values) -> value."""

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


# Metrics of the log


def test_metrics_of_events_are_the_counts_of_the_log(post, scrape):
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


def test_metrics_of_events_outlive_events_and_processes(post, scrape, settings, path):
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


def test_metrics_show_the_progress_of_destinations(log, scrape):
    log.append(events(10))
    log.destinations.add("all", "https://host.example/", (), (), 10)
    log.destinations.add("behind", "https://host.example/", (), (), 0)
    log.destinations.advance(log.destinations.get("behind").id, 4, 3, dead_letters(log.reader.read_after(3)[:1]))
    log.destinations.note_failure(log.destinations.get("behind").id, "no connection")
    told = {key: value for key, value in of(scrape(), "tracklog_destination_").items() if "_held_" not in key[0]}
    assert told.pop(("tracklog_destination_oldest_waiting_seconds", "behind")) > 10 * 365 * 86_400
    assert told == {
        ("tracklog_destination_backlog_events", "all"): 0,
        ("tracklog_destination_backlog_events", "behind"): 6,
        ("tracklog_destination_oldest_waiting_seconds", "all"): 0,
        ("tracklog_destination_deliveries_total", "all"): 0,
        ("tracklog_destination_deliveries_total", "behind"): 3,
        **{("tracklog_destination_state", "all", state): state == "ok" for state in STATES},
        **{("tracklog_destination_state", "behind", state): state == "failing" for state in STATES},
        ("tracklog_destination_failures_total", "all"): 0,
        ("tracklog_destination_failures_total", "behind"): 1,
        ("tracklog_destination_dead_letters", "all"): 0,
        ("tracklog_destination_dead_letters", "behind"): 1,
    }


def test_deleted_events_are_not_in_the_backlog(log, scrape, path):
    log.append(events(10))
    log.destinations.add("behind", "https://host.example/", (), (), 0)
    connection = apsw.Connection(path)
    connection.execute("DELETE FROM events WHERE id <= 7")
    assert scrape()["tracklog_destination_backlog_events", "behind"] == 3
    connection.execute("DELETE FROM events")
    connection.close()
    assert scrape()["tracklog_destination_backlog_events", "behind"] == 0


def test_metrics_show_the_disk(log, path, scrape):
    log.append([event()])
    told = scrape()
    assert told["tracklog_log_bytes",] == os.path.getsize(path)
    assert told["tracklog_log_wal_bytes",] == os.path.getsize(path + "-wal")
    assert told["tracklog_disk_free_bytes",] == pytest.approx(shutil.disk_usage(path).free, abs=1 << 30)


@pytest.mark.parametrize("trouble", ["moved", "folder gone", "foreign"])
def test_an_unavailable_log_leaves_the_workers_metrics(shared, log, path, post, scrape, trouble):
    post("/v1/track", EVENT)
    assert scrape()["tracklog_log_available",] == 1
    if trouble == "folder gone":
        shared.start_counting(os.path.dirname(path) + "-metrics")
        post("/v1/track", EVENT)
        shutil.rmtree(os.path.dirname(path))
    else:
        os.rename(path, path + ".away")
    if trouble == "foreign":
        apsw.Connection(path).execute("CREATE TABLE theirs (x)")
    told = scrape()
    assert told["tracklog_log_available",] == 0
    assert told["tracklog_requests_total", "/v1/track", "200"] == 1
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
        "SCAN destinations USING INDEX sqlite_autoindex_destinations_1",
        "SCAN CONSTANT ROW",
        "SCAN steps",  # a number for each doubling of the backlog
        "SCAN looked_at",
        "SCAN newest",
        "SCAN rejected_size",  # one row
        "SCAN log",  # one row
        *(f"SCAN pragma_{name} VIRTUAL TABLE INDEX 0:" for name in ("page_count", "freelist_count", "page_size")),
    }


# Metrics of the workers


def test_requests_are_counted_by_route_and_status(shared, client, post, scrape):
    for url in ("/v1/track", "/v1/track/", "/v1/t"):
        post(url, EVENT)
    post("/v1/track", {"userId": "1"})
    post("/v1/track", EVENT, Authentication=None)
    client.get("/v1/pixel/track")
    client.get("/v1/pixel/nonsense")
    client.options("/v1/track")
    assert of(scrape(), "tracklog_requests_total") == {
        ("tracklog_requests_total", "/v1/track", "200"): 2,
        ("tracklog_requests_total", "/v1/t", "200"): 1,
        ("tracklog_requests_total", "/v1/track", "400"): 1,
        ("tracklog_requests_total", "/v1/track", "401"): 1,
        ("tracklog_requests_total", "/v1/track", "204"): 1,
        ("tracklog_requests_total", "/v1/pixel/<type>", "401"): 2,
        ("tracklog_requests_total", "none", "404"): 0,
    }


def test_requests_without_a_route_are_counted_together(shared, client, scrape):
    for path in ("/", "/a", "/b/c", "/v1//track", "/v1/pixel/a/b"):
        client.get(path)
    client.post("/healthz")
    assert of(scrape(), "tracklog_requests_total") == {
        ("tracklog_requests_total", "none", "404"): 5,
        ("tracklog_requests_total", "none", "405"): 1,
    }


@pytest.mark.parametrize("hook", ["before_request", "after_request"])
def test_a_failing_request_is_counted(app, shared, client, scrape, hook):
    fails = [True]

    def fail(response=None):
        if fails:
            raise ZeroDivisionError(fails.pop())
        return response

    getattr(app, hook)(fail)
    client.get("/healthz")
    ((key, value),) = [sample for sample in of(scrape(), "tracklog_requests_total").items() if sample[1]]
    assert (key[:2], value) == (("tracklog_requests_total", "/healthz"), 1)
    assert key[2] != "200"


def test_requests_and_commits_are_timed(shared, post, scrape, monkeypatch):
    for n in range(3):
        post("/v1/track", EVENT | {"messageId": str(n)})
    post("/v1/batch", {"batch": [EVENT | {"type": "track", "messageId": str(n)} for n in range(7)] + [1]})
    post("/v1/m")
    told = scrape()
    assert told["tracklog_request_seconds_count",] == 5
    assert told["tracklog_commit_seconds_count",] == 4
    assert 0 < told["tracklog_commit_seconds_sum",] < told["tracklog_request_seconds_sum",] < 5
    assert (told["tracklog_group_events_count",], told["tracklog_group_events_sum",]) == (4, 11)
    buckets = [told["tracklog_group_events_bucket", bound] for bound in ("1.0", "2.0", "5.0", "10.0", "+Inf")]
    assert buckets == [3, 3, 3, 4, 4]


def test_a_failed_commit_is_not_counted(shared, post, scrape, path):
    post("/v1/track", EVENT)
    os.rename(path, path + ".away")
    assert post("/v1/track", EVENT)[0] == 503
    told = scrape()
    assert told["tracklog_commit_seconds_count",] == 1
    assert told["tracklog_requests_total", "/v1/track", "503"] == told["tracklog_log_failures_total",] == 1


def test_a_failed_readiness_check_is_counted_as_a_failure_of_the_log(shared, client, scrape, path):
    os.rename(path, path + ".away")
    assert client.get("/readyz").status_code == 503
    assert scrape()["tracklog_log_failures_total",] == 1


def test_a_new_histogram_needs_only_its_entry_in_the_table(app, folder, scrape, monkeypatch):
    monkeypatch.setitem(metrics.HISTOGRAMS, "tracklog_new_seconds", ((1, 2), "New"))
    app.extensions["metrics"].start_counting(folder)
    new_tally(folder).histograms["tracklog_new_seconds"].observe(1.5)
    assert scrape()["tracklog_new_seconds_bucket", "2.0"] == 1


def count_in_a_process(folder, requests):
    script = """
import os, sys
from telemetry import metrics
os.makedirs(sys.argv[1], exist_ok=True)
tally = metrics.WorkerMetrics(sys.argv[1])
for _ in range(int(sys.argv[2])):
    tally.requests.labels("/v1/track", 200).inc()
    tally.histograms["tracklog_request_seconds"].observe(0.002)
print("counted", flush=True)
sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, folder, str(requests)],
        cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "counted\n"
    return process


def end(process):
    process.kill()
    process.communicate()


def test_the_counts_of_all_processes_are_added_up(shared, folder, scrape):
    """The next process continues the files of one that was killed."""

    def told():
        samples = scrape()
        return samples["tracklog_requests_total", "/v1/track", "200"], samples[
            "tracklog_request_seconds_bucket", "0.0025"
        ]

    first, second = count_in_a_process(folder, 3), count_in_a_process(folder, 4)
    before = scrape()["tracklog_request_seconds_bucket", "0.0005"]
    assert told()[0] == 7
    end(first)
    assert told()[0] == 7
    files = set(os.listdir(folder))
    third = count_in_a_process(folder, 5)
    requests, within = told()
    assert requests == 12
    assert within >= 12 + before
    assert set(os.listdir(folder)) == files
    end(second)
    end(third)


def new_tally(folder):
    os.makedirs(folder, exist_ok=True)
    return metrics.WorkerMetrics(folder)


def test_threads_lose_no_count(shared, folder, scrape):
    tally = new_tally(folder)

    def count():
        for n in range(20_000):
            tally.requests.labels(f"/{n % 5}", 200).inc()
            tally.count_commit(0.25, 1)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)
    samples = scrape()
    assert [samples["tracklog_requests_total", f"/{n}", "200"] for n in range(5)] == [16_000] * 5
    assert (samples["tracklog_commit_seconds_count",], samples["tracklog_commit_seconds_sum",]) == (80_000, 20_000)


def test_the_file_has_room_for_every_route_and_status(app, folder):
    tally = new_tally(folder)
    routes = {rule.rule for rule in app.url_map.iter_rules()} | {metrics.UNMATCHED_ROUTE}
    statuses = {status for status, _ in errors.CODES.values()} | {200, 204, 500}
    for labels in [(route, status) for route in routes for status in statuses]:
        tally.requests.labels(*labels).inc()
    assert os.path.getsize(f"{folder}/counter_0.db") == metrics.METRICS_FILE_BYTES


def test_metrics_files_are_allocated_on_disk(folder):
    """A write through memory to a file with holes kills the process if the disk is full."""
    new_tally(folder)
    for kind in ("counter", "gauge_max", "histogram"):
        assert os.stat(f"{folder}/{kind}_0.db").st_blocks * 512 >= metrics.METRICS_FILE_BYTES


def test_a_worker_without_metrics_files_still_serves(app, post, scrape, folder, caplog):
    Path(folder).write_text("in the way")
    app.extensions["metrics"].start_counting(folder)
    assert post("/v1/track", EVENT)[0] == 200
    told = scrape()
    assert told["tracklog_events_stored_total", "example", "track"] == 1
    assert of(told, "tracklog_requests_") == {}
    assert "this worker's requests and commits are not counted" in caplog.text


def test_an_incomplete_metrics_file_is_ignored(shared, folder, client, scrape):
    Path(folder, "counter_9.db").touch()
    Path(folder, "histogram_9.db").write_bytes(bytes(metrics.METRICS_FILE_BYTES))
    client.get("/healthz")
    assert scrape()["tracklog_requests_total", "/healthz", "200"] == 1


@pytest.mark.parametrize("requests_before", [0, 1])
def test_a_worker_still_serves_after_its_counts_are_deleted(shared, folder, client, scrape, requests_before):
    for _ in range(requests_before):
        client.get("/healthz")
    shutil.rmtree(folder)
    assert client.get("/healthz").status_code == client.get("/openapi.json").status_code == 200
    assert of(scrape(), "tracklog_requests_") == {}
    os.mkdir(folder)
    client.get("/v1/m")
    assert os.listdir(folder) == []


def test_commands_count_nothing(runner, path, log, folder, monkeypatch):
    os.mkdir(folder)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", folder)
    before = set(os.listdir(os.path.dirname(path)))
    assert runner.invoke(args=["events", "stats"]).exit_code == 0
    log.append([event()])
    assert set(os.listdir(os.path.dirname(path))) - {"tracklog.db-wal", "tracklog.db-shm"} <= before
    assert os.listdir(folder) == []


# Documentation


@pytest.fixture
def families(shared, client):
    """The names of all metrics with their meanings."""
    client.get("/healthz")
    return dict(re.findall(r"^# HELP (\S+) (.+)$", client.get("/metrics").text, re.MULTILINE))


def test_every_metric_is_documented_with_its_labels(families, scrape, log, post):
    assert len(families) == len(metrics.LOG_METRICS) + len(metrics.HISTOGRAMS) + 3
    labels = {name: labels for name, (_, labels, _) in metrics.LOG_METRICS.items()}
    labels["tracklog_requests_total"] = ("route", "status")
    for name, meaning in families.items():
        named = ", ".join(f"`{label}`" for label in labels.get(name, ()))
        assert f"| `{name}` | {named} | {meaning} |".replace("|  |", "| |") in MONITOR


def test_every_documented_metric_exists(families):
    assert set(re.findall(r"^\| `(tracklog_\w+)`", MONITOR, re.MULTILINE)) == set(families)


def test_metrics_are_named_by_convention(families, client):
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", client.get("/metrics").text, re.MULTILINE))
    assert set(kinds) == set(families)
    for name, kind in kinds.items():
        assert re.fullmatch(r"tracklog(_[a-z]+)+", name)
        assert name.endswith("_total") is (kind == "counter")
        assert kind != "histogram" or name.endswith(("_seconds", "_events"))


def test_every_alert_uses_existing_metrics(families):
    rules = yaml.safe_load((PROJECT / "deploy" / "alerts.yml").read_text())["groups"][0]["rules"]
    asked = [name for rule in rules for name in re.findall(r"tracklog_\w+", rule["expr"])]
    assert len(asked) > 4
    assert set(asked) <= set(families)
    for rule in rules:
        assert f"| `{rule['alert']}` |" in MONITOR
        assert rule["annotations"]["summary"]


# Backups, starts and the clock


def test_the_age_of_the_newest_backup_is_that_of_any_process(log, path, scrape, runner, tmp_path):
    assert scrape()["tracklog_backup_age_seconds",] == inf
    with pytest.raises(eventlog.NotPossible):
        log.back_up(path, lambda *_: None)
    assert scrape()["tracklog_backup_age_seconds",] == inf
    for name in ("first.db", "second.db"):
        assert runner.invoke(args=["events", "backup", str(tmp_path / name)]).exit_code == 0
        assert scrape()["tracklog_backup_age_seconds",] < 60
        os.utime(path + "-backup-time", (0, 0))
        assert scrape()["tracklog_backup_age_seconds",] > 86_400


def test_a_backup_succeeds_even_if_its_time_cannot_be_noted(log, path, scrape, tmp_path):
    os.symlink(tmp_path / "elsewhere", path + "-backup-time")
    log.back_up(str(tmp_path / "backup.db"), lambda *_: None)
    assert (tmp_path / "backup.db").exists()
    assert not (tmp_path / "elsewhere").exists()
    assert scrape()["tracklog_backup_age_seconds",] == inf


def test_the_start_of_the_newest_worker_is_known(shared, folder, scrape):
    first = scrape()["tracklog_worker_start_seconds",]
    assert first == pytest.approx(time.time(), abs=600)
    other = count_in_a_process(folder, 0)
    second = scrape()["tracklog_worker_start_seconds",]
    assert second > first
    end(other)
    assert scrape()["tracklog_worker_start_seconds",] == second


def test_the_clock_is_shown_even_without_a_log(scrape, path):
    os.rename(path, path + ".away")
    assert scrape()["tracklog_clock_seconds",] == pytest.approx(time.time(), abs=600)
