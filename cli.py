"""Define the command `tracklog`: all commands of this service, and none of Flask's."""

from typing import Any

import click
from flask.cli import ScriptInfo

from commands import COMMANDS
from commands.group import report_failures
from config import VERSION


@click.group(commands=COMMANDS)
@click.version_option(VERSION, message="%(prog)s %(version)s")
def tracklog() -> None:
    """Record analytics events in an event log, read it, and forward it.

    TRACKLOG_DATABASE is the path of the log. `tracklog settings` explains all settings.
    """


def main() -> None:
    """Run the command. Its name also determines its variable for shell completion, _TRACKLOG_COMPLETE."""
    tracklog(prog_name="tracklog", obj=ScriptInfo(create_app=_create_app, set_debug_flag=False))


def _create_app() -> Any:
    from app import create_app  # here, because --help and completion need no app

    with report_failures():
        return create_app()


if __name__ == "__main__":
    main()
