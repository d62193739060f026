"""Every file of the log gets the log's mode and owner, also if root runs the command."""

import os
import stat
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

import eventlog
from eventlog import access, host_checks
from telemetry import metrics

PROJECT = Path(__file__).parents[2]
SERVICE_USER = 12345  # has no name and owns no other file
EVENT = (
    '{"id":%d,"source":"example","event":{"type":"track","messageId":"%d","userId":"1","event":"Posted",'
    '"timestamp":"2015-11-10T00:00:00.000Z","receivedAt":"2015-11-10T00:45:23.412Z"}}'
)
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root, which can give files away")


@pytest.fixture(params=[0o022, 0o077, 0o000], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.fixture
def folder():
    """The service's folder. Every user can reach it, unlike pytest's own folders."""
    with tempfile.TemporaryDirectory() as parent:
        os.chmod(parent, 0o755)
        folder = Path(parent, "log")
        folder.mkdir()
        os.chown(folder, SERVICE_USER, SERVICE_USER)
        yield folder


def run(folder, *arguments, user=None, input=None):
    """Run a command on the log in the folder in another process, as another user if one is given."""
    ended = subprocess.run(
        [sys.executable, "-m", "flask", *map(str, arguments)],
        cwd=PROJECT,
        env=os.environ | {"TRACKLOG_DATABASE": str(folder / "tracklog.db"), "PYTHONDONTWRITEBYTECODE": "1"},
        input=input,
        capture_output=True,
        text=True,
        timeout=60,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def modes(folder):
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def owners(folder):
    return {(path.stat().st_uid, path.stat().st_gid) for path in folder.rglob("*")}


def test_only_the_owner_can_read_a_new_log(tmp_path, umask):
    eventlog.create(str(tmp_path / "tracklog.db"))
    log = eventlog.EventLog(str(tmp_path / "tracklog.db"))
    log.sources.add("example")
    assert modes(tmp_path) == dict.fromkeys(
        ["tracklog.db", "tracklog.db-wal", "tracklog.db-shm", "tracklog.db-queue"], 0o600
    )
    log.close()


@pytest.mark.parametrize("mode", [0o640, 0o664], ids=oct)
def test_side_files_follow_the_mode_of_the_log(path, tmp_path, umask, mode):
    os.chmod(path, mode)
    log = eventlog.EventLog(path)
    log.sources.add("example")
    assert set(modes(tmp_path).values()) == {mode}
    log.close()


def write(folder):
    """Write to the log in the folder, as `tracklog sources add` does."""
    eventlog.create(str(folder / "tracklog.db"))
    log = eventlog.EventLog(str(folder / "tracklog.db"))
    try:
        log.sources.add("example")
        assert owners(folder) == {(SERVICE_USER, SERVICE_USER)}
    finally:
        log.close()


@needs_root
def test_a_log_created_by_root_belongs_to_its_folders_owner(folder):
    write(folder)


@needs_root
def test_root_returns_a_side_file_that_it_left(folder):
    write(folder)
    queue = folder / "tracklog.db-queue"
    os.chown(queue, 0, 0)
    queue.chmod(0o644)
    write(folder)
    assert set(modes(folder).values()) == {0o600}


@needs_root
@pytest.mark.parametrize("make", [os.symlink, os.link], ids=["symbolic link", "link"])
def test_root_gives_away_no_file_that_a_link_leads_to(folder, tmp_path, make):
    write(folder)
    secret = tmp_path / "secret"
    secret.write_text("root's")
    queue = folder / "tracklog.db-queue"
    queue.unlink(missing_ok=True)
    make(secret, queue)
    with pytest.raises((eventlog.Unavailable, AssertionError)):
        write(folder)
    assert secret.stat().st_uid == 0


def test_a_backup_has_the_mode_of_the_log(log, path, tmp_path, umask):
    log.back_up(str(tmp_path / "copy.db"), lambda done, pages: None)
    assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600


def test_the_files_of_metrics_have_the_mode_of_the_log(app, path, tmp_path, umask):
    app.extensions["metrics"].start_counting(f"{path}-metrics")
    assert stat.S_IMODE((tmp_path / "tracklog.db-metrics").stat().st_mode) == 0o700
    assert set(modes(tmp_path / "tracklog.db-metrics").values()) == {0o600}


@needs_root
def test_files_left_by_root_do_not_stop_the_service(folder, tmp_path):
    """Each command that leaves a file runs as root first and then as the service."""
    for step, user in enumerate([None, SERVICE_USER], 1):
        (folder / f"archive-{step}").mkdir()
        os.chown(folder / f"archive-{step}", SERVICE_USER, SERVICE_USER)
        run(folder, "sources", "add", f"source-{step}", user=user)
        run(folder, "events", "import", "-", user=user, input=EVENT % (step, step))
        run(folder, "destinations", "add", f"archive-{step}", f"archive+file://{folder}/archive-{step}", user=user)
        run(folder, "forward", "--once", user=user)
        run(folder, "events", "backup", folder / f"copy-{step}.db", user=user)
        metrics.Metrics(eventlog.EventLog(str(folder / "tracklog.db"))).start_counting(
            str(folder / "tracklog.db-metrics")
        )
        assert owners(folder) == {(SERVICE_USER, SERVICE_USER)}
    assert len(list(folder.rglob("*.ndjson.gz"))) == 3


@pytest.fixture
def used(folder):
    """The service's folder, with the log and all its side files."""
    eventlog.create(str(folder / "tracklog.db"))
    for end in access.SIDE_FILES:
        path = folder / f"tracklog.db{end.replace('*', 'warehouse')}"
        path.mkdir() if end == "-metrics" else path.touch()
        os.chown(path, SERVICE_USER, SERVICE_USER)
    return folder


@contextmanager
def as_service():
    """Act as the service's user, and as root again afterwards."""
    os.seteuid(SERVICE_USER)
    try:
        yield
    finally:
        os.seteuid(0)


def refusal(folder):
    """Return the error that the start shows to the service's user."""
    with as_service(), pytest.raises(eventlog.Unusable) as refused:
        host_checks.check(str(folder / "tracklog.db"))
    return str(refused.value)


@needs_root
def test_the_start_accepts_what_the_service_owns(used):
    with as_service():
        host_checks.check(str(used / "tracklog.db"))


@needs_root
@pytest.mark.parametrize("end", access.SIDE_FILES)
def test_the_start_names_a_side_file_that_root_left(used, end):
    (path,) = used.glob(f"tracklog.db{end}")
    os.chown(path, 0, 0)
    assert refusal(used) == (
        f"The user {SERVICE_USER} cannot read and write {path}, which belongs to root. "
        f"Run as root: chown {SERVICE_USER} {path}"
    )


@needs_root
@pytest.mark.parametrize("name", ["tracklog.db", ""])
def test_the_start_names_a_log_or_folder_of_another_user(used, name):
    path = used / name
    os.chown(path, 0, 0)
    path.chmod(0o755)
    said = refusal(used)
    assert f"cannot read and write {path}, which belongs to root. Run this as root, or run as root: chown" in said


@needs_root
def test_the_start_says_which_mode_is_missing(used):
    (used / "tracklog.db").chmod(0o400)
    assert f"belongs to {SERVICE_USER}. Run: chmod u+rwX {used}/tracklog.db" in refusal(used)


@needs_root
def test_the_command_that_the_start_names_works(used):
    for end in ("-queue", "-shm"):
        os.chown(used / f"tracklog.db{end}", 0, 0)
    subprocess.run(refusal(used).partition("Run as root: ")[2], shell=True, check=True)
    with as_service():
        host_checks.check(str(used / "tracklog.db"))


@needs_root
def test_the_start_names_a_read_only_file_system(used, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))
    assert refusal(used) == f"{used} is on a file system that is mounted read-only. Mount it for writing"
