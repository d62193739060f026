"""The tests run in parts, with a limit for each, and a line for skipped ones."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
UNIT = """
import pytest

def test_unit():
    pass

@pytest.mark.full
def test_long():
    pass
"""
SYSTEM = """
import pytest
from needs import need

@pytest.mark.parametrize("number", range(3))
def test_with_nginx(number):
    need("no-such-program")

@pytest.mark.smoke
def test_smoke():
    pass
"""
HANGING = """
import threading

def test_hanging():
    threading.Thread(target=threading.Event().wait).start()
    threading.Event().wait()

def test_next():
    pass
"""


@pytest.fixture
def run(tmp_path):
    """Return a function that runs pytest in a small project with this project's conftest.py and settings."""
    (tmp_path / "tests").mkdir()
    conftest = (PROJECT / "tests" / "conftest.py").read_text()
    (tmp_path / "tests" / "conftest.py").write_text(conftest.replace("SECONDS_TO_EXIT = 30", "SECONDS_TO_EXIT = 1"))
    settings = (PROJECT / "setup.cfg").read_text()
    (tmp_path / "setup.cfg").write_text(settings.replace(". tests tests/unit tests/system", f"{PROJECT}/tests/system"))
    for folder, text in {"unit": UNIT, "system": SYSTEM}.items():
        (tmp_path / "tests" / folder).mkdir()
        (tmp_path / "tests" / folder / "test_it.py").write_text(text)

    def run(*arguments, **environment):
        environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "pytest_timeout"}
        return subprocess.run(
            [sys.executable, "-m", "pytest", *arguments],
            cwd=tmp_path,
            env={name: value for name, value in os.environ.items() if name != "CI"} | environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def test_skipped_tests_are_one_line_per_missing_part(run):
    ended = run()
    assert ended.returncode == 0
    lines = ended.stdout.splitlines()
    assert "no-such-program: 3 tests skipped; apt install no-such-program" in lines
    assert "long forms: 1 tests skipped; make test-full" in lines
    assert "2 passed, 4 skipped" in lines[-1]
    assert len([line for line in lines if " skipped" in line]) == 3


def test_a_missing_program_is_a_failure_in_ci(run):
    ended = run(CI="true")
    assert ended.returncode == 1
    assert "no-such-program is missing" in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "outcome"),
    [
        (["-m", "not system"], "2 passed, 1 skipped, 3 deselected"),
        (["-m", "system"], "3 skipped, 3 deselected"),
        (["--full"], "3 passed, 3 skipped"),
    ],
)
def test_each_command_of_make_runs_its_part(run, arguments, outcome):
    assert " ".join(arguments).replace("not system", '"not system"') in (PROJECT / "Makefile").read_text()
    assert outcome in run(*arguments).stdout.splitlines()[-1]


def test_a_test_that_hangs_fails_and_the_run_ends(run, tmp_path):
    (tmp_path / "tests" / "unit" / "test_it.py").write_text(HANGING)
    ended = run("tests/unit", "-o", "timeout=1")
    assert ended.returncode == 1
    assert "1 failed, 1 passed" in ended.stdout
    assert "Timeout (>1.0s)" in ended.stdout
    assert "Stack of Thread-1" in ended.stdout
