"""Every event is in the archive once, although the forwarder is killed again and again."""

import gzip
import itertools
import json
import random
from contextlib import ExitStack

import pytest
from forwarder import forwarder, repeated
from service import SOURCE_ID

BATCH = 20


def post_batches(service, sender, headers, statuses):
    """Return a function that posts the sender's next batch and appends the status of its answer."""
    numbers = itertools.count()

    def post():
        number = next(numbers)
        batch = [
            {"type": "track", "userId": str(sender), "event": "Posted ☃", "messageId": f"{sender}-{number}-{n}"}
            for n in range(BATCH)
        ]
        statuses.append(service.post("/v1/batch", {"batch": batch}, headers)[0])

    return post


def lines_of(path):
    """Return the lines of an object. Fail if it is not complete."""
    return gzip.decompress(path.read_bytes()).decode().splitlines()


def files_of(folder, ending):
    return {path for path in folder.rglob("*") if path.name.endswith(ending)}


def wait_for_file(folder, ending, process):
    """Return as soon as the forwarder has created another file with this ending."""
    seen = files_of(folder, ending)
    while files_of(folder, ending) <= seen:
        assert process.poll() is None


@pytest.mark.parametrize("kills", [6, pytest.param(30, marks=pytest.mark.full)])
def test_kills_of_the_forwarder_neither_lose_nor_repeat_events(service, basic, kills):
    folder = service.folder / "archive"
    folder.mkdir()
    service.flask("sources", "add", "../website", "--source-id", "other")
    service.flask("destinations", "add", "archive", f"archive+file://{folder}?seconds=0.1")
    service.start()

    statuses, headers = [], [basic(SOURCE_ID), basic("other")]
    with ExitStack() as stack:
        for sender in range(4):
            stack.enter_context(repeated(post_batches(service, sender, headers[sender % 2], statuses)))
        for kill in range(kills):
            with forwarder(service) as process:
                for _ in range(random.randint(1, 3)):
                    wait_for_file(folder, ".ndjson.gz", process)
                wait_for_file(folder, ".part" if kill % 3 == 0 else ".ndjson.gz", process)
                process.kill()
            for path in files_of(folder, ".ndjson.gz"):
                assert lines_of(path)
    drained = service.flask("forward", "archive", "--once", check=False)
    assert drained.returncode == 0, drained.stderr

    assert set(statuses) == {200}
    archived = {path: lines_of(path) for path in files_of(folder, ".ndjson.gz")}
    assert len(archived) > 2 * kills
    exported = service.flask("events", "export").stdout.splitlines()
    assert len(exported) == BATCH * len(statuses)
    assert sorted(line for lines in archived.values() for line in lines) == sorted(exported)
    assert {path for path in folder.rglob("*") if path.is_file()} == set(archived)

    received = dict(service.query("SELECT id, substr(received_at, 1, 10) FROM events"))
    for path, lines in archived.items():
        events = [json.loads(line) for line in lines]
        ids = [event["id"] for event in events]
        assert ids == sorted(ids)
        assert path.name == f"{ids[0]:012}-{ids[-1]:012}.ndjson.gz"
        assert {received[id] for id in ids} == {path.parent.name}
        folders = {"example": "example", "../website": "%2E.%2Fwebsite"}
        assert {folders[event["source"]] for event in events} == {path.parent.parent.name}
    assert {path.parent.parent.parent for path in archived} == {folder}
