"""The archive has each event once, in complete objects named after their content."""

import gzip
import json
import os
import threading

import pytest
from factories import event, events, stored_event
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from eventlog import NotPossible, times
from forwarding import Forwarder, RetryLater, open_deliverer

LONG_AGO = "2015-11-10"


def objects(folder):
    """Return the lines of each object in a local folder, by name."""
    return {
        str(path.relative_to(folder)): gzip.decompress(path.read_bytes()).decode().splitlines()
        for path in sorted(folder.rglob("*.ndjson.gz"))
    }


def ids(folder):
    return [[json.loads(line)["id"] for line in lines] for lines in objects(folder).values()]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "archive"
    folder.mkdir()
    return folder


@pytest.fixture
def archive(folder):
    return open_deliverer(f"archive+file://{folder}")


@pytest.fixture(autouse=True)
def memory():
    """The files that fsspec keeps in memory, for one test."""
    MemoryFileSystem.store.clear()
    yield MemoryFileSystem.store
    MemoryFileSystem.store.clear()


class Once(threading.Event):
    """An event that stops a forwarder when it has nothing to do."""

    def wait(self, timeout=None):
        self.set()
        return True


@pytest.fixture
def forward(log, folder):
    """Return a function that forwards to an archive with these options, until it is idle."""
    log.destinations.add("archive", f"archive+file://{folder}", [], [], 0)

    def forward(options="", wrap=lambda kind: kind):
        kind = open_deliverer(f"archive+file://{folder}{options}")
        Forwarder(log, "archive", stop=Once(), open_deliverer=lambda *_: wrap(kind)).run()

    return forward


def test_each_source_and_date_has_its_own_object(archive, folder):
    archive.deliver(
        [
            stored_event(9, received_at="2015-11-10T23:59:59.999Z"),
            stored_event(10, source="website", received_at="2015-11-11T00:00:00.000Z"),
            stored_event(11, received_at="2015-11-11T00:00:00.000Z"),
            stored_event(12, received_at="2015-11-10T23:59:59.998Z"),
        ]
    )
    assert {name: [json.loads(line)["id"] for line in lines] for name, lines in objects(folder).items()} == {
        "example/2015-11-10/000000000009-000000000012.ndjson.gz": [9, 12],
        "example/2015-11-11/000000000011-000000000011.ndjson.gz": [11],
        "website/2015-11-11/000000000010-000000000010.ndjson.gz": [10],
    }


def test_an_object_has_the_lines_of_events_export(log, runner, forward, folder):
    log.append([*events(3), event("é ☃", source="a ☃", payload='{"event":"☃ é"}')])
    forward()
    exported = runner.invoke(args=["events", "export"]).stdout.splitlines()
    assert len(exported) == 4
    assert sorted(exported) == sorted(line for lines in objects(folder).values() for line in lines)


def test_object_names_sort_like_ids(archive, folder):
    for id in (9, 10, 999_999, 1_000_000):
        archive.deliver([stored_event(id)])
    assert ids(folder) == [[9], [10], [999_999], [1_000_000]]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("..", "%2E."),
        (".", "%2E"),
        ("../../etc", "%2E.%2F..%2Fetc"),
        ("/etc", "%2Fetc"),
        ("a b*[c]?", "a%20b%2A%5Bc%5D%3F"),
        ("my.site_1-2~", "my.site_1-2~"),
        ("é", "%C3%A9"),
        ("☃" * 300, ("%E2%98%83" * 300)[:200]),
    ],
)
@pytest.mark.parametrize("place", ["file", "memory"])
def test_no_source_writes_outside_its_folder(folder, memory, place, source, name):
    open_deliverer(f"archive+{place}://{folder}").deliver([stored_event(1, source=source)])
    expected = folder / name / LONG_AGO / "000000000001-000000000001.ndjson.gz"
    written = [str(path) for path in folder.parent.rglob("*.gz")] if place == "file" else list(memory)
    assert written == [str(expected)]
    assert expected.parent.parent.parent == folder


