"""No body makes the other requests of its worker wait much longer than the longest valid body does."""

import subprocess
import sys

import pytest
from service import PROJECT


@pytest.mark.parametrize("rounds", ["1", pytest.param("5", marks=pytest.mark.full)])
def test_no_hostile_body_holds_a_worker_ten_times_as_long_as_the_longest_valid_one(rounds):
    """What is compared is processor time, since other programs would decide how long a wait is."""
    command = [sys.executable, "bench/hostile.py", "--rounds", rounds]
    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=1800)
    rows = [line for line in result.stdout.splitlines() if line.startswith("|")]
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(rows) > 60
    print(result.stdout)
