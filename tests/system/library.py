"""Run a real client library in its own process, and read what it reports."""

import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

from needs import need
from service import SOURCE_ID, wait_until

CLIENTS = Path(__file__).parent / "clients"
ENVIRONMENT = os.environ | {"NO_PROXY": "127.0.0.1", "CHROMIUM": shutil.which("chromium") or ""}
DRIVERS = {
    "astronomer": [sys.executable, "astronomer.py"],
    "segment_python": [sys.executable, "segment_python.py"],
    "analytics_node": ["node", "analytics_node.mjs"],
    "analytics_next": ["node", "analytics_next.mjs"],
}


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def node_environment():
    """Return the environment for the scripts in clients/. Skip the test if Node.js or its packages are missing."""
    need("node")
    need("tests/system/clients/node_modules")
    return ENVIRONMENT


class Driver:
    """A running driver from clients/, and the lines of JSON that it has printed so far."""

    def __init__(self, *command, **environment):
        environment = (node_environment() if command[0] == "node" else ENVIRONMENT) | environment
        self.lines = []
        self.process = subprocess.Popen(
            command,
            cwd=CLIENTS,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def __enter__(self):
        return self

    def __exit__(self, failure, *_):
        """Close standard input, which ends the driver, and check its exit status. After a failure, terminate it."""
        self.process.stdin.close()
        if failure:
            self.process.terminate()
        try:
            code = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.terminate()
            code = self.process.wait(10)
        self._listener.join()
        self.process.stdout.close()
        assert failure or code == 0

    def _listen(self):
        for line in self.process.stdout:
            self.lines.append(json.loads(line))

    def said(self, key):
        """Return every line so far that has this key."""
        return [line for line in list(self.lines) if key in line]

    def wait_for(self, key, number=1):
        """Wait until `number` lines have this key, or the driver has ended, and return them."""
        wait_until(lambda: len(self.said(key)) >= number or self.process.poll() is not None)
        return self.said(key)


class Library(Driver):
    """A driver that makes the calls that its arguments name, and prints what it made and what was answered."""

    def __init__(self, name, url, *arguments):
        super().__init__(*DRIVERS[name], url, SOURCE_ID, *arguments)

    def made(self):
        """Return the names of the calls that the library accepted, by messageId."""
        return {line["messageId"]: line["made"] for line in self.said("made")}

    def answers(self):
        """Return the statuses of the answers in order, except those to its own metrics."""
        return [line["answer"] for line in self._posts()]

    def posted(self):
        """Return every event that it posted, with repeats."""
        bodies = [json.loads(line["body"]) for line in self._posts()]
        return [event for body in bodies for event in body.get("batch", [body])]

    def _posts(self):
        return [line for line in self.said("answer") if not line["url"].endswith("/v1/m")]
