"""What all command groups share: the log, failures as one sentence, and output for an 80-column terminal."""

import logging
from contextlib import contextmanager

import click
from flask import current_app
from flask.cli import AppGroup

from eventlog import NotPossible, Unavailable

TERMINAL_COLUMNS = 80


class LogGroup(AppGroup):
    """Commands on the log, which end with a sentence where it cannot do what they ask."""

    def invoke(self, context):
        print_warnings()
        with report_failures():
            return super().invoke(context)


@contextmanager
def report_failures():
    """End the program with a sentence where the log, or the system, cannot do what was asked."""
    try:
        yield
    except BrokenPipeError:
        raise  # click ends quietly when the reader of the output has ended
    except OSError as failure:  # of a file that is read, or of the standard output on a full disk
        named = f"{failure.filename}: " if failure.filename else ""
        raise click.ClickException(f"{named}{failure.strerror or failure}") from failure
    except (Unavailable, NotPossible) as failure:
        raise click.ClickException(sanitize(str(failure))) from failure


class PlainLines(logging.Formatter):
    """Log lines for a terminal. What a destination answered may be in them."""

    def format(self, record):
        return sanitize(super().format(record), keep="\n")


def print_warnings():
    """Print what is logged on the way of a command, for the person at its terminal."""
    handler = logging.StreamHandler()
    handler.setFormatter(PlainLines("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)


def get_log():
    """Return the application's event log, which is closed when the command ends."""
    log = current_app.extensions["eventlog"]
    click.get_current_context().call_on_close(log.close)
    return log


def print_table(headers, rows):
    """Print rows under their headers, numbers to the right, each line cut at the terminal's width.

    Every cell is made printable.
    """
    cells = [[sanitize(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    for line, row in [(headers, None), *zip(cells, rows, strict=True)]:
        columns = []
        for index, (cell, width) in enumerate(zip(line, widths, strict=True)):
            is_number = rows and isinstance((row or rows[0])[index], int)
            columns.append(cell.rjust(width) if is_number else cell.ljust(width))
        click.echo("  ".join(columns).rstrip()[:TERMINAL_COLUMNS])


def format_minute(time):
    """Return a time of the log without its seconds."""
    return time[:16].replace("T", " ")


def sanitize(text, keep=""):
    """Return text without what a terminal would obey: controls and formats become `?`, except those to `keep`.

    Every text of a sender or a destination goes through it before it is printed.
    """
    return "".join(each if each.isprintable() or each in keep else "?" for each in text)
