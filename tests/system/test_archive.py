"""Every event is in the archive once, whenever the forwarder dies."""

import gzip
import json
import random
import signal
import subprocess
import threading
from contextlib import contextmanager

import pytest
from service import BIN, PROJECT, SOURCE_ID

BATCH = 20


class Senders:
    """Post batches of two sources until told to stop, and remember what was answered."""

    def __init__(self, service, headers):
        self.statuses = []
        self._service = service
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._post, args=(number, headers[number % 2])) for number in range(4)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _post(self, sender, headers):
        count = 0
        while not self._stop.is_set():
            count += 1
            batch = [
                {"type": "track", "userId": str(sender), "event": "Posted ☃", "messageId": f"{sender}-{count}-{n}"}
                for n in range(BATCH)
            ]
            self.statuses.append(self._service.post("/v1/batch", {"batch": batch}, headers)[0])


@contextmanager
def forwarder(service):
    """A forwarder that is killed in the end, wherever it is."""
    with open(service.folder / "forward.log", "a") as output:
        process = subprocess.Popen(
            [BIN / "flask", "forward"], cwd=PROJECT, env=service.environment, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def lines_of(path):
    """Return an object's lines, which have to be all that it has."""
    return gzip.decompress(path.read_bytes()).decode().splitlines()


def files_of(folder, ending):
    return {path for path in folder.rglob("*") if path.name.endswith(ending)}


def sight(folder, ending, process):
    """Return as soon as the forwarder has made another file with this ending."""
    seen = files_of(folder, ending)
    while files_of(folder, ending) <= seen:
        assert process.poll() is None


@pytest.mark.parametrize("kills", [6, pytest.param(30, marks=pytest.mark.full)])
def test_every_event_is_in_one_object_once_however_often_the_forwarder_is_killed(service, basic, kills):
    folder = service.folder / "archive"
    folder.mkdir()
    service.flask("sources", "add", "../website", "--source-id", "other")
    service.flask("destinations", "add", "archive", f"archive+file://{folder}?seconds=0.1")
    service.start()

    with Senders(service, [basic(SOURCE_ID), basic("other")]) as senders:
        for kill in range(kills):
            with forwarder(service) as process:
                for _ in range(random.randint(1, 3)):
                    sight(folder, ".ndjson.gz", process)
                sight(folder, ".part" if kill % 3 == 0 else ".ndjson.gz", process)
            for path in files_of(folder, ".ndjson.gz"):
                assert lines_of(path)
    drained = service.flask("forward", "archive", "--once", check=False)
    assert drained.returncode == 0, drained.stderr

    assert set(senders.statuses) == {200}
    archived = {path: lines_of(path) for path in files_of(folder, ".ndjson.gz")}
    assert len(archived) > 2 * kills
    exported = service.flask("events", "export").stdout.splitlines()
    assert len(exported) == BATCH * len(senders.statuses)
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
