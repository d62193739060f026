"""Run a real client library in a process of its own, and hear what it says."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from needs import need
from service import SOURCE_ID, wait_until

CLIENTS = Path(__file__).parent / "clients"
DRIVERS = {
    "astronomer": [sys.executable, "astronomer.py"],
    "segment_python": [sys.executable, "segment_python.py"],
    "analytics_node": ["node", "analytics_node.mjs"],
    "analytics_next": ["node", "analytics_next.mjs"],
}


class Library:
    """A driver from clients/ at work, and the lines of JSON that it has printed so far."""

    def __init__(self, name, url, *arguments):
        command = DRIVERS[name]
        if command[0] == "node":
            need("node")
            need("tests/system/clients/node_modules")
        environment = os.environ | {"NO_PROXY": "127.0.0.1", "CHROMIUM": shutil.which("chromium") or ""}
        self.lines = []
        self.process = subprocess.Popen(
            [*command, url, SOURCE_ID, *arguments],
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
        """Let the driver end and see that it ends well; after a failure, make it end."""
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

    def said(self, word):
        """Return every line so far that has this word."""
        return [line for line in list(self.lines) if word in line]

    def wait_for(self, word, number=1):
        """Wait until the word has been said so often, and return the lines."""
        wait_until(lambda: len(self.said(word)) >= number or self.process.poll() is not None)
        return self.said(word)

    def made(self):
        """Return the calls that the library took, by messageId."""
        return {line["messageId"]: line["made"] for line in self.said("made")}

    def answers(self):
        """Return the statuses that it was answered with, in order, but for its own metrics."""
        return [line["answer"] for line in self._posts()]

    def posted(self):
        """Return every event that it posted, again where it posted it again."""
        bodies = [json.loads(line["body"]) for line in self._posts()]
        return [event for body in bodies for event in body.get("batch", [body])]

    def _posts(self):
        return [line for line in self.said("answer") if not line["url"].endswith("/v1/m")]
