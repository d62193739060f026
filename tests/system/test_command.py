"""The command `tracklog` works in any folder, serves, and completes in bash."""

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from service import AUTHENTICATION, EVENT, PROJECT, SOURCE_ID, Service, free_port, wait_until, write_command

OURS = sorted(path.name for path in PROJECT.glob("*.py"))  # modules that another project may have, too


@pytest.fixture
def folder(tmp_path):
    """A folder of another project, with modules of the same names as here."""
    folder = tmp_path / "another"
    folder.mkdir()
    for name in (*OURS, "eventlog.py", "commands.py", "serving.py"):
        (folder / name).write_text("raise SystemExit('a module of another project')\n")
    return folder


@pytest.fixture
def environment(tmp_path):
    """Return the tests' environment with the command on its PATH, without the settings that it may have."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TRACKLOG_", "FLASK_"))}
    return kept | {"PATH": f"{write_command(tmp_path / 'bin')}:{os.environ['PATH']}"}


@pytest.fixture
def tracklog(folder, environment):
    """Return a function that runs the command in a folder of another project."""

    def tracklog(*arguments, **settings):
        return subprocess.run(
            ["tracklog", *arguments], cwd=folder, env=environment | settings, capture_output=True, text=True, timeout=60
        )

    return tracklog


@pytest.mark.smoke
def test_the_help_is_that_of_tracklog(tracklog):
    shown = tracklog("--help").stdout
    assert re.findall(r"^  (--\w+)", shown, re.MULTILINE) == ["--version", "--help"]
    names = re.findall(r"^  (\w+) ", shown.partition("Commands:")[2], re.MULTILINE)
    assert names == ["destinations", "events", "forward", "rejected", "serve", "settings", "sources"]
    assert not re.search("flask|\\.\\.\\.", shown.partition("Commands:")[2], re.IGNORECASE)
    assert tracklog("events", "--help").stdout.startswith("Usage: tracklog events ")


def test_the_version_is_shown(tracklog):
    version = re.search(r'^VERSION = "(.*)"', (PROJECT / "config.py").read_text(), re.MULTILINE)[1]
    assert tracklog("--version").stdout == f"tracklog {version}\n"


def test_the_help_imports_neither_the_app_nor_a_server_or_driver(environment):
    """So it starts quickly."""
    program = (
        f"import sys; sys.path.insert(0, {str(PROJECT)!r}); import cli; sys.argv = ['tracklog', '--help']\n"
        "try: cli.main()\nfinally: print(*sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    modules = set(shown.stdout.splitlines()[-1].split())
    assert {"commands", "click"} < modules
    assert not modules & {"app", "wsgi", "routes", "gunicorn", "gevent", "confluent_kafka", "psycopg", "fsspec"}


@pytest.mark.smoke
def test_a_relative_log_is_in_the_working_directory(tracklog, folder):
    refused = tracklog("sources", "add", "website")
    assert refused.returncode == 1
    assert refused.stderr.endswith("To create a first log: tracklog sources add NAME --create\n")
    assert not [name for name in os.listdir(folder) if name.startswith("tracklog.db")]
    assert tracklog("sources", "add", "website", "--create").stderr == f"Created the log {folder}/tracklog.db\n"
    set_to = tracklog("sources", "add", "website", TRACKLOG_DATABASE="other.db")
    assert set_to.stderr == f"Created the log {folder}/other.db\n"
    assert tracklog("sources", "disable", "website").stderr == f"Log: {folder}/tracklog.db\n"
    assert "website" in tracklog("sources", "list").stdout


@pytest.mark.smoke
def test_serve_becomes_gunicorns_master(tracklog, folder, environment):
    tracklog("sources", "add", "example", "--source-id", SOURCE_ID, "--create")
    service = Service(folder)
    service.port = free_port()
    options = ["--bind", f"127.0.0.1:{service.port}", "--workers", "1"]
    with open(folder / "gunicorn.log", "w") as output:
        service.process = subprocess.Popen(
            ["tracklog", "serve", *options], cwd=folder, env=environment, stdout=output, stderr=output
        )
    try:
        wait_until(lambda: service.process.poll() is not None or service.is_healthy())
        assert service.process.poll() is None, service.said()
        assert service.post("/v1/track", EVENT, AUTHENTICATION)[0] == 200
        before = service.workers()
        assert len(before) == 1
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: service.workers() and not {*before} & {*service.workers()} and service.is_healthy())
    finally:
        service.process.send_signal(signal.SIGTERM)
        service.process.wait(40)
    assert service.process.returncode == 0
    assert service.lines("start")[0]["settings"]["database"] == "tracklog.db"
    assert service.query("SELECT count(*) FROM tracks") == [(1,)]


def test_serve_passes_a_wrong_option_to_gunicorn(tracklog):
    ended = tracklog("serve", "--no-such-option")
    assert (ended.returncode, "unrecognized arguments: --no-such-option" in ended.stderr) == (2, True)
    assert "--worker-class" in tracklog("serve", "--", "--help").stdout


@pytest.mark.smoke
def test_make_install_links_the_command(tmp_path, folder, environment):
    checkout = tmp_path / "checkout with blanks"
    checkout.mkdir()
    for name in ("cli.py", "tracklog", "Makefile"):
        shutil.copy(PROJECT / name, checkout)
    needed = "commands config.py errors.py eventlog forwarding ingest parsing requirements schemas.py telemetry"
    for name in needed.split():
        (checkout / name).symlink_to(PROJECT / name)
    bin = checkout / ".venv" / "bin"
    bin.mkdir(parents=True)
    (bin / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (bin / "python").chmod(0o755)
    (checkout / ".venv" / "installed").touch()
    for _ in range(2):
        subprocess.run(["make", "install"], cwd=checkout, check=True, capture_output=True)
        assert (bin / "tracklog").is_symlink()
    (tmp_path / "link").symlink_to(bin / "tracklog")
    for command in (bin / "tracklog", tmp_path / "link"):
        ended = subprocess.run([command, "--version"], cwd=folder, env=environment, capture_output=True, text=True)
        assert ended.stdout.startswith("tracklog "), ended.stderr


COMPLETE = 'eval "$(_TRACKLOG_COMPLETE=bash_source tracklog)"\n'


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["e"], {"events"}),
        (["s"], {"serve", "settings", "sources"}),
        (["events", "f"], {"forget"}),
        (["events", "forget", "--e"], {"--email"}),
        (["events", "tail", "--type", "sc"], {"screen"}),
        (["destinations", "add", "--no"], {"--not"}),
    ],
    ids=lambda each: " ".join(sorted(each)),
)
def test_bash_completes_commands_options_and_values(tmp_path, environment, words, completed):
    script = (
        COMPLETE + 'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _tracklog_completion tracklog; echo "${COMPREPLY[@]}"'
    )
    shown = subprocess.run(
        ["bash", "--norc", "-euc", script, "bash", "tracklog", *words],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (set(shown.stdout.split()), shown.stderr) == (completed, "")
    assert os.listdir(tmp_path) == ["bin"]  # completing creates no log


def test_the_tab_key_completes_in_an_interactive_bash(tmp_path, environment):
    master, slave = pty.openpty()
    shell = subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=tmp_path,
        env=environment | {"TERM": "dumb", "INPUTRC": "/dev/null", "HISTFILE": "/dev/null"},
        start_new_session=True,
    )
    os.close(slave)
    os.set_blocking(master, False)
    shown = ""

    def has_shown(text):
        nonlocal shown
        try:
            shown += os.read(master, 10_000).decode()
        except BlockingIOError:
            time.sleep(0.02)
        return text in shown

    try:
        os.write(master, COMPLETE.encode() + b"echo rea''dy\n")
        wait_until(lambda: has_shown("ready\r"))
        os.write(master, b"tracklog dest\tlis\t--he\t")
        wait_until(lambda: has_shown("tracklog destinations list --help "))
        os.write(master, b"\n")
        wait_until(lambda: has_shown("Usage: tracklog destinations list"))
    finally:
        shell.kill()
        shell.wait(10)
        os.close(master)


@pytest.mark.parametrize("command", ["settings", "sources list", "events tail"])
def test_a_deleted_working_directory_is_an_error_of_one_line(tmp_path, environment, command):
    script = 'mkdir gone; cd gone; rmdir ../gone; exec "$0" "$@"'
    ended = subprocess.run(
        ["sh", "-c", script, sys.executable, PROJECT / "cli.py", *command.split()],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (1, "Error: No such file or directory\n")
