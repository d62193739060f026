"""Start tracklog as its users do, and look at it from outside: nothing here imports the project."""

import http.client
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

PROJECT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SOURCE_ID = "ILoveData123"
AUTHENTICATION = {"Authentication": "Basic SUxvdmVEYXRhMTIz"}
#: How to install what tests need, where that is not the Debian package of the same name.
INSTALL = {
    ".venv-browse": "make .venv-browse/installed",
    "java": "apt install default-jre-headless",
    "node": "apt install nodejs",
    "promtool": "apt install prometheus",
    "script": "apt install bsdutils",
    "setpriv": "apt install util-linux",
    "systemd-analyze": "apt install systemd",
    "tests/system/clients/node_modules": "npm ci --prefix tests/system/clients",
    "tests/system/kafka/jars": "mvn --file tests/system/kafka dependency:copy-dependencies",
    "the right to mount a file system": "run the tests as root",
}


def wait_until(condition, seconds=30):
    """Wait for a condition, and fail if it does not come true."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return result


def need(part):
    """Skip a test if a program or a folder of the checkout is missing; in CI, fail it."""
    if not (shutil.which(part) or shutil.which(part, path="/usr/sbin") or (PROJECT / part).is_dir()):
        lack(part)


def lack(part):
    """Skip a test that cannot be done here, and say what to install; in CI, which should have everything, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{part} is missing")
    pytest.skip(f"{part}; {INSTALL.get(part, f'apt install {part}')}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Service:
    """A gunicorn that serves tracklog from its checkout, on a port that the system picked."""

    def __init__(self, folder, database=None):
        self.folder = folder
        self.database = database or folder / "tracklog.db"
        self.environment = os.environ | {"TRACKLOG_DATABASE": str(self.database)}
        self.process = None
        self.port = None

    def flask(self, *arguments, check=True):
        """Run a command as an operator does."""
        return subprocess.run(
            [BIN / "flask", *arguments], cwd=PROJECT, env=self.environment, check=check, capture_output=True, text=True
        )

    def start(self, *arguments, under=()):
        """Start gunicorn, `under` a command that runs it if one is given."""
        self.port = free_port()
        self._start("--bind", f"127.0.0.1:{self.port}", *arguments, shell=under)

    def start_on(self, listening, *arguments):
        """Start on a socket that is handed over as systemd does: as descriptor 3, which is for this process."""
        self.port = listening.getsockname()[1]
        handed = f'exec 3<&{listening.fileno()}; LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$@"'
        self._start(*arguments, shell=["bash", "-c", handed], pass_fds=[listening.fileno()])

    def _start(self, *arguments, shell=(), pass_fds=()):
        command = [*shell, BIN / "gunicorn", "wsgi:app", *arguments]
        with open(self.folder / "gunicorn.log", "a") as output:
            self.process = subprocess.Popen(
                command, cwd=PROJECT, env=self.environment, stdout=output, stderr=output, pass_fds=pass_fds
            )
        wait_until(lambda: self.process.poll() is not None or self.is_healthy())
        assert self.process.poll() is None, self.said()

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(40)

    def said(self):
        return (self.folder / "gunicorn.log").read_text()

    def lines(self, event=None):
        """Return its log lines, all of which must be JSON, or those of one event."""
        lines = [json.loads(line) for line in self.said().splitlines()]
        return [line for line in lines if event in (None, line["event"])]

    def is_healthy(self):
        try:
            return self.request("GET", "/healthz")[0] == 200
        except OSError:
            return False

    def workers(self):
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    @contextmanager
    def connection(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            yield connection
        finally:
            connection.close()

    def request(self, method, path, body=None, headers=None):
        """Return the status and the parsed answer."""
        with self.connection() as connection:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    def post(self, path, body, headers=AUTHENTICATION):
        return self.request("POST", path, body if isinstance(body, (bytes, str)) else json.dumps(body), headers)

    def query(self, sql, *bindings):
        """Ask the log's file, as an operator with sqlite3 does."""
        connection = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)
        try:
            return connection.execute(sql, bindings).fetchall()
        finally:
            connection.close()


class Answer(NamedTuple):
    """What a client got for one event, and how long it had to wait for it."""

    message_id: str
    status: int
    body: dict
    retry_after: str | None
    seconds: float


def posted(client, count):
    """Return the event that a client posts when it has posted `count`."""
    return {"userId": str(client), "event": "Posted", "messageId": f"{client}-{count}"}


class Clients:
    """Clients that post events with messageIds of their own, each once, and remember what became of them.

    They keep their connections, or open another after `per_connection` events, and so reach every worker.
    """

    def __init__(self, port, number, event=posted, per_connection=None):
        self.acknowledged = []
        self.refused = []
        self.failed = []  # messageIds without an answer, of which nothing can be said
        self._event = event
        self._per_connection = per_connection
        self._stop = threading.Event()
        self._port = port
        self._threads = [threading.Thread(target=self._post, args=(client,)) for client in range(number)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def go_on(self, number=200):
        """Wait until as many further events are acknowledged."""
        seen = len(self.acknowledged)
        wait_until(lambda: len(self.acknowledged) > seen + number)

    def are_refused(self, number=1):
        """Wait until as many further events are refused."""
        seen = len(self.refused)
        wait_until(lambda: len(self.refused) >= seen + number)

    def acknowledged_ids(self):
        return {answer.message_id for answer in self.acknowledged}

    def _post(self, client):
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        count = 0
        while not self._stop.is_set():
            count += 1
            if self._per_connection and count % self._per_connection == 0:
                connection.close()
            event = self._event(client, count)
            started = time.monotonic()
            try:
                connection.request("POST", "/v1/track", json.dumps(event), AUTHENTICATION)
                response = connection.getresponse()
                body = json.loads(response.read())
            except (OSError, http.client.HTTPException):
                self.failed.append(event.get("messageId"))
                connection.close()
            else:
                message_id = event.get("messageId", body.get("messageId"))
                wait = time.monotonic() - started
                answer = Answer(message_id, response.status, body, response.headers["Retry-After"], wait)
                (self.acknowledged if response.status == 200 else self.refused).append(answer)
                if response.status == 200:
                    continue
            self._stop.wait(0.05)  # nobody tries again at once
        connection.close()
