"""Run `make browse`, and look at its pages in Chromium."""

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from urllib.parse import urlencode

from library import CLIENTS, node_environment
from needs import need
from service import PROJECT, free_port, wait_until


class Browse:
    """A running `make browse` of a service's log."""

    def __init__(self, service):
        need("make")
        need(".venv-browse")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.printed = service.folder / "browse.log"
        with open(self.printed, "w") as output:
            self.process = subprocess.Popen(
                ["make", "browse", f"BROWSE_PORT={self.port}"],
                cwd=PROJECT, env=service.environment, stdout=output, stderr=output,
            )  # fmt: skip
        wait_until(lambda: self.process.poll() is not None or self.is_up())
        assert self.process.poll() is None, self.printed.read_text()

    def is_up(self):
        try:
            return self.get("/-/versions.json")[0] == 200
        except OSError:
            return False

    def get(self, path, **query):
        """Return the status and the body."""
        try:
            with urllib.request.urlopen(f"{self.url}{path}?{urlencode(query)}", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.read().decode()

    def rows(self, path, **query):
        status, body = self.get(f"{path}.json", _shape="objects", **query)
        assert status == 200, body
        return json.loads(body)["rows"]

    def stop(self):
        if self.process.poll() is None:
            for pid in [*children(self.process.pid), self.process.pid]:
                os.kill(pid, signal.SIGTERM)
            self.process.wait(20)


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as text:
        return [int(each) for each in text.read().split()]


def look(browse, folder, pages):
    """Open pages in Chromium, and return what each shows, by name."""
    need("chromium")
    environment = node_environment()
    command = ["node", "browse.mjs", browse.url, folder, *(f"{name}={path}" for name, path in pages.items())]
    done = subprocess.run(command, cwd=CLIENTS, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return {page["name"]: page for page in map(json.loads, done.stdout.splitlines())}