def test_the_same_events_always_make_the_same_bytes(archive, folder):
    written = [stored_event(n, name=f"text {n}") for n in range(1, 500)]
    archive.deliver(written)
    (path,) = folder.rglob("*.gz")
    first = path.read_bytes()
    path.unlink()
    archive.deliver(written)
    assert path.read_bytes() == first
    assert first[4:8] == bytes(4)  # the time in gzip's header


def test_an_object_has_at_most_the_given_bytes(log, forward, folder):
    log.append(events(5))
    forward("?bytes=40")
    assert ids(folder) == [[1, 2], [3, 4], [5]]


def test_an_object_is_written_after_the_given_seconds(log, forward, folder):
    now = times.now()
    log.append(events(2, received_at=now))
    forward("?seconds=3600")
    assert ids(folder) == []
    forward("?seconds=0")
    assert ids(folder) == [[1, 2]]


def test_a_full_object_is_written_at_once(log, forward, folder):
    now = times.now()
    log.append(events(5, received_at=now))
    forward("?seconds=3600&bytes=40")
    assert ids(folder) == [[1, 2], [3, 4]]


class Killed(BaseException):
    """The death of a process, which the forwarder cannot handle."""


@pytest.mark.parametrize("is_written", [False, True])
def test_a_forwarder_that_died_repeats_the_same_object(log, forward, folder, is_written):
    class Dying:
        def __init__(self, kind):
            self.kind = kind
            self.max_events, self.max_bytes = kind.max_events, kind.max_bytes
            self.max_wait_seconds, self.needs_same_batches = kind.max_wait_seconds, kind.needs_same_batches

        def deliver(self, events):
            if is_written:
                self.kind.deliver(events)
            raise Killed

        def close(self):
            pass

    log.append([event(1), event(2)])
    with pytest.raises(Killed):
        forward(wrap=Dying)
    before = ids(folder)
    assert before == ([[1, 2]] if is_written else [])
    log.append([event(3)])
    forward()
    assert ids(folder) == [[1, 2], [3]]
    assert log.destinations.get("archive").position == 3


def test_an_object_gets_its_name_when_it_is_complete(archive, folder, monkeypatch):
    moved = []

    def replace(part, name):
        moved.append((gzip.decompress(part.read_bytes()), os.path.exists(name)))
        raise OSError(5, "the cable was pulled")

    monkeypatch.setattr("os.replace", replace)
    with pytest.raises(RetryLater, match="the cable was pulled"):
        archive.deliver([stored_event(1)])
    assert moved == [(b'{"id":1,"source":"example","event":' + stored_event(1).payload.encode() + b"}\n", False)]
    monkeypatch.undo()
    archive.deliver([stored_event(1)])
    assert ids(folder) == [[1]]
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["000000000001-000000000001.ndjson.gz"]


def test_a_file_and_its_folders_are_synced_before_success(archive, folder, monkeypatch):
    synced = []
    sync, replace = os.fsync, os.replace

    def fsync(descriptor):
        synced.append(os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), folder))
        sync(descriptor)

    def remember(part, name):
        synced.append("moved")
        replace(part, name)

    monkeypatch.setattr("os.fsync", fsync)
    monkeypatch.setattr("os.replace", remember)
    archive.deliver([stored_event(1)])
    date = f"example/{LONG_AGO}"
    assert synced == [f"{date}/.000000000001-000000000001.ndjson.gz.part", "moved", date, "example", "."]


class Failing(MemoryFileSystem):
    """A store of complete objects that first raises its `failures`, one per write."""

    protocol = "s3"
    failures = []
    opened = 0
    options = None

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        Failing.opened += 1
        Failing.options = options

    def pipe_file(self, path, value, **options):
        if self.failures:
            raise self.failures.pop(0)
        super().pipe_file(path, value, **options)

    def mv(self, *paths, **options):
        raise AssertionError("an object store copies what it is to move")


