"""No acknowledged event is lost while the log's files are moved, swapped, restored and deleted under load."""

import os
import random
import shutil
import sqlite3
import time
from contextlib import suppress

import pytest
from forwarder import answering, forwarder, repeated
from service import Clients, Service, posted, wait_until

MAX_SECONDS_AWAY = 2.5


class Files:
    """The three files of a running service's log, and the logs that were put in its place."""

    STEPS = (
        "move_log",
        "move_wal",
        "move_shm",
        "move_all",
        "delete_wal",
        "delete_shm",
        "delete_both",
        "swap_log",
        "kill_a_worker",
    )

    def __init__(self, service, chance):
        self.service = service
        self.path = str(service.database)
        self.swapped = []
        self._chance = chance
        self._fresh = service.folder / "fresh"
        Service(self._fresh).with_source()

    def move_at_random(self):
        """Do one of the steps in STEPS, and return its name."""
        step = self._chance.choice(self.STEPS)
        getattr(self, step)()
        return step

    def _wait(self):
        time.sleep(self._chance.choice([0, 0.05, 0.5, MAX_SECONDS_AWAY]))

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
        self._wait()
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
        """Put another log in its place, in WAL mode or with a rollback journal like a backup; then undo that."""
        other = self._fresh / f"{len(self.swapped)}.db"
        shutil.copy(self._fresh / "tracklog.db", other)
        if self._chance.random() < 0.5:
            connection = sqlite3.connect(other)
            connection.execute("PRAGMA journal_mode=delete")
            connection.close()
        os.rename(self.path, self.path + ".away")
        os.rename(other, self.path)
        self._wait()
        os.rename(self.path, other)
        os.rename(self.path + ".away", self.path)
        self.swapped.append(other)

    def kill_a_worker(self):
        os.kill(self._chance.choice(self.service.workers()), 9)

    def _move_and_restore(self, end):
        with suppress(FileNotFoundError):  # while no process has it open
            os.rename(self.path + end, self.path + ".away" + end)
            self._wait()
            os.rename(self.path + ".away" + end, self.path + end)

    def _delete(self, *ends):
        for end in ends:
            with suppress(FileNotFoundError):
                os.unlink(self.path + end)


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
    """Check a log that no process has open, and return its messageIds."""
    service = Service(folder, database)
    checked = service.flask("events", "check", check=False)
    assert checked.returncode == 0, (database, checked)
    return service.message_ids()


@pytest.mark.parametrize("rounds", [12, pytest.param(200, marks=[pytest.mark.full, pytest.mark.timeout(3600)])])
def test_moving_files_at_random_loses_no_event(service, tmp_path, rounds):
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
    done = []
    with answering(take) as port:
        service.flask("destinations", "add", "hook", f"webhook+http://127.0.0.1:{port}/")
        service.flask("destinations", "add", "archive", f"archive+file://{archive}?seconds=1")
        clients = Clients(service.port, 4, at_ease, per_connection=5)
        with forwarder(service) as process, repeated(lambda: read(service)), repeated(lambda: ask(service)), clients:
            wait_until(lambda: '"start"' in (tmp_path / "forward.log").read_text())
            clients.go_on(20)
            for _ in range(rounds):
                done.append(files.move_at_random())
                if chance.random() < 0.7:
                    go_on(clients, service, done)
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


def go_on(clients, service, done):
    try:
        clients.go_on(20)
    except AssertionError:
        raise AssertionError((done, clients.refused[-1], service.said()[-2000:])) from None


def at_ease(client, count):
    """Return an event after a pause, since this test needs little load."""
    time.sleep(0.02)
    return posted(client, count)


def is_forwarded(service):
    ((last,),) = service.query("SELECT max(id) FROM events")
    return all(position == last for (position,) in service.query("SELECT position FROM destinations"))
