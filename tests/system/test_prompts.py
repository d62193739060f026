"""No browser asks its user for a password because a page has called without a key."""

import json
import os
import shutil
import subprocess
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from library import CLIENTS
from needs import need
from service import wait_until

WAYS = {"beacon", "fetch", "fetch, no-cors", "XHR", "image", "frame", "form", "an address"}


class Handler(BaseHTTPRequestHandler):
    """Serves an empty page with GET /, and answers everything else with a challenge."""

    def do_GET(self):
        if self.path == "/":
            self._answer(200, {"Content-Type": "text/html"})
        else:
            self._challenge()

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self._challenge()

    def _challenge(self):
        cors = {"Access-Control-Allow-Origin": self.headers["Origin"], "Access-Control-Allow-Credentials": "true"}
        self._answer(401, {"WWW-Authenticate": 'Basic realm="x"'} | (cors if self.headers["Origin"] else {}))

    def _answer(self, status, headers):
        self.send_response(status)
        for name, value in (headers | {"Content-Length": "0"}).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def site():
    """Return the port of a web site, of another origin than the service."""
    with serving() as port:
        yield port


@contextmanager
def serving():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=["127.0.0.1", "pages.example.com"], ids=["trusted", "plain"])
def call_in_every_way(request, site):
    """Return a function that calls a port from a page. It returns the ways in which the browser would have asked.

    A browser sends Sec-Fetch-Mode to hosts that it trusts, such as this machine, and in plain HTTP to no others.
    """
    for part in ("chromium", "node", "tests/system/clients/node_modules"):
        need(part)

    def call(port):
        command = ["node", "prompts.mjs", f"http://{request.param}:{site}/", f"http://{request.param}:{port}"]
        environment = os.environ | {"CHROMIUM": shutil.which("chromium")}
        result = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=CLIENTS, env=environment)
        assert result.returncode == 0, result.stderr
        return set(json.loads(result.stdout))

    return call


def test_a_browser_that_is_challenged_would_ask(call_in_every_way):
    """Proves that the next test would see it."""
    with serving() as port:
        assert call_in_every_way(port) == WAYS


@pytest.mark.parametrize("behind", ["direct", "nginx"])
def test_no_call_of_a_page_makes_a_browser_ask_for_a_password(request, service, call_in_every_way, behind):
    service.environment["TRACKLOG_ACCESS_LOG"] = "on"
    port = request.getfixturevalue({"direct": "running", "nginx": "nginx"}[behind]).port
    assert call_in_every_way(port) == set()

    wait_until(lambda: [line["status"] for line in service.lines("request")].count(401) == len(WAYS))
