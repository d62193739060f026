"""docs/deploy.md and the files in deploy/ agree. tests/system/test_deploy_page.py follows the page."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from commands import COMMANDS

PROJECT = Path(__file__).parents[2]
DEPLOY = PROJECT / "deploy"
PAGE = (PROJECT / "docs" / "deploy.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS_TYPED = "".join(BLOCKS)
UNITS = sorted(path for path in DEPLOY.iterdir() if path.suffix in (".service", ".socket", ".timer"))
SUBSTITUTIONS = re.findall(r"^sed (?:-i )?('.*?'|\".*?\") (/\S+)", COMMANDS_TYPED, re.MULTILINE)
#: The shipped file behind each file that the page edits; Prometheus' own is Debian's.
SHIPPED = {
    "/etc/nginx/conf.d/tracklog.conf": "nginx.conf",
    "/opt/tracklog/deploy/nginx.conf": "nginx.conf",
    "/etc/tracklog.env": "tracklog.env.example",
    "/etc/tracklog2.env": "tracklog.env.example",
}


@pytest.mark.parametrize("path", sorted(DEPLOY.iterdir()), ids=lambda path: path.name)
def test_every_file_in_deploy_is_in_the_table_of_the_page(path):
    table = PAGE.partition("\n## ")[0]
    assert f"](../deploy/{path.name})" in table


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[0][:40])
def test_a_block_of_the_page_is_a_whole_script(block):
    subprocess.run(["bash", "-n"], input=block, text=True, check=True)


def called(text):
    """Yield the arguments of every call of tracklog in shell commands or a line of a unit. A file is -, which exists."""
    for arguments in re.findall(r"(?:^ *|bin/)tracklog2? (.*)$", text.replace("\\\n", " "), re.MULTILINE):
        words = shlex.split(re.split(r" [>|&] |'$", arguments)[0])
        yield ["-" if word[0] == "/" else word for word in words]


CALLS = [
    *called(COMMANDS_TYPED),
    *(
        arguments
        for unit in UNITS
        for line in re.findall(r"^ExecStart=(.*)", unit.read_text(), re.M)
        for arguments in called(line)
    ),
]


@pytest.mark.parametrize("arguments", CALLS, ids=" ".join)
def test_a_call_of_tracklog_has_commands_and_options_that_exist(arguments):
    command, rest = click.Group(commands=COMMANDS), arguments
    while isinstance(command, click.Group):
        name, *rest = rest
        assert name in command.commands, arguments
        command = command.commands[name]
    command.make_context("tracklog", list(rest))


def test_the_units_call_tracklog():
    assert {arguments[0] for arguments in CALLS} >= {"serve", "forward", "events", "sources", "settings"}


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_the_page_installs_and_starts_every_unit(unit):
    assert f"ls *{unit.suffix}" in COMMANDS_TYPED or f" *{unit.suffix}" in COMMANDS_TYPED
    started = " ".join(re.findall(r"^systemctl (?:enable --now|start) (.*)", COMMANDS_TYPED, re.MULTILINE))
    is_triggered = unit.suffix == ".service" and unit.with_suffix(".timer").exists()
    assert (f"{unit.stem}.timer" if is_triggered else unit.name) in started.split()


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_the_page_creates_every_path_that_a_unit_names(unit):
    """%i is empty in the first service, and 2 in the second."""
    lines = [line for line in unit.read_text().splitlines() if not line.startswith("#")]
    for path in set(re.findall(r"/(?:etc|var|run)/[\w./-]+%i[\w.]*", "\n".join(lines))):
        assert path.replace("%i", "") in COMMANDS_TYPED, path
        assert path.replace("%i", "2") in COMMANDS_TYPED, path


@pytest.mark.parametrize(("script", "file"), SUBSTITUTIONS)
def test_a_substitution_of_the_page_changes_the_shipped_file(script, file):
    if file not in SHIPPED:
        assert file == "/etc/prometheus/prometheus.yml"
        return
    shipped = (DEPLOY / SHIPPED[file]).read_text()
    command = f"HOST=other.example.org; sed {script}"
    changed = subprocess.run(["bash", "-c", command], input=shipped, capture_output=True, text=True, check=True).stdout
    assert changed != shipped


@pytest.mark.parametrize(
    ("setting", "kept"),
    [
        ("3", "789"),
        ("1", "9"),
        ("0", "9"),
        ("", "123456789"),
        ("all", "123456789"),
        ("-3", "123456789"),
    ],
)
def test_the_newest_backup_is_never_deleted(tmp_path, setting, kept):
    for number in range(1, 10):
        (tmp_path / f"tracklog-2026-01-0{number}-020000.db").touch()
    (script,) = re.findall(r"^ExecStart=.* -euc '(cd .*)'$", (DEPLOY / "tracklog-backup.service").read_text(), re.M)
    environment = os.environ | {"BACKUPS": str(tmp_path), "BACKUPS_KEPT": setting}
    subprocess.run(["sh", "-euc", script], env=environment, check=True, capture_output=True)
    assert "".join(path.name[18] for path in sorted(tmp_path.iterdir())) == kept


@pytest.mark.skipif(not shutil.which("patch"), reason="patch; apt install patch")
@pytest.mark.parametrize("options", re.findall(r"^ *patch (.*) /etc/nginx", COMMANDS_TYPED, re.MULTILINE))
def test_a_change_of_nginx_s_file_that_is_patched_twice_stays(tmp_path, options):
    """An operator repeats the block, for instance after `nginx -t` has failed."""
    (tmp_path / "conf").write_text("old\n")
    diff = "--- a/conf\n+++ b/conf\n@@ -1 +1 @@\n-old\n+new\n"
    for _ in range(2):
        subprocess.run(["patch", *options.split(), tmp_path / "conf"], input=diff, text=True, capture_output=True)
    assert (tmp_path / "conf").read_text() == "new\n"


def test_nginx_reads_the_certificate_that_the_page_makes():
    read = re.findall(r"ssl_certificate\w* (/\S+);", (DEPLOY / "nginx.conf").read_text())
    assert read
    assert all(path in COMMANDS_TYPED for path in read)


def test_the_scrape_job_is_the_one_of_the_alerts():
    jobs = re.findall(r'job="(\w+)"', (DEPLOY / "alerts.yml").read_text())
    assert set(jobs) == set(re.findall(r"job_name: (\w+)", COMMANDS_TYPED))
