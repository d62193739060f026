"""No hostile body delays other requests much longer than the longest valid body does."""

import subprocess
import sys

import pytest
from service import PROJECT


@pytest.mark.parametrize(
    "rounds", [pytest.param("1", marks=pytest.mark.timeout(300)), pytest.param("5", marks=pytest.mark.full)]
)
def test_no_hostile_body_occupies_a_worker_for_long(rounds):
    """The limit is ten times the CPU time of the longest valid body. Waits depend on other programs."""
    command = [sys.executable, "bench/hostile.py", "--rounds", rounds]
    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=1800)
    rows = [line for line in result.stdout.splitlines() if line.startswith("|")]
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(rows) > 60
    print(result.stdout)
