"""Run tracklog from outside: start it, send events, query its file. Nothing here imports the project."""

import http.client
import json
import os
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

PROJECT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SOURCE_ID = "ILoveData123"
AUTHENTICATION = {"Authentication": "Basic SUxvdmVEYXRhMTIz"}
EVENT = {"userId": "1", "event": "Posted"}


def wait_until(condition, seconds=30):
    """Wait until a condition is true and return its value. Fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.02)
    return result


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def write_command(folder):
    """Write the command `tracklog` into a folder, as `make install` links it, but for the Python of these tests."""
    folder.mkdir()
    (folder / "tracklog").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{PROJECT}/cli.py" "$@"\n')
    (folder / "tracklog").chmod(0o755)
    return folder


class Service:
    """A gunicorn that serves the checkout on a port picked by the system. A with block stops it at its end."""

    def __init__(self, folder, database=None):
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.database = database or folder / "tracklog.db"
        self.environment = os.environ | {"TRACKLOG_DATABASE": str(self.database)}
        self.process = None
        self.port = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def with_source(self, name="example", source_id=SOURCE_ID):
        """Register a source and return the service."""
        self.flask("sources", "add", name, "--source-id", source_id)
        return self

    def flask(self, *arguments, check=True):
        """Run a flask command with the service's settings."""
        return subprocess.run(
            [BIN / "flask", *arguments], cwd=PROJECT, env=self.environment, check=check, capture_output=True, text=True
        )

    def start(self, *arguments, under=()):
        """Start gunicorn; `under` is a command that runs it, such as setpriv."""
        self.port = free_port()
        self._start("--bind", f"127.0.0.1:{self.port}", *arguments, shell=under)

    def start_on(self, listening, *arguments):
        """Start on a listening socket that is passed as descriptor 3, as systemd does."""
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
        """Return the parsed log lines, optionally of one event. Fails if a line is not JSON."""
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
        """Return the status and the parsed JSON answer."""
        with self.connection() as connection:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    def post(self, path, body, headers=AUTHENTICATION):
        return self.request("POST", path, body if isinstance(body, (bytes, str)) else json.dumps(body), headers)

    def query(self, sql, *bindings):
        """Run a query on the log's file, as an operator with sqlite3 does."""
        connection = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)
        try:
            return connection.execute(sql, bindings).fetchall()
        finally:
            connection.close()

    def message_ids(self):
        return {message_id for (message_id,) in self.query("SELECT message_id FROM events")}


class Answer(NamedTuple):
    """The answer to one event, and the time it took."""

    message_id: str
    status: int
    body: dict
    retry_after: str | None
    seconds: float


def posted(client, count):
    """Return the event number `count` of a client."""
    return {"userId": str(client), "event": "Posted", "messageId": f"{client}-{count}"}


def repeated_or_invalid(client, count):
    """Return the event number `count` of a client, sometimes a repeated or an invalid one."""
    event = posted(client, count - 1 if count % 5 == 0 else count)
    if count % 7 == 0:
        del event["event"]
    return event


class Clients:
    """Clients that post events with unique messageIds, each once, and record every answer.

    A client reuses its connection. With `per_connection`, it opens a new one after that many events, to reach every
    worker.
    """

    def __init__(self, port, number, event=posted, per_connection=None):
        self.acknowledged = []
        self.refused = []
        self.failed = []  # messageIds of requests without an answer; their events may be stored
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
            thread.join(100)
            assert not thread.is_alive()

    def go_on(self, number=200):
        """Wait until `number` more events are acknowledged."""
        seen = len(self.acknowledged)
        wait_until(lambda: len(self.acknowledged) > seen + number)

    def are_refused(self, number=1):
        """Wait until `number` more events are refused."""
        seen = len(self.refused)
        wait_until(lambda: len(self.refused) >= seen + number)

    def acknowledged_ids(self):
        return {answer.message_id for answer in self.acknowledged}

    def _post(self, client):
        connection = http.client.HTTPConnection(
            "127.0.0.1", self._port, timeout=90
        )  # longer than nginx waits for the service
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
            self._stop.wait(0.05)  # clients do not retry at once
        connection.close()
