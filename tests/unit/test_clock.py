"""A jump of the machine's clock is logged."""

import pytest

from telemetry import clock


@pytest.fixture
def clocks(monkeypatch):
    """The two clocks in seconds, to be set."""
    clocks = {"time": 2e9, "monotonic": 100.0}
    for name in clocks:
        monkeypatch.setattr(clock, name, lambda name=name: clocks[name])
    return clocks


@pytest.mark.parametrize("jump", [5, -5, 3600, -3600])
def test_a_jump_is_logged_once(clocks, caplog, jump):
    watched = clock.Clock()
    clocks["monotonic"] += 1
    clocks["time"] += 1 + jump
    watched.log_jump()
    watched.log_jump()
    (record,) = caplog.records
    assert record.getMessage() == f"the clock jumped by {jump:+} seconds; synchronize it"
    assert (record.event, record.seconds) == ("clock_jumped", jump)


@pytest.mark.parametrize("late", [0, 100], ids=["in time", "late"])
@pytest.mark.parametrize("correction", [-4, 0, 4])
def test_a_small_correction_is_not_logged(clocks, caplog, correction, late):
    watched = clock.Clock()
    clocks["monotonic"] += 1 + late
    clocks["time"] += 1 + late + correction
    watched.log_jump()
    assert not caplog.records
