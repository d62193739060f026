"""Thousands of bad requests all get an answer of the API, and the log holds the acknowledged events."""

import random
import sqlite3
import time
from collections import Counter

import pytest
from mutations import Mutations
from wire import KeptConnection, converse


class Storm:
    """Sends requests one after the other and counts the answers."""

    def __init__(self, port):
        self.port = port
        self.connection = KeptConnection(port)
        self.statuses, self.codes = Counter(), Counter()
        self.acknowledged = 0  # events, with duplicates
        self.sent = self.unanswered = 0
        self.longest = 0.0  # seconds

    def refused(self):
        return sum(count for status, count in self.statuses.items() if status >= 400)

    def send(self, request):
        self.sent += 1
        began = time.monotonic()
        if request.framed:
            answers = [self.connection.ask(request.sent, request.method)]
        else:
            answers = converse(self.port, request.sent, then_shut=True, method=request.method)
        self.longest = max(self.longest, time.monotonic() - began)
        self.unanswered += not answers
        for answer in answers:
            self.take(answer)

    def take(self, answer):
        self.statuses[answer.status] += 1
        self.codes[answer.code] += 1
        for rejection in answer.body.get("rejected", []):
            self.codes[rejection["code"]] += 1
        if (answer.status == 200 and answer.code == "gif") or "messageId" in answer.body:
            self.acknowledged += 1
        elif "received" in answer.body:
            good = answer.body["stored"] + answer.body["duplicates"]
            assert answer.body["received"] == good + answer.body["rejectedCount"]
            self.acknowledged += good


@pytest.mark.parametrize(
    ("number", "seed"),
    [(3000, 1), pytest.param(20_000, None, marks=pytest.mark.full, id="20000-random")],
)
def test_bad_input_is_answered_and_leaves_no_bad_row(running, number, seed):
    seed = seed or random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    workers, storm = running.workers(), Storm(running.port)
    requests = iter(Mutations(seed))
    while storm.refused() < number:
        storm.send(next(requests))
    storm.connection.close()
    print(f"{storm.sent} requests over {storm.connection.made} connections, longest answer {storm.longest:.2f} s")
    print(f"statuses {dict(sorted(storm.statuses.items()))}, without an answer {storm.unanswered}")
    print(f"codes {dict(storm.codes.most_common())}")

    assert running.workers() == workers
    assert "Traceback" not in running.said()
    assert_log_matches(running, storm)
    assert_readable(running)
    assert storm.acknowledged > number / 10
    assert len(storm.codes) > 25


def assert_log_matches(service, storm):
    counted = dict(service.query("SELECT outcome, sum(count) FROM counts GROUP BY outcome"))
    assert service.query("SELECT count(*) FROM events") == [(counted["stored"],)]
    assert storm.acknowledged == counted["stored"] + counted["duplicate"]
    assert service.query("SELECT sum(times_seen) FROM rejected") == [(counted["rejected"],)]
    assert service.flask("events", "check").returncode == 0
    print(f"counts {counted}")


def assert_readable(service):
    assert service.query("SELECT count(*) FROM events WHERE NOT json_valid(payload)") == [(0,)]
    views = service.query("SELECT name FROM sqlite_master WHERE type = 'view'")
    assert len(views) >= 6
    for (view,) in views:
        rows = len(service.query(f"SELECT * FROM {view}"))
        print(f"{view}: {rows} rows, read by SQLite {sqlite3.sqlite_version}")
