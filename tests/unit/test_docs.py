"""The documentation is complete."""

import ast
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from test_imports import FLOORS

import errors
import forwarding
from commands import COMMANDS, GROUPS
from config import Config
from eventlog.access import SIDE_FILES

PROJECT = Path(__file__).parents[2]
README = (PROJECT / "README.md").read_text()
DEPLOY = (PROJECT / "docs" / "deploy.md").read_text()
MAINTAIN = (PROJECT / "docs" / "maintain.md").read_text()
MONITOR = (PROJECT / "docs" / "monitor.md").read_text()
FORWARD = (PROJECT / "docs" / "forward.md").read_text()
API = (PROJECT / "docs" / "api.md").read_text()
ARCHITECTURE = (PROJECT / "docs" / "architecture.md").read_text()


PACKAGES = ("commands", "eventlog", "forwarding", "ingest", "parsing", "routes", "serving", "telemetry")
ALL_COMMANDS = [f"tracklog {group.name} {name}" for group in GROUPS for name in group.commands]
ALL_COMMANDS += [f"tracklog {command.name}" for command in COMMANDS if command not in GROUPS]


def test_the_readme_is_read_in_two_minutes():
    assert len(README.splitlines()) <= 120
    assert "make run" in README
    assert "make test" in README


@pytest.mark.parametrize("setting", fields(Config), ids=lambda setting: setting.name)
def test_every_setting_is_documented_with_its_default(setting):
    meaning = setting.metadata["meaning"].replace("HOST:PORT", "`HOST:PORT`").replace("unix:PATH", "`unix:PATH`")
    assert f"| `TRACKLOG_{setting.name.upper()}` | `{setting.default}` | {meaning} |" in DEPLOY


@pytest.mark.parametrize("variable", forwarding.VARIABLES)
def test_variables_of_the_forwarder_are_documented_as_shown(variable):
    (row,) = re.findall(rf"^\| `{variable}`[^|]*\| (.*) \|$", DEPLOY, re.MULTILINE)
    assert re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", row).replace("`", "") == forwarding.VARIABLES[variable]


@pytest.mark.parametrize("heading", ["Services with this API", "Webhooks", "Archive", "Kafka", "PostgreSQL"])
def test_the_section_of_a_kind_has_a_table_of_what_it_guarantees(heading):
    section = FORWARD.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| (delivered|order|content|acknowledged) \| \S", section, re.MULTILINE) == [
        "delivered",
        "order",
        "content",
        "acknowledged",
    ]


@pytest.mark.parametrize("code", errors.CODES)
def test_every_error_code_is_documented_as_it_is_answered(code):
    status, message = errors.CODES[code]
    assert f"| `{code}` | {status} | {message} |" in API


def test_every_documented_code_exists():
    table = API.partition("## Error codes")[2]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == set(errors.CODES)


def test_every_route_is_documented(app):
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(?:path:)?(\w+)>", r"{\1}", rule.rule)
        assert f"`{path}`" in API or any(f"`{method} {path}`" in API for method in ("GET", "POST")), path


def logged_events():
    """Return the log events in the source, each with the fields of its dictionaries."""
    events = {}
    for path in [*PROJECT.glob("*.py"), *(path for name in PACKAGES for path in (PROJECT / name).glob("*.py"))]:
        text = path.read_text()
        functions = nodes(ast.parse(text), ast.FunctionDef) if "extra=" in text else []
        returned = {each.name: node.value for each in functions for node in nodes(each, ast.Return)}
        for function in functions:
            assigned = {ast.unparse(node.targets[0]): node.value for node in nodes(function, ast.Assign)}
            for node in nodes(function, ast.Dict):
                values = {
                    key.value: value
                    for key, value in zip(node.keys, node.values, strict=True)
                    if isinstance(key, ast.Constant)
                }
                if isinstance(event := values.get("event"), ast.Constant):
                    fields = fields_of(node, returned | assigned) - {"event"}
                    events.setdefault(event.value, set()).update(fields)
    return events


def nodes(tree, kind):
    return [node for node in ast.walk(tree) if isinstance(node, kind)]


def fields_of(node, named):
    """Return the keys of a dictionary, with those of each variable or function in `named` that it unpacks."""
    fields = set()
    for key, value in zip(node.keys, node.values, strict=True):
        fields |= {key.value} if key else fields_of(named[getattr(value, "func", value).id], named)
    return fields


def test_every_log_event_is_documented_with_its_fields():
    table = MONITOR.partition("## Log lines")[2].partition("## ")[0]
    rows = re.findall(r"^\| `(\w+)` \|.*\|(.*)\|$", table, re.MULTILINE)
    assert {event: set(re.findall(r"`(\w+)`", fields)) for event, fields in rows} == logged_events()


@pytest.mark.parametrize("command", ALL_COMMANDS)
def test_every_command_is_documented(command):
    assert command in README + MAINTAIN + FORWARD


PAGES = [
    path.relative_to(PROJECT)
    for path in (*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md"), PROJECT / "bench/results/README.md")
]


def anchors(page):
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_to_a_file_and_a_heading(page):
    for target, anchor in re.findall(r"\]\(([^)#:]*)#?([^):]*)\)", (PROJECT / page).read_text()):
        path = (PROJECT / page).parent / target if target else PROJECT / page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), f"{target}#{anchor}"


WRAPPED_PAGES = [page for page in PAGES if page.name not in {"CHANGELOG.md", "api.md"}]


@pytest.mark.parametrize("page", WRAPPED_PAGES, ids=str)
def test_lines_are_wrapped_at_100_characters(page):
    """Only tables, links on a line of their own and shell examples may be longer."""
    text = re.sub(r"^```.*?^```$", "", (PROJECT / page).read_text(), flags=re.DOTALL | re.MULTILINE)
    assert [line for line in text.splitlines() if len(line) > 100 and not line.startswith(("|", "!["))] == []


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_paths_that_a_page_names_exist(page):
    folders = f"bench|deploy|docs|requirements|tests|{'|'.join(PACKAGES)}"
    named = re.findall(rf"`((?:{folders})/[\w./-]+)", (PROJECT / page).read_text())
    named = [path for path in named if not re.search("NAME|GROUP|000N", path)]  # placeholders of CONTRIBUTING.md
    assert [path for path in named if not (PROJECT / path).exists()] == []


