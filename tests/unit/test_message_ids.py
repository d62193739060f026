"""The messageIds of the service are unique, ordered by time and near the clock."""

import os
import time
from itertools import pairwise
from uuid import RFC_4122, UUID

from ingest.stamping import make_message_id


def milliseconds(id):
    return id.int >> 80


def test_ids_are_unique_sorted_and_current():
    before = time.time_ns() // 1_000_000
    ids = [make_message_id() for _ in range(25_000)]
    after = time.time_ns() // 1_000_000
    assert all(str(one) < str(next) for one, next in pairwise(ids))
    assert before <= milliseconds(ids[0]) <= milliseconds(ids[-1]) <= after + 10
    assert {(id.version, id.variant) for id in ids} == {(7, RFC_4122)}


def test_ids_of_a_clock_that_stands_still_are_sorted(monkeypatch):
    """Each id takes 1/4096 of a millisecond, so a batch of 25,000 takes the next seven."""
    now = time.time_ns() + 3_600_000_000_000
    monkeypatch.setattr("time.time_ns", lambda: now)
    ids = [make_message_id() for _ in range(25_000)]
    assert ids == sorted(set(ids))
    assert milliseconds(ids[-1]) - now // 1_000_000 <= 7


def test_ids_follow_a_clock_that_is_set_back(monkeypatch):
    in_an_hour = time.time_ns() + 3_600_000_000_000
    with monkeypatch.context() as patch:
        patch.setattr("time.time_ns", lambda: in_an_hour)
        assert milliseconds(make_message_id()) == in_an_hour // 1_000_000
    assert milliseconds(make_message_id()) <= time.time_ns() // 1_000_000


def test_processes_after_a_fork_make_different_ids():
    """Each process starts with the same latest id."""
    make_message_id()
    read_end, write_end = os.pipe()
    children = []
    for _ in range(2):
        child = os.fork()
        if not child:
            os.write(write_end, b"".join(make_message_id().bytes for _ in range(100)))
            os._exit(0)
        children.append(child)
    own = [make_message_id().bytes for _ in range(100)]
    for child in children:
        os.waitpid(child, 0)
    os.close(write_end)
    with open(read_end, "rb") as pipe:
        sent = pipe.read()
    theirs = [sent[at : at + 16] for at in range(0, len(sent), 16)]
    assert len(theirs) == 200
    assert len({id[8:] for id in own + theirs}) == 300, "the random part"


def test_a_batch_without_ids_gets_current_ids(post, stored):
    post("/v1/batch", {"batch": [{"type": "identify", "userId": str(number)} for number in range(5000)]})
    ids = [UUID(event["messageId"]) for event in stored()]
    assert ids == sorted(ids)
    assert milliseconds(ids[-1]) <= time.time_ns() // 1_000_000
