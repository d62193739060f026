"""Imports point one way."""

import ast
import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]

# Floors, bottom to top: a part imports only from floors below its own.
FLOORS = [
    ("eventlog", "config", "errors"),
    ("parsing", "telemetry"),
    ("forwarding",),
    ("schemas",),
    ("ingest", "serving"),
    ("routes", "commands", "gunicorn.conf"),
    ("app",),
    ("wsgi", "cli"),
]
PARTS = {part: floor for floor, parts in enumerate(FLOORS) for part in parts} | {"setup": 0}


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
    modules = {path.stem for path in PROJECT.glob("*.py")}
    packages = {path.parent.name for path in PROJECT.glob("*/__init__.py")}
    assert modules | packages == set(PARTS)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_imports_only_from_floors_below(part):
    imported = {name for path in files_of(part) for name in imports_of(path)} & set(PARTS) - {part}
    assert {name for name in imported if PARTS[name] >= PARTS[part]} == set()


@pytest.mark.parametrize("library", ["flask", "gevent", "gunicorn", "marshmallow", "werkzeug"])
def test_the_event_log_imports_no_web_library(library):
    assert library not in {name for path in files_of("eventlog") for name in imports_of(path)}


NAMES_A_COMMAND = re.compile(r"\b(flask|tracklog) (sources|events|rejected|destinations|forward|serve)\b")


def test_the_event_log_names_no_command():
    files = [*files_of("eventlog"), *(PROJECT / "eventlog").rglob("*.sql")]
    assert [path.name for path in files if NAMES_A_COMMAND.search(path.read_text())] == []
