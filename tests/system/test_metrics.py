"""GET /metrics of several workers, which die and are replaced; and the alerts on it."""

import os
import re
import signal
import subprocess
from contextlib import suppress

import pytest
from needs import need
from service import PROJECT, Clients, posted, wait_until

EVENT = {"userId": "1", "event": "Posted"}
EVENTS = ("tracklog_events_stored_total", "tracklog_events_duplicate_total", "tracklog_events_rejected_total")


def scrape(service):
    """Return what any worker tells: a sample's name with its labels, as it is written -> value."""
    while True:
        with suppress(OSError), service.connection() as connection:  # of a worker that is killed meanwhile
            connection.request("GET", "/metrics")
            response = connection.getresponse()
            assert response.status == 200
            lines = response.read().decode().splitlines()
            return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def total(samples, *names):
    return sum(value for name, value in samples.items() if name.partition("{")[0] in names)


def files(service):
    return sorted(os.listdir(f"{service.database}-metrics"))


def reload(service):
    """Replace all workers, and wait until those of before have ended."""
    before = set(service.workers())
    service.process.send_signal(signal.SIGHUP)
    wait_until(lambda: len(service.workers()) == len(before) and not before & set(service.workers()))
    wait_until(service.is_healthy)


def repeated_and_broken(client, count):
    """Return an event that was sent before, or is not one, once in a while."""
    event = posted(client, count - 1 if count % 5 == 0 else count)
    if count % 7 == 0:
        del event["event"]
    return event


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.full)])
def test_counters_of_events_neither_fall_nor_jump_when_a_worker_is_killed(running, kills):
    number, scrapes = 16, []

    def look():
        least = len(clients.acknowledged) + len(clients.refused)
        told = scrape(running)
        most = len(clients.acknowledged) + len(clients.refused) + len(clients.failed) + number
        assert least <= total(told, *EVENTS) <= most
        for name, value in scrapes[-1].items() if scrapes else ():
            if "_total" in name:
                assert told[name] >= value, name
        scrapes.append(told)

    with Clients(running.port, number, repeated_and_broken, per_connection=20) as clients:
        for _ in range(kills):
            for _ in range(10):
                clients.go_on(50)
                look()
            victim, other = running.workers()
            os.kill(victim, signal.SIGKILL)
            look()
            wait_until(lambda old={victim, other}: set(running.workers()) - old)
            for _ in range(10):
                clients.go_on(50)
                look()
    told = scrape(running)
    unknown = len(clients.failed)  # some of those were counted
    duplicates = sum("duplicate" in answer.body for answer in clients.acknowledged)
    answers = [len(clients.acknowledged) - duplicates, duplicates, len(clients.refused)]
    for name, seen in zip(EVENTS, answers, strict=True):
        assert 0 < seen <= total(told, name) <= seen + unknown
    requests = sum(
        value for name, value in told.items() if name.startswith('tracklog_requests_total{route="/v1/track"')
    )
    assert sum(answers) <= requests <= sum(answers) + unknown
    print(f"{len(scrapes)} scrapes; {total(told, *EVENTS):.0f} counted, {sum(answers)} answered, {unknown} unknown")


def test_requests_are_added_up_over_workers_and_reloads_and_leave_no_more_files_than_workers(running):
    for round in range(1, 5):
        for _ in range(20):
            assert running.post("/v1/track", EVENT)[0] == 200
        for _ in range(5):
            told = scrape(running)
            assert told['tracklog_requests_total{route="/v1/track",status="200"}'] == 20 * round
            assert told["tracklog_group_events_sum"] == 20 * round
        reload(running)
    at_once = 4  # two workers, and two that replace them
    assert set(files(running)) <= {
        name for n in range(at_once) for name in (f"{n}.lock", f"counter_{n}.db", f"histogram_{n}.db")
    }


def test_a_service_that_starts_counts_requests_anew_and_events_on(service):
    service.start()
    for _ in range(3):
        service.post("/v1/track", EVENT)
    service.stop()
    service.start("--workers", "1")
    told = scrape(service)
    assert total(told, "tracklog_events_stored_total") == 3
    assert 'tracklog_requests_total{route="/v1/track",status="200"}' not in told
    assert files(service) == ["0.lock", "counter_0.db", "histogram_0.db"]


def test_commands_write_no_files_of_metrics(service):
    service.environment["PROMETHEUS_MULTIPROC_DIR"] = str(service.folder)
    before = set(os.listdir(service.folder))
    service.flask("events", "stats")
    service.flask("forward", "--once")
    assert set(os.listdir(service.folder)) == before


def test_prometheus_finds_no_fault_with_the_metrics(running):
    need("promtool")
    running.post("/v1/track", EVENT)
    with running.connection() as connection:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read()
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
    assert (checked.returncode, checked.stderr) == (0, b"")


def test_the_alerts_speak_up_when_and_only_when_something_is_wrong():
    need("promtool")
    checked = subprocess.run(
        ["promtool", "test", "rules", "tests/system/alerts_test.yml"], cwd=PROJECT, capture_output=True, text=True
    )
    print(checked.stdout, checked.stderr)
    assert checked.returncode == 0
    assert re.search("SUCCESS", checked.stdout)
