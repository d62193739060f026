"""An operator's commands fit a terminal of 80 columns."""

import json
import os
import re

import click
import pytest
from click.testing import CliRunner
from factories import events

from cli import tracklog
from commands import COMMANDS, GROUPS

EVENTS = [
    {"type": "track", "userId": "1234", "event": "Added File", "messageId": "a"},
    {"type": "page", "anonymousId": "nobody", "name": "A title that is longer than the line has room for, by far"},
    {"type": "identify", "userId": "5678"},
]


def commands():
    return [(group, name) for group in GROUPS for name in group.commands]


#: Commands that would otherwise lack an argument, or read one wrongly.
ARGUMENTS = {
    ("destinations", "add"): ["new", "webhook+http://host"],
    ("destinations", "replay"): ["example", "--dead"],
    ("destinations", "set"): ["example", "webhook+http://host"],
    ("events", "import"): ["-"],
    ("events", "prune"): ["--older-than", "30d"],
    ("rejected", "delete"): ["1"],
    ("rejected", "replay"): ["1"],
    ("rejected", "show"): ["1"],
    ("forward",): ["--once"],
}
ON_THE_LOG = [(group.name, name) for group, name in commands()] + [("forward",)]


@pytest.mark.parametrize("command", [*ON_THE_LOG, ("serve",), ("settings",)], ids=" ".join)
def test_every_command_has_help_with_an_example(run, command):
    """No line is longer than a terminal of 80 columns."""
    text = run(*command, "--help")
    assert f"tracklog {' '.join(command)}" in text.partition("Example:")[2]
    assert all(len(line) <= 80 for line in text.splitlines())


def test_every_command_is_tested():
    names = [(group.name, name) for group, name in commands()] + [
        (each.name,) for each in COMMANDS if each not in GROUPS
    ]
    assert sorted(names) == sorted([*ON_THE_LOG, ("serve",), ("settings",)])


@pytest.fixture
def missing_log(log, path):
    """The path of a log that was deleted, with all its files."""
    log.close()
    for file in os.listdir(os.path.dirname(path)):
        os.remove(os.path.join(os.path.dirname(path), file))
    return path


def arguments_of(command):
    """Return a command with arguments that it takes."""
    group, *names = command
    found = COMMANDS_BY_NAME[group].commands[names[0]] if names else COMMANDS_BY_NAME[group]
    return [*command, *ARGUMENTS.get(command, ["example" for each in found.params if isinstance(each, click.Argument)])]


COMMANDS_BY_NAME = {command.name: command for command in COMMANDS}


@pytest.mark.parametrize("command", ON_THE_LOG, ids=" ".join)
def test_every_command_says_that_there_is_no_log(run, missing_log, command, monkeypatch):
    monkeypatch.delenv("TRACKLOG_DATABASE", raising=False)
    output = run(*arguments_of(command), exit_code=1)
    assert output.startswith(f"Error: There is no log at {missing_log}. Mount its disk, or move it back. ")
    assert output.endswith("To create a first log: tracklog sources add NAME --create\n")
    assert os.listdir(os.path.dirname(missing_log)) == []


CREATING = [("events", "import"), ("sources", "add")]


@pytest.mark.parametrize("command", ON_THE_LOG, ids=" ".join)
def test_only_two_commands_create_a_log_where_the_setting_says(runner, missing_log, command, monkeypatch):
    monkeypatch.setenv("TRACKLOG_DATABASE", missing_log)
    result = runner.invoke(args=arguments_of(command))
    assert os.path.exists(missing_log) == (command in CREATING), result.output
    assert (f"Created the log {missing_log}\n" in result.stderr) == (command in CREATING)
    assert result.exit_code == (command not in CREATING)


@pytest.mark.parametrize("command", CREATING, ids=" ".join)
def test_a_command_creates_a_log_anywhere_if_it_is_told_to(runner, missing_log, command, monkeypatch):
    monkeypatch.delenv("TRACKLOG_DATABASE", raising=False)
    for said in (f"Created the log {missing_log}\n", f"Log: {missing_log}\n"):
        result = runner.invoke(args=[*arguments_of(command), "--create", *(["--source-id", "x"] * ("add" in command))])
        assert (result.exit_code, result.stderr) == (0, said)


