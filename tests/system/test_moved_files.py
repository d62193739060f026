"""The log's files are moved, swapped, restored and deleted under load, and nothing that was acknowledged is lost."""

import os
import random
import shutil
import sqlite3
import threading
import time
from contextlib import contextmanager, suppress

import pytest
from service import SOURCE_ID, Clients, Service, posted, wait_until
from test_forward import answering, forwarder

LONGEST_AWAY = 2.5  # seconds


class Files:
    """The three files of a running service's log, and the logs that were put in its place."""

    def __init__(self, service, chance):
        self.service = service
        self.path = str(service.database)
        self.swapped = []
        self._chance = chance
        self._fresh = service.folder / "fresh"
        self._fresh.mkdir()
        fresh = Service(self._fresh)
        fresh.flask("sources", "add", "example", "--source-id", SOURCE_ID)

    def wait(self):
        time.sleep(self._chance.choice([0, 0.05, 0.5, LONGEST_AWAY]))

    def move_log(self):
        self._move_and_restore("")

    def move_wal(self):
        self._move_and_restore("-wal")

    def move_shm(self):
        self._move_and_restore("-shm")

    def move_all(self):
        for end in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.rename(self.path + end, self.path + ".away" + end)
        self.wait()
        for end in ("-wal", "-shm", ""):
            with suppress(FileNotFoundError):
                os.rename(self.path + ".away" + end, self.path + end)

    def delete_wal(self):
        self._delete("-wal")

    def delete_shm(self):
        self._delete("-shm")

    def delete_both(self):
        self._delete("-shm", "-wal")

    def swap_log(self):
        """Put another log in its place, in WAL mode or, like a backup, not; then bring the first back."""
        other = self._fresh / f"{len(self.swapped)}.db"
        shutil.copy(self._fresh / "tracklog.db", other)
        if self._chance.random() < 0.5:
            connection = sqlite3.connect(other)
            connection.execute("PRAGMA journal_mode=delete")
            connection.close()
        os.rename(self.path, self.path + ".away")
        os.rename(other, self.path)
        self.wait()
        os.rename(self.path, other)
        os.rename(self.path + ".away", self.path)
        self.swapped.append(other)

    def kill_a_worker(self):
        os.kill(self._chance.choice(self.service.workers()), 9)

    def _move_and_restore(self, end):
        with suppress(FileNotFoundError):  # of a moment in which no process has it open
            os.rename(self.path + end, self.path + ".away" + end)
            self.wait()
            os.rename(self.path + ".away" + end, self.path + end)

    def _delete(self, *ends):
        for end in ends:
            with suppress(FileNotFoundError):
                os.unlink(self.path + end)


@contextmanager
def repeated(call):
    """Call again and again in a thread, until the block ends."""
    is_over = threading.Event()

    def run():
        while not is_over.is_set():
            call()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(60)
        assert not thread.is_alive()


def read(service):
    with suppress(sqlite3.Error):
        service.query("SELECT count(*) FROM events")
    time.sleep(0.1)


def ask(service):
    """Run a command that reads, and one that writes."""
    service.flask("events", "stats", check=False)
    service.flask("sources", "enable", "example", check=False)
    time.sleep(0.5)


def message_ids(folder, database):
    """Return the ids of a log that no process has open, after a check of all of it."""
    service = Service(folder, database)
    checked = service.flask("events", "check", check=False)
    assert checked.returncode == 0, (database, checked)
    return {message_id for (message_id,) in service.query("SELECT message_id FROM events")}


@pytest.mark.parametrize("rounds", [12, pytest.param(200, marks=[pytest.mark.full, pytest.mark.timeout(3600)])])
def test_files_moved_at_random(service, tmp_path, rounds):
    seed = int(os.environ.get("TRACKLOG_TEST_SEED", random.randrange(10**9)))
    print(f"TRACKLOG_TEST_SEED={seed}")
    chance = random.Random(seed)
    delivered = []

    def take(handler, body):
        delivered.append(handler.headers["Idempotency-Key"])
        return 200, {}, b""

    archive = tmp_path / "archive"
    archive.mkdir()
    service.start()
    files = Files(service, chance)
    steps = [step for name, step in vars(Files).items() if not name.startswith("_") and name != "wait"]
    done = []
    with answering(take) as port:
        service.flask("destinations", "add", "hook", f"webhook+http://127.0.0.1:{port}/")
        service.flask("destinations", "add", "archive", f"archive+file://{archive}?seconds=1")
        clients = Clients(service.port, 4, at_ease, per_connection=5)
        with forwarder(service) as process, repeated(lambda: read(service)), repeated(lambda: ask(service)), clients:
            wait_until(lambda: '"start"' in (tmp_path / "forward.log").read_text())
            clients.go_on(20)
            for _ in range(rounds):
                step = chance.choice(steps)
                done.append(step.__name__)
                step(files)
                if chance.random() < 0.7:
                    try:
                        clients.go_on(20)
                    except AssertionError:
                        raise AssertionError((done, clients.refused[-1], service.said()[-2000:])) from None
            clients.go_on(20)
            assert process.poll() is None
        acknowledged = clients.acknowledged_ids()
        with forwarder(service):
            wait_until(lambda: is_forwarded(service))
    service.stop()
    logs = [message_ids(tmp_path, each) for each in (service.database, *files.swapped)]
    assert acknowledged - set().union(*logs) == set(), done
    assert logs[0] & acknowledged <= set(delivered), done
    assert {answer.status for answer in clients.refused} <= {503}
    assert service.lines(), "all of them JSON"


def at_ease(client, count):
    """Return an event after a pause: what counts here is not the load."""
    time.sleep(0.02)
    return posted(client, count)


def is_forwarded(service):
    ((last,),) = service.query("SELECT max(id) FROM events")
    return all(position == last for (position,) in service.query("SELECT position FROM destinations"))
