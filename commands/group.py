"""Share between all command groups: the log, errors in one line, and output that fits an 80-column terminal."""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from flask import current_app
from flask.cli import AppGroup

import eventlog
from eventlog import EventLog, NotPossible, Unavailable
from eventlog.schema import require_file
from telemetry.storage_trouble import explain_failure

TERMINAL_COLUMNS = 80

create_option = click.option("--create", "may_create", is_flag=True, help="Create the log if there is none.")
confirmed_option = click.option("--yes", "is_confirmed", is_flag=True, help="Do not ask for confirmation.")


class LogGroup(AppGroup):
    """A group of commands that work on the log and report failures in one line."""

    def __init__(self, name: str, help: str) -> None:
        super().__init__(name, help=help, context_settings={"show_default": True})

    def invoke(self, context: click.Context) -> Any:
        print_warnings()
        with report_failures():
            return super().invoke(context)


@contextmanager
def report_failures() -> Iterator[None]:
    """Exit with a one-line error if the log or the operating system fails."""
    try:
        yield
    except BrokenPipeError:
        raise  # click exits silently when the program that reads the output has ended
    except OSError as failure:  # an unreadable input file, or a full disk under the standard output
        named = f"{failure.filename}: " if failure.filename else ""
        raise click.ClickException(f"{named}{failure.strerror or failure}") from failure
    except UnicodeEncodeError as failure:  # Python keeps such bytes of an argument as lone surrogates
        raise click.ClickException("An argument is not UTF-8, or the terminal cannot show a text") from failure
    except (Unavailable, NotPossible) as failure:
        raise click.ClickException(sanitize(explain_failure(failure))) from failure


class SanitizingFormatter(logging.Formatter):
    """Format log lines for a terminal; they may contain a destination's response."""

    def format(self, record: logging.LogRecord) -> str:
        return sanitize(super().format(record), keep="\n")


def print_warnings() -> None:
    """Print warnings and errors that are logged while a command runs."""
    handler = logging.StreamHandler()
    handler.setFormatter(SanitizingFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)


def get_log() -> EventLog:
    """Return the application's event log, and close it when the command ends."""
    log: EventLog = current_app.extensions["eventlog"]
    click.get_current_context().call_on_close(log.close)
    return log


def get_log_to_change() -> EventLog:
    """Return the log as `get_log` does, after telling the operator which one it is. Raise Missing if there is none."""
    log = get_log()
    require_file(log.path)
    click.echo(f"Log: {sanitize(log.path)}", err=True)
    return log


def create_log(may_create: bool) -> EventLog:
    """Return the log, migrated or new. Raise Missing if there is none and the operator has not said where to create it.

    Without TRACKLOG_DATABASE, its path depends on the working directory, so creating one needs --create.
    """
    log = get_log()
    is_new = not os.path.exists(log.path)
    if not (may_create or "TRACKLOG_DATABASE" in os.environ):
        require_file(log.path)
    eventlog.create(log.path)
    click.echo(f"{'Created the log' if is_new else 'Log:'} {sanitize(log.path)}", err=True)
    return log


def show_progress(label: str, length: int, is_shown: bool = True) -> Any:
    """Return a progress bar on the standard error. It is hidden unless that is a terminal."""
    return click.progressbar(length=length, label=label, file=sys.stderr, hidden=not (is_shown and sys.stderr.isatty()))


@contextmanager
def report_progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar. Yield a function that is called with how much is done, and how much there is in all."""
    with show_progress(label, 1) as progress:

        def report(done: int, total: int) -> None:
            progress.length = max(total, 1)
            progress.update(done - progress.pos)

        yield report


def print_table(
    headers: Sequence[str], rows: Sequence[Sequence[object]], max_columns: int | None = TERMINAL_COLUMNS
) -> None:
    """Print sanitized rows under their headers, numbers right-aligned, and truncate lines to `max_columns`."""
    cells = [[sanitize(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    values_of_headers = rows[0] if rows else headers  # a header is aligned like the cell below it
    for line, values in [(headers, values_of_headers), *zip(cells, rows, strict=True)]:
        columns = [
            cell.rjust(width) if isinstance(value, int) else cell.ljust(width)
            for cell, width, value in zip(line, widths, values, strict=True)
        ]
        click.echo("  ".join(columns).rstrip()[:max_columns])


def format_minute(time: str) -> str:
    """Return a time of the log without its seconds."""
    return time[:16].replace("T", " ")


def sanitize(text: str, keep: str = "") -> str:
    """Replace each control and format character by `?`, except those in `keep`.

    A terminal would execute them. Every text of a sender or a destination must pass through here before it is printed.
    """
    return "".join(each if each.isprintable() or each in keep else "?" for each in text)