def test_sources_are_added_listed_disabled_and_enabled(run):
    assert run("sources", "add", "example", "--source-id", "ILoveData123") == (
        "Source example has the Source ID ILoveData123\n"
    )
    assert re.fullmatch(r"Source website has the Source ID \S{20,}\n", run("sources", "add", "website"))
    assert run("sources", "disable", "example") == "Source example is disabled\n"
    header, first, second = run("sources", "list").splitlines()
    assert header.split() == ["NAME", "SOURCE", "ID", "STATE", "SINCE"]
    assert first.split()[:3] == ["example", "ILoveData123", "disabled"]
    assert second.split()[2] == "enabled"
    assert run("sources", "enable", "example") == "Source example is enabled\n"
    assert run("sources", "enable", "nobody", exit_code=1) == "Error: There is no source 'nobody'\n"
    assert "already" in run("sources", "add", "example", "--source-id", "Other", exit_code=1)
    assert "printable" in run("sources", "add", "a\nb", exit_code=1)


def test_tail_shows_the_newest_events_one_per_line(run, post):
    post("/v1/batch", {"batch": EVENTS})
    lines = run("events", "tail").splitlines()
    assert [line.split()[2:5] for line in lines] == [
        ["track", "example", "1234"], ["page", "example", "nobody"], ["identify", "example", "5678"],
    ]  # fmt: skip
    assert lines[0].endswith("Added File")
    assert all(len(line) <= 80 for line in lines)
    assert run("events", "tail", "-n", "1").splitlines() == lines[2:]
    assert run("events", "tail", "--type", "page").splitlines() == lines[1:2]
    assert run("events", "tail", "--source", "nobody") == run("events", "tail", "-n", "0") == ""


def test_tail_follows_new_events_with_its_filters(run, post, monkeypatch):
    post("/v1/batch", {"batch": EVENTS})
    naps = iter([lambda: post("/v1/batch", {"batch": [EVENTS[2], {"type": "page", "userId": "later"}]}), lambda: None])

    def nap(seconds):
        next(naps, stop)()

    def stop():
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", nap)
    lines = run("events", "tail", "--follow", "--type", "page", "-n", "5", exit_code=1).splitlines()
    assert [line.split()[4] for line in lines[:2]] == ["nobody", "later"]


def test_stats_add_up(run, post):
    post("/v1/batch", {"batch": [*EVENTS, EVENTS[0]]})
    post("/v1/track", "no JSON")
    lines = run("events", "stats").splitlines()
    assert [line.split()[:4] for line in lines[1:4]] == [
        ["example", "identify", "1", "0"], ["example", "page", "1", "0"], ["example", "track", "1", "1"],
    ]  # fmt: skip
    assert lines[6].split()[:3] == ["example", "invalid_json", "1"]
    assert lines[-1] == "5 received = 3 stored + 1 duplicates + 1 rejected"
    assert all(len(line) <= 80 for line in lines)


def test_stats_of_an_empty_log_add_up(run):
    assert run("events", "stats").endswith("0 received = 0 stored + 0 duplicates + 0 rejected\n")


def test_export_writes_every_event_as_a_line_of_json(run, post, stored):
    for number in range(3):
        post(
            "/v1/batch",
            {"batch": [{"type": "identify", "userId": f"{number}-{n}", "traits": {"é": n}} for n in range(400)]},
        )
    lines = [json.loads(line) for line in run("events", "export").splitlines()]
    assert [line["event"] for line in lines] == stored()
    assert {line["source"] for line in lines} == {"example"}
    assert [line["id"] for line in lines] == sorted(line["id"] for line in lines)
    assert len(lines) == 1200


def test_tail_shows_no_control_characters(post, runner):
    post("/v1/track", {"userId": "a\nb\x1b[31mRED", "event": "x\x1b]0;pwned\x07\r\ty"})
    shown = runner.invoke(args=["events", "tail"]).output
    assert len(shown.splitlines()) == 1
    assert shown.strip("\n").isprintable()
    assert "pwned" in shown


