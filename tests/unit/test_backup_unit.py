"""The commands of tracklog-backup.service, run in order without systemd."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

UNIT = (Path(__file__).parents[2] / "deploy" / "tracklog-backup.service").read_text()
COMMANDS = [shlex.split(line.replace("%%", "%")) for line in re.findall(r"^ExecStart=(.*)$", UNIT, re.MULTILINE)]


@pytest.fixture
def backups(tmp_path):
    folder = tmp_path / "my backups"
    folder.mkdir()
    return folder


def back_up(backups, script, kept):
    """Run the commands with a stand-in for tracklog, whose third argument is the new file.

    Stop at a failure, unless the command begins with a minus.
    """
    command = backups.parent / ".venv" / "bin" / "tracklog"
    command.parent.mkdir(parents=True)
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    path = f"{backups.parent}/bin:{os.environ['PATH']}"
    environment = {"BACKUPS": str(backups), "BACKUPS_KEPT": str(kept), "PATH": path}
    for program, *arguments in COMMANDS:
        ended = subprocess.run([program.removeprefix("-"), *arguments], cwd=backups.parent, env=environment)
        if ended.returncode and not program.startswith("-"):
            return


def names(backups):
    return sorted(path.name for path in backups.iterdir())


def test_what_a_killed_backup_has_left_is_deleted_before_the_next_one(backups):
    """It may have filled the disk, so that no backup would succeed again."""
    (backups / ".backup-killed").mkdir()
    (backups / ".backup-killed" / "log").touch()
    back_up(backups, "exit 1", kept=7)
    assert names(backups) == []


def test_a_backup_is_made_even_if_what_is_left_cannot_be_deleted(backups):
    """It belongs to root if root has run the killed backup."""
    rm = backups.parent / "bin" / "rm"
    rm.parent.mkdir()
    rm.write_text("#!/bin/sh\nexit 1\n")
    rm.chmod(0o755)
    back_up(backups, 'touch "$3"', kept=7)
    assert len(names(backups)) == 1


def test_the_newest_backups_are_kept(backups):
    for name in ("tracklog-2015-11-09-020000.db", "tracklog-2015-11-10-020000.db", "before-upgrade-2015.db"):
        (backups / name).touch()
    back_up(backups, 'touch "$3"', kept=2)
    oldest, kept, new = names(backups)
    assert (oldest, kept) == ("before-upgrade-2015.db", "tracklog-2015-11-10-020000.db")
    assert new.startswith("tracklog-")


def test_a_backup_that_fails_deletes_no_other(backups):
    (backups / "tracklog-2015-11-10-020000.db").touch()
    back_up(backups, "exit 1", kept=0)
    assert names(backups) == ["tracklog-2015-11-10-020000.db"]
