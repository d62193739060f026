"""A command that changes the log says which one it is, and a command that reads it does not."""

import pytest
from test_terminal import RUNS, hostile_destination, hostile_log  # noqa: F401

READING = {
    "destinations dead",
    "destinations list",
    "events backup",
    "events check",
    "events stats",
    "events tail",
    "rejected list",
    "rejected show",
    "settings",
    "sources list",
}


@pytest.fixture
def contents(query):
    """Return a function that returns all rows of the log."""

    def contents():
        tables = query("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        return {name: query(f"SELECT * FROM {name}") for (name,) in tables}

    return contents


@pytest.mark.parametrize("command", [command for command, _ in RUNS])
def test_a_command_that_changes_the_log_names_it(hostile_log, runner, path, tmp_path, contents, command):  # noqa: F811
    before = contents()
    result = runner.invoke(args=command.format(folder=tmp_path).split())
    is_reading = " ".join(command.partition(" -")[0].split()[:2]) in READING
    assert (f"Log: {path}\n" in result.stderr) != is_reading
    assert contents() == before or not is_reading
    assert "Log: " not in result.stdout


def test_a_backup_names_the_log_and_the_copy(run, path, tmp_path):
    assert run("events", "backup", tmp_path / "copy.db").startswith(f"Backed up {path} to {tmp_path}/copy.db; ")
