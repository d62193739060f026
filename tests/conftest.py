"""Mark the system tests, skip the long forms, and sum up the skipped tests."""

import faulthandler
from collections import Counter
from pathlib import Path

import pytest

SYSTEM_TESTS = Path(__file__).parent / "system"
SECONDS_TO_EXIT = 30


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="run the long forms too")


def pytest_collection_modifyitems(config, items):
    for item in items:
        if SYSTEM_TESTS in item.path.parents and not item.get_closest_marker("smoke"):
            item.add_marker("system")
        if item.get_closest_marker("full") and not config.getoption("--full"):
            item.add_marker(pytest.mark.skip(reason="long forms; make test-full"))


def pytest_terminal_summary(terminalreporter):
    """Sum up the skipped tests: one line per missing part, with the command that brings it."""
    skipped = terminalreporter.stats.get("skipped", [])
    for reason, number in Counter(report.longrepr[2] for report in skipped).most_common():
        part, _, remedy = reason.removeprefix("Skipped: ").partition("; ")
        terminalreporter.line(f"{part}: {number} tests skipped" + (f"; {remedy}" if remedy else ""))


def pytest_unconfigure():
    """Exit even if a test that failed has left a thread that never ends."""
    faulthandler.dump_traceback_later(SECONDS_TO_EXIT, exit=True)
