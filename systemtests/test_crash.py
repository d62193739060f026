"""Nothing that was acknowledged is lost, whatever dies."""

import os
import signal
import sqlite3
import threading
import time

import pytest
from service import Clients, wait_until


def kill_workers_again_and_again(service, clients, kills):
    for _ in range(kills):
        seen = len(clients.acknowledged)
        wait_until(lambda seen=seen: len(clients.acknowledged) > seen + 200)
        victim = wait_until(service.workers)[0]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda victim=victim: victim not in service.workers())


@pytest.mark.parametrize("kills", [5, pytest.param(40, marks=pytest.mark.full)])
def test_workers_killed_under_64_clients_lose_no_acknowledged_event_and_store_none_twice(running, kills):
    with Clients(running.port, 64) as clients:
        kill_workers_again_and_again(running, clients, kills)
    stored = [message_id for (message_id,) in running.query("SELECT message_id FROM events")]
    assert len(clients.acknowledged) > 200 * kills
    assert {message_id for message_id, _ in clients.acknowledged} - set(stored) == set()
    assert len(stored) == len(set(stored))
    assert clients.refused == []
    counted = dict(running.query("SELECT outcome, sum(count) FROM counts GROUP BY outcome"))
    assert counted["stored"] == len(stored)


def test_everything_killed_at_once_loses_no_acknowledged_event(running):
    with Clients(running.port, 16) as clients:
        wait_until(lambda: len(clients.acknowledged) > 500)
        pids = [running.process.pid, *running.workers()]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        running.process.wait()
    running.start()
    stored = {message_id for (message_id,) in running.query("SELECT message_id FROM events")}
    assert {message_id for message_id, _ in clients.acknowledged} - stored == set()
    assert running.post("/v1/track", {"userId": "1", "event": "After"})[0] == 200


def test_a_log_locked_by_somebody_else_is_answered_with_503_in_time_and_taken_again_after(running):
    assert running.post("/v1/track", {"userId": "1", "event": "Before"})[0] == 200
    locker = sqlite3.connect(running.database, isolation_level=None)
    locker.execute("BEGIN EXCLUSIVE")
    started = time.monotonic()
    answers = []
    thread = threading.Thread(
        target=lambda: answers.append(running.post("/v1/track", {"userId": "1", "event": "During"}))
    )
    thread.start()
    while thread.is_alive():
        asked = time.monotonic()
        assert running.request("GET", "/healthz")[0] == 200
        assert time.monotonic() - asked < 2
        time.sleep(0.05)
    assert time.monotonic() - started < 5
    assert answers[0][0] == 503
    assert answers[0][1]["code"] == "storage_unavailable"
    locker.execute("ROLLBACK")
    locker.close()
    assert running.post("/v1/track", {"userId": "1", "event": "After"})[0] == 200


def test_a_log_that_was_moved_away_is_never_made_anew(running):
    assert running.post("/v1/track", {"userId": "1", "event": "Before"})[0] == 200
    away = running.folder / "away.db"
    running.database.rename(away)
    assert running.post("/v1/track", {"userId": "1", "event": "During"})[0] == 503
    assert not running.database.exists()
    away.rename(running.database)
    assert running.post("/v1/track", {"userId": "1", "event": "After"})[0] == 200
    assert running.query("SELECT name FROM events ORDER BY id")[-1] == ("After",)


def test_a_write_ahead_log_that_was_deleted_costs_no_acknowledged_event(running):
    with Clients(running.port, 8) as clients:
        wait_until(lambda: len(clients.acknowledged) > 200)
        (running.folder / "tracklog.db-wal").unlink()
        wait_until(lambda: clients.refused)
        seen = len(clients.acknowledged)
        wait_until(lambda: len(clients.acknowledged) > seen + 200)
    for pid in [running.process.pid, *running.workers()]:
        os.kill(pid, signal.SIGKILL)
    running.process.wait()
    stored = {message_id for (message_id,) in running.query("SELECT message_id FROM events")}
    assert {message_id for message_id, _ in clients.acknowledged} - stored == set()
    assert running.query("PRAGMA integrity_check") == [("ok",)]
