"""The patches of gunicorn keep its behaviour."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from gunicorn import util
from gunicorn.config import Config
from gunicorn.http import RequestParser, wsgi

from serving import gunicorn_patches
from serving.gunicorn_logger import Logger

LENGTH = [("Content-Type", "application/json"), ("Content-Length", "6")]
CASES = {
    "one piece": ("POST", "200 OK", LENGTH, [b"abcdef"]),
    "two pieces": ("POST", "200 OK", LENGTH, [b"abc", b"def"]),
    "too much": ("POST", "200 OK", LENGTH, [b"abcdefghi"]),
    "chunked": ("GET", "200 OK", [], [b"abc", b"", b"def"]),
    "chunked, without a body": ("GET", "200 OK", [], []),
    "empty": ("POST", "200 OK", [("Content-Length", "0")], []),
    "no content": ("OPTIONS", "204 No Content", [], [b""]),
    "head": ("HEAD", "200 OK", LENGTH, [b""]),
    "large": ("POST", "200 OK", [("Content-Length", "5000000")], [b"x" * 5_000_000]),
}


def answer(kind, method, status, headers, pieces):
    """Return the bytes that are sent to the client, and those of the first call."""
    sent = []

    class Sock(SimpleNamespace):
        def send(self, data):
            sent.append(data[:100_000])
            return len(sent[-1])

        def sendall(self, data):
            sent.append(data)

    body = SimpleNamespace(read=lambda size: b"")
    request = SimpleNamespace(method=method, version=(1, 1), should_close=lambda: False, body=body)
    response = kind(request, Sock(), Config())
    response.start_response(status, headers)
    for piece in pieces:
        response.write(piece)
    response.close()
    return b"".join(sent), sent[0]


@pytest.mark.parametrize("case", CASES)
def test_an_answer_has_the_bytes_of_gunicorns_own(monkeypatch, case):
    monkeypatch.setattr("gunicorn.util.http_date", lambda: "Tue, 10 Nov 2015 00:45:23 GMT")
    ours, first = answer(gunicorn_patches.Response, *CASES[case])
    theirs, _ = answer(wsgi.Response, *CASES[case])
    assert ours == theirs
    assert first == ours[:100_000] or case in ("two pieces", "chunked")


@pytest.fixture
def adapted(monkeypatch):
    """The settings of a gunicorn that is patched for one test."""
    for owner, name in [
        (wsgi, "Response"),
        (wsgi, "WSGIErrorsWrapper"),
        (RequestParser, "mesg_class"),
        (util, "http_date"),
        (util, "write_error"),
    ]:
        monkeypatch.setattr(owner, name, getattr(owner, name))  # restored after the test
    cfg = Config()
    gunicorn_patches.apply(cfg)
    return cfg


@pytest.mark.parametrize("moment", [0.0, 1447116323.999, 1447116324.0])
def test_a_date_is_that_of_gunicorn(monkeypatch, moment):
    monkeypatch.setattr("time.time", lambda: moment)
    assert gunicorn_patches.http_date() == util.http_date()
    assert gunicorn_patches.http_date(moment) == util.http_date(moment)


def test_an_exception_is_logged_without_the_url():
    said = []
    logger = Logger.__new__(Logger)
    logger.error_log = SimpleNamespace(exception=lambda *words: said.append(words))
    logger.exception("Error handling request %s %s", "GET", "/v1/projects/secret/settings?writeKey=secret")
    assert said == [("Error handling request",)]


def test_settings_have_the_same_values_after_patching(adapted):
    names = [*adapted.settings, "is_ssl", "address"]
    assert [getattr(adapted, name) for name in names] == [getattr(Config(), name) for name in names]


BOOT = """
import os, runpy, signal, sys, time
number = int(sys.argv[1])
signal.signal(number, lambda *_: None)  # gunicorn's master only takes note of it
hooks = runpy.run_path("gunicorn.conf.py")
hooks["on_starting"](None)
sent, send = os.pipe()
hooks["pre_fork"](None, None)
worker = os.fork()
if not worker:
    os.read(sent, 1)
    hooks["post_fork"](None, None)
    time.sleep(30)
    os._exit(1)
assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])
os.kill(worker, number)
os.write(send, b"x")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_worker_that_is_stopped_during_its_boot_exits(path, number):
    """The signal arrives before the worker has its own handlers."""
    command = [sys.executable, "-c", BOOT, str(int(number))]
    environment = os.environ | {"TRACKLOG_DATABASE": path, "PYTHONPATH": "."}
    subprocess.run(command, cwd=Path(__file__).parents[2], env=environment, check=True, timeout=60)