@pytest.mark.parametrize(
    "arguments",
    [
        ("destinations", "dead"),
        ("destinations", "pause"),
        ("destinations", "set", "--only", "page"),
        ("destinations", "test"),
        ("events", "forget", "--yes"),
        ("events", "tail", "--source"),
        ("forward", "--once"),
        ("sources", "disable"),
    ],
    ids=" ".join,
)
def test_an_argument_that_is_not_utf_8_is_an_error_of_one_line(run, arguments):
    """Python turns its bytes into lone surrogates, which SQLite does not take."""
    assert "An argument is not UTF-8" in run(*arguments, "a\udcff", exit_code=1)


def test_tail_shows_rejections(run, post):
    post("/v1/track", "no JSON")
    post("/v1/batch", {"batch": [{"type": "track"}, EVENTS[0]]})
    lines = run("events", "tail", "--rejected").splitlines()
    assert [line.split()[2:] for line in lines] == [
        ["example", "invalid_json", "/v1/track"], ["example", "event_not_defined", "/v1/batch"],
    ]  # fmt: skip
    assert all(len(line) <= 80 for line in lines)
    assert run("events", "tail", "--rejected", "-n", "1").splitlines() == lines[1:]
    assert run("events", "tail", "--rejected", "--source", "nobody") == run("events", "tail", "--rejected", "-n0") == ""
    assert "Usage: " in run("events", "tail", "--rejected", "--type", "page", exit_code=2)


@pytest.mark.parametrize("first", [True, False], ids=["old and new", "only new"])
def test_tail_follows_new_rejections_of_a_source(run, post, monkeypatch, first):
    """A rejection that is sent again is no new one, and one of another source is left out."""
    run("sources", "add", "other", "--source-id", "other")
    if first:
        post("/v1/track", "old")
    sends = [
        lambda: post("/v1/track", "old" if first else "first"),
        lambda: (post("/v1/track", "new"), post("/v1/track?writeKey=other", "theirs", Authentication=None)),
    ]
    naps = iter([*sends, lambda: None])

    def nap(seconds):
        next(naps, stop)()

    def stop():
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", nap)
    lines = run("events", "tail", "--follow", "--rejected", "--source", "example", exit_code=1).splitlines()
    assert [line.split()[2] for line in lines[:2]] == ["example", "example"]
    assert [line for line in lines if "invalid_json" in line] == lines[:2]


def test_replayed_and_deleted_rejections_leave_a_tail_in_order(run, post, log):
    for body in ("1", "2", '{"userId": "1", "event": ""}'):
        post("/v1/track", body)
    run("rejected", "delete", "2")
    assert [line.split()[0] for line in run("events", "tail", "--rejected").splitlines()] == ["1", "3"]
    assert [each.id for each in log.rejections.read_after(1, 10)] == [3]
    assert log.rejections.last_id() == 3


@pytest.mark.parametrize("command", ON_THE_LOG, ids=" ".join)
def test_a_wrong_option_is_a_usage_error_with_status_2(run, command):
    assert "No such option" in run(*command, "--no-such-option", exit_code=2)


@pytest.mark.parametrize("arguments", [(), ("no-such-command",), ("events",), ("events", "no-such-command")])
def test_a_wrong_command_is_a_usage_error_with_status_2(arguments):
    result = CliRunner().invoke(tracklog, arguments, prog_name="tracklog")
    assert (result.exit_code, result.output.startswith("Usage: tracklog ")) == (2, True)


BARS = [
    ("backup {folder}/copy.db", "Copying"),
    ("check", "Checking"),
    ("export", "Exporting"),
    ("forget 1 --yes", "Searching"),
    ("forget 1 --yes", "Deleting"),
    ("import {folder}/export", "Importing"),
    ("prune --older-than 1d", "Pruning"),
]


@pytest.mark.parametrize(("command", "label"), BARS)
@pytest.mark.parametrize("is_terminal", [True, False], ids=["terminal", "no terminal"])
def test_a_long_command_shows_progress_on_a_terminal(runner, log, tmp_path, monkeypatch, command, label, is_terminal):
    log.append(events(3000))
    (tmp_path / "export").write_text("\n")
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda stream: is_terminal)
    result = runner.invoke(args=["events", *command.format(folder=tmp_path).split()])
    assert result.exit_code == 0
    assert (label in result.stderr) == is_terminal
    assert label not in result.stdout