@pytest.fixture
def failing(monkeypatch):
    monkeypatch.setattr(Failing, "failures", [])
    monkeypatch.setattr(Failing, "opened", 0)
    monkeypatch.setitem(_registry, "s3", Failing)  # fsspec has no public way to unregister a store
    return Failing


@pytest.mark.parametrize(
    "failure",
    [
        PermissionError(13, "Access Denied"),
        FileNotFoundError(2, "The specified bucket does not exist"),
        TimeoutError("nobody answers"),
        OSError(16, "Please reduce your request rate."),
        Exception("what only this library raises"),
    ],
)
def test_an_object_that_cannot_be_written_is_retried(failing, memory, failure):
    failing.failures.append(failure)
    archive = open_deliverer("archive+s3://bucket/prefix")
    with pytest.raises(RetryLater, match=type(failure).__name__) as later:
        archive.deliver([stored_event(1)])
    assert not later.value.is_server_fault  # no event is blamed for it
    assert not memory
    archive.deliver([stored_event(1)])
    assert list(memory) == [f"s3://bucket/prefix/example/{LONG_AGO}/000000000001-000000000001.ndjson.gz"]
    assert failing.opened == 2  # once more after the failure


def test_a_store_is_connected_to_once(failing):
    archive = open_deliverer("archive+s3://bucket")
    archive.deliver([stored_event(1)])
    archive.deliver([stored_event(2)])
    assert failing.opened == 1


def test_a_store_that_cannot_be_connected_to_is_retried(failing, monkeypatch):
    archive = open_deliverer("archive+s3://bucket")
    monkeypatch.setattr(Failing, "__init__", lambda self, **options: 1 / 0)
    with pytest.raises(RetryLater, match="ZeroDivisionError"):
        archive.deliver([stored_event(1)])


def test_other_options_are_passed_to_fsspec(failing):
    archive = open_deliverer("archive+s3://bucket?seconds=1&endpoint_url=http://127.0.0.1:9000&bytes=1000")
    archive.deliver([stored_event(1)])
    assert failing.options == {"endpoint_url": "http://127.0.0.1:9000"}
    assert (archive.max_wait_seconds, archive.max_bytes) == (1, 1000)


def test_a_store_with_renames_gets_a_part_first(memory, monkeypatch):
    """Such a store shows incomplete objects, so they have another name until they are complete."""
    archive = open_deliverer("archive+memory://there")
    monkeypatch.setattr(MemoryFileSystem, "mv", lambda *arguments, **options: 1 / 0)
    with pytest.raises(RetryLater):
        archive.deliver([stored_event(1)])
    assert list(memory) == [f"/there/example/{LONG_AGO}/.000000000001-000000000001.ndjson.gz.part"]
    monkeypatch.undo()
    archive.deliver([stored_event(1)])
    assert list(memory) == [f"/there/example/{LONG_AGO}/000000000001-000000000001.ndjson.gz"]


def test_a_missing_folder_is_not_created(folder):
    archive = open_deliverer(f"archive+file://{folder}/unmounted")
    with pytest.raises(RetryLater, match="No such file"):
        archive.deliver([stored_event(1)])
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("archive+s3://", "it names no place"),
        ("archive+file:///", "it names no place"),
        ("archive+simplecache::s3://bucket", "is ambiguous"),
        ("archive+file://folder", "three slashes"),
        ("archive+file:///folder?second=5", "no other options"),
        ("archive+memory://there?bytes=0", "bytes must be a number of at least 1"),
        ("archive+memory://there?bytes=many", "bytes must be a number"),
        ("archive+memory://there?seconds=-1", "seconds must be a number of at least 0"),
        ("archive+memory://there?seconds=nan", "seconds must be a number"),
        ("archive+gopher://there", "Protocol not known: gopher"),
        ("archive+dropbox://there", "install"),
    ],
)
def test_an_invalid_url_of_an_archive_is_rejected(url, sentence):
    with pytest.raises(NotPossible, match=sentence):
        open_deliverer(url)
