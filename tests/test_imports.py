"""Imports point one way."""

import ast
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent

# What each part may import of the project: floors of a house, no circle.
ALLOWED = {
    "eventlog": set(),
    "config": set(),
    "logs": {"config"},
    "errors": {"logs"},
    "message_ids": set(),
    "moments": set(),
    "schemas": {"moments"},
    "jsonvalues": set(),
    "jsonhints": {"errors", "jsonvalues"},
    "strictjson": {"errors", "jsonhints", "jsonvalues"},
    "body": {"errors"},
    "query": {"errors"},
    "requester": set(),
    "cors": set(),
    "openapi": {"errors", "schemas"},
    "auth": {"errors", "eventlog"},
    "metrics": {"eventlog"},
    "checking": {"errors", "eventlog", "jsonvalues", "message_ids", "moments", "schemas", "strictjson"},
    "importing": {"checking", "errors", "eventlog", "moments", "schemas", "strictjson"},
    "intake": {
        "auth",
        "body",
        "checking",
        "errors",
        "eventlog",
        "jsonvalues",
        "logs",
        "query",
        "requester",
        "strictjson",
    },
    "replaying": {"checking", "errors", "eventlog", "requester", "schemas", "strictjson"},
    "forwarding": {"eventlog"},
    "routes": {"auth", "errors", "intake", "openapi", "schemas"},
    "commands": {"errors", "eventlog", "forwarding", "importing", "logs", "replaying", "schemas"},
    "app": {"commands", "config", "cors", "errors", "eventlog", "logs", "metrics", "routes"},
    "wsgi": {"app"},
    "serving": {"errors", "logs"},
    "gunicorn.conf": {"config", "eventlog", "logs", "metrics", "serving"},
    "setup": set(),
}


def files_of(part):
    folder = PROJECT / part
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [PROJECT / f"{part}.py"]


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.partition(".")[0]


def test_every_part_of_the_source_has_its_floor():
    modules = {path.stem for path in PROJECT.glob("*.py")} - {"conftest"}
    packages = {path.parent.name for path in PROJECT.glob("*/__init__.py")}
    assert modules | packages == set(ALLOWED)


@pytest.mark.parametrize("part", ALLOWED)
def test_a_part_imports_only_from_floors_below(part):
    imported = {name for path in files_of(part) for name in imports_of(path)}
    assert imported & set(ALLOWED) - {part} <= ALLOWED[part]


@pytest.mark.parametrize("library", ["flask", "gevent", "gunicorn", "marshmallow", "werkzeug"])
def test_the_event_log_needs_no_web(library):
    assert library not in {name for path in files_of("eventlog") for name in imports_of(path)}
