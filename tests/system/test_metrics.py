"""GET /metrics adds up the workers, also when they are killed and replaced."""

import os
import signal
import subprocess
from contextlib import suppress

import pytest
from needs import need
from service import EVENT, Clients, repeated_or_invalid, wait_until

EVENTS = ("tracklog_events_stored_total", "tracklog_events_duplicate_total", "tracklog_events_rejected_total")


def scrape(service):
    """Return the samples of one worker: the value by name with labels."""
    while True:
        with suppress(OSError), service.connection() as connection:  # if the worker is killed meanwhile
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
    """Replace all workers, and wait until the old ones have ended."""
    before = set(service.workers())
    service.process.send_signal(signal.SIGHUP)
    wait_until(lambda: len(service.workers()) == len(before) and not before & set(service.workers()))
    wait_until(service.is_healthy)


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.full)])
def test_event_counters_stay_right_when_a_worker_is_killed(running, kills):
    number, scrapes = 16, []

    def look():
        least = len(clients.acknowledged) + len(clients.refused)
        samples = scrape(running)
        most = len(clients.acknowledged) + len(clients.refused) + len(clients.failed) + number
        assert least <= total(samples, *EVENTS) <= most
        for name, value in scrapes[-1].items() if scrapes else ():
            if "_total" in name:
                assert samples[name] >= value, name
        scrapes.append(samples)

    with Clients(running.port, number, repeated_or_invalid, per_connection=20) as clients:
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
    samples = scrape(running)
    unknown = len(clients.failed)  # some of them were counted
    duplicates = sum("duplicate" in answer.body for answer in clients.acknowledged)
    answers = [len(clients.acknowledged) - duplicates, duplicates, len(clients.refused)]
    for name, seen in zip(EVENTS, answers, strict=True):
        assert 0 < seen <= total(samples, name) <= seen + unknown
    requests = sum(
        value for name, value in samples.items() if name.startswith('tracklog_requests_total{route="/v1/track"')
    )
    assert sum(answers) <= requests <= sum(answers) + unknown
    print(f"{len(scrapes)} scrapes; {total(samples, *EVENTS):.0f} counted, {sum(answers)} answered, {unknown} unknown")


def test_requests_are_added_up_over_workers_and_reloads(running):
    """There are only as many metric files as workers at a time."""
    for round in range(1, 5):
        for _ in range(20):
            assert running.post("/v1/track", EVENT)[0] == 200
        for _ in range(5):
            samples = scrape(running)
            assert samples['tracklog_requests_total{route="/v1/track",status="200"}'] == 20 * round
            assert samples["tracklog_group_events_sum"] == 20 * round
        reload(running)
    at_once = 4  # two workers and their replacements
    assert set(files(running)) <= {
        name
        for n in range(at_once)
        for name in (f"{n}.lock", f"counter_{n}.db", f"gauge_max_{n}.db", f"histogram_{n}.db")
    }


def test_a_restart_resets_the_requests_and_keeps_the_events(service):
    service.start()
    for _ in range(3):
        service.post("/v1/track", EVENT)
    service.stop()
    service.start("--workers", "1")
    samples = scrape(service)
    assert total(samples, "tracklog_events_stored_total") == 3
    assert 'tracklog_requests_total{route="/v1/track",status="200"}' not in samples
    assert files(service) == ["0.lock", "counter_0.db", "gauge_max_0.db", "histogram_0.db"]


def test_commands_write_no_metric_files(service):
    service.environment["PROMETHEUS_MULTIPROC_DIR"] = str(service.folder)
    before = set(os.listdir(service.folder))
    service.flask("events", "stats")
    service.flask("forward", "--once")
    assert set(os.listdir(service.folder)) == before


def test_promtool_accepts_the_metrics(running):
    need("promtool")
    running.post("/v1/track", EVENT)
    with running.connection() as connection:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read()
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
    assert (checked.returncode, checked.stderr) == (0, b"")
