"""Killed and stopped workers, and a clock set back, lose no acknowledged event."""

import http.client
import os
import signal
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from faults import check_counts, kill, kill_worker, load, many, send_again
from service import posted, repeated_or_invalid, wait_until


@pytest.mark.smoke
@pytest.mark.parametrize("kills", [5, pytest.param(40, marks=pytest.mark.full)])
def test_killed_workers_lose_no_event(running, compare, kills):
    with load(running, 64, repeated_or_invalid) as clients:
        for _ in range(kills):
            clients.go_on(200)
            kill_worker(running)
    assert {answer.status for answer in clients.refused} == {400}
    compare(f"{kills} workers killed", clients, running)
    counted = dict(running.query("SELECT outcome, sum(count) FROM counts GROUP BY outcome"))
    duplicates = sum("duplicate" in answer.body for answer in clients.acknowledged)
    unknown = len(clients.failed)  # some of them were counted
    assert duplicates <= counted["duplicate"] <= duplicates + unknown
    assert len(clients.refused) <= counted["rejected"] <= len(clients.refused) + unknown
    send_again(running, clients)
    check_counts(running)


@pytest.mark.smoke
def test_killing_all_processes_at_once_loses_no_event(running, compare):
    with load(running, 16) as clients:
        clients.go_on(500)
        for pid in [running.process.pid, *running.workers()]:
            kill(pid)
        running.process.wait()
    running.start()
    send_again(running, clients)
    compare("everything killed at once", clients, running)


def locks(pid):
    """Return the write locks of a process: pairs of a file's inode and the first locked byte."""
    lines = [line.split() for line in Path("/proc/locks").read_text().splitlines() if "->" not in line]
    return {(int(line[5].split(":")[2]), line[6]) for line in lines if int(line[4]) == pid and line[3] == "WRITE"}


@contextmanager
def worker_stopped_in_transaction(service):
    """Stop a worker that writes a large batch, and resume it at the end of the block. Yield its pid."""
    thread = threading.Thread(target=post_without_answer, args=(service, many(20_000)))
    thread.start()
    write_lock = os.stat(f"{service.database}-shm").st_ino, "120"  # the byte that SQLite's writer locks

    def stop_the_writer():
        for pid in service.workers():
            if write_lock in locks(pid):
                os.kill(pid, signal.SIGSTOP)
                if write_lock in locks(pid):
                    return pid
                os.kill(pid, signal.SIGCONT)
        return None

    stopped = wait_until(stop_the_writer)
    try:
        yield stopped
    finally:
        if stopped in service.workers():
            os.kill(stopped, signal.SIGCONT)
        thread.join(60)
        assert not thread.is_alive()


def post_without_answer(service, batch):
    """Post a batch, whose answer may not come."""
    with suppress(OSError, http.client.HTTPException):
        service.post("/v1/batch", batch)


@pytest.mark.parametrize("end", ["goes on", "is killed by gunicorn"])
def test_a_worker_stopped_in_a_transaction_loses_no_event(service, compare, end):
    """Its own clients wait. Clients of other workers get 503 in time."""
    service.start("--timeout", "60" if end == "goes on" else "10")
    with load(service, 4) as before:
        before.go_on()
        with worker_stopped_in_transaction(service) as stopped, load(service, 8, posted_meanwhile) as clients:
            clients.are_refused(16)
            assert service.is_healthy()
            if end != "goes on":
                wait_until(lambda: stopped not in service.workers())
                clients.go_on()
        before.go_on()
    send_again(service, before, clients)
    compare(f"a worker stopped in a transaction {end}", [before, clients], service)


def posted_meanwhile(client, count):
    return posted(f"meanwhile-{client}", count)


def test_a_clock_set_back_an_hour_loses_no_event(service, clock, compare):
    service.start()
    with load(service, 8, without_message_id) as clients:
        clients.go_on()
        clock.write_text("-3600")
        clients.go_on()
    assert clients.refused == clients.failed == []
    compare("clock set back an hour", clients, service)
    times = service.query("SELECT received_at FROM events ORDER BY id")
    assert times != sorted(times)
    assert len(clients.acknowledged_ids()) == len(clients.acknowledged)
    last = {}
    for client, count in service.query("SELECT user_id, name FROM events ORDER BY id"):
        assert int(count) == last.get(client, 0) + 1
        last[client] = int(count)


def without_message_id(client, count):
    return {"userId": str(client), "event": str(count)}