def test_each_decision_has_its_four_parts_in_at_most_80_words():
    for entry in re.split(r"^### ", (PROJECT / "docs" / "decisions.md").read_text(), flags=re.MULTILINE)[1:]:
        prose = re.sub(r"^(\|.*|## .*)$", "", entry.partition("\n## ")[0].partition("\n")[2], flags=re.MULTILINE)
        assert re.findall(r"^- \*\*(\w+)\.", prose, re.MULTILINE) == ["Problem", "Decision", "Evidence", "Alternatives"]
        assert len(re.findall(r"\S*\w\S*", prose)) <= 80, entry


def test_the_picture_of_the_packages_shows_the_tested_floors():
    picture = re.search(r"^ wsgi .*?^```", ARCHITECTURE, re.DOTALL | re.MULTILINE)[0]
    floors = [
        set(re.findall(r"^ (\S+)", floor, re.MULTILINE)) for floor in re.split(r"^ ─+$", picture, flags=re.MULTILINE)
    ]
    assert floors[::-1] == [set(floor) for floor in FLOORS]


@pytest.mark.parametrize("end", SIDE_FILES)
def test_every_file_next_to_the_log_is_explained(end):
    assert f"\n| `{end.replace('*', 'NAME')}` |" in ARCHITECTURE


def test_the_figures_are_the_measured_ones():
    subprocess.run([sys.executable, "bench/report.py", "--check"], cwd=PROJECT, check=True)


def test_each_command_with_an_exit_status_is_documented():
    found = set()
    for path in (PROJECT / "commands").glob("*.py"):
        for function in nodes(ast.parse(path.read_text()), ast.FunctionDef):
            raised = [ast.unparse(node.exc) for node in nodes(function, ast.Raise) if node.exc]
            if any("exceptions.Exit" in each for each in raised):
                decorator = ast.unparse(function.decorator_list[0])
                group = decorator.partition(".command")[0]
                found.add(f"tracklog {function.name}" if group == "click" else f"tracklog {group} {function.name}")
                assert [each for each in raised if "Exit" in each] == ["click.exceptions.Exit(1)"]
    table = MAINTAIN.partition("\n### Exit status\n")[2].partition("\n### ")[0]
    assert set(re.findall(r"^\| `(tracklog [\w ]+)` \|", table, re.MULTILINE)) == found
    assert re.findall(r"^\| (\d) \|", table, re.MULTILINE) == ["0", "1", "2"]
