"""An operator's commands fit a terminal of 80 columns."""

import json
import os
import re

import click
import pytest

from commands import GROUPS

EVENTS = [
    {"type": "track", "userId": "1234", "event": "Added File", "messageId": "a"},
    {"type": "page", "anonymousId": "nobody", "name": "A title that is longer than the line has room for, by far"},
    {"type": "identify", "userId": "5678"},
]


def commands():
    return [(group, name) for group in GROUPS for name in group.commands]


@pytest.mark.parametrize(("group", "name"), commands())
def test_every_command_has_help_with_an_example(run, group, name):
    """No line is longer than a terminal of 80 columns."""
    text = run(group.name, name, "--help")
    assert f"flask {group.name} {name}" in text.partition("Example:")[2]
    assert all(len(line) <= 80 for line in text.splitlines())
    assert isinstance(group, click.Group)


@pytest.mark.parametrize(("group", "name"), commands())
def test_every_command_says_that_there_is_no_log(run, group, name, path, log):
    log.close()
    for file in os.listdir(os.path.dirname(path)):
        os.remove(os.path.join(os.path.dirname(path), file))
    arguments = [
        {"id": "1", "ids": "1", "url": "webhook+http://host", "path": "-"}.get(each.name, "example")
        for each in group.commands[name].params
        if isinstance(each, click.Argument)
    ]
    if (group.name, name) == ("events", "prune"):
        arguments = ["--older-than", "30d"]
    if (group.name, name) == ("sources", "add"):
        assert "new" in run(group.name, name, "new")
    elif (group.name, name) == ("events", "import"):
        assert run(group.name, name, "-") == "0 events: 0 stored, 0 duplicates\n"
    elif name == "replay" and group.name == "destinations":
        assert "There is no log at" in run(group.name, name, "example", "--dead", exit_code=1)
    else:
        output = run(group.name, name, *arguments, exit_code=1)
        remedy = "If it was moved, move it back. To create one: flask sources add NAME"
        assert output == f"Error: There is no log at {path}. {remedy}\n"


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
