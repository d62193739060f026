"""Each runtime keeps the contract that the log relies on."""

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
FORMS = {
    "threads": "from eventlog.runtime import Runtime",
    "gevent": "import gevent.monkey; gevent.monkey.patch_all()\n"
    "from serving.gevent_runtime import GeventRuntime as Runtime",
}


@pytest.fixture(params=FORMS)
def run(request):
    """Run lines of Python with a `runtime` in another process, since gevent patches a whole process."""

    def run(lines):
        script = f"{FORMS[request.param]}\nruntime = Runtime()\n{lines}"
        ended = subprocess.run(
            [sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False
        )
        assert (ended.returncode, ended.stderr) == (0, "")

    return run


def test_the_first_call_that_blocks_imports_nothing(run):
    """An upgrade may replace .venv while the process runs."""
    run("""
import sys
before = set(sys.modules)
assert runtime.run_blocking(lambda: 1) == 1
assert set(sys.modules) == before, set(sys.modules) - before
""")


def test_a_blocking_call_returns_its_result(run):
    run("assert runtime.run_blocking(lambda: 7) == 7")


def test_a_blocking_call_raises_its_error_and_prints_nothing(run):
    run(
        """
try:
    runtime.run_blocking(lambda: 1 / 0)
except ZeroDivisionError:
    pass
else:
    raise SystemExit("nothing was raised")
"""
    )


def test_other_requests_go_on_during_a_blocking_call(run):
    run(
        """
import threading, time
started, answered = threading.Event(), []
def other():
    started.wait(10)
    answered.append(1)
other = threading.Thread(target=other)
other.start()
def block():
    started.set()
    deadline = time.monotonic() + 10
    while not answered and time.monotonic() < deadline:
        pass
runtime.run_blocking(block)
assert answered
other.join()
"""
    )


def test_a_started_call_runs(run):
    run(
        """
import threading
ran = threading.Event()
runtime.start(ran.set)
assert ran.wait(10)
"""
    )


def test_waiting_for_idleness_ends_although_requests_never_do(run):
    run(
        """
import threading, time
stop = []
def busy():
    while not stop:
        time.sleep(0)
other = threading.Thread(target=busy)
other.start()
runtime.wait_until_idle()
stop.append(1)
other.join()
"""
    )


def test_gunicorns_configuration_does_not_import_gevent():
    """gevent patches after gunicorn has read the file, so names imported before that stay unpatched."""
    script = 'import runpy, sys; runpy.run_path("gunicorn.conf.py"); assert "gevent" not in sys.modules'
    subprocess.run([sys.executable, "-c", script], cwd=PROJECT, check=True, timeout=60)
