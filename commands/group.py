"""What all command groups share: the log, failures as one sentence, and output for an 80-column terminal."""

from contextlib import contextmanager

import click
from flask import current_app
from flask.cli import AppGroup

from eventlog import NotPossible, Unavailable

WIDTH = 80


class LogGroup(AppGroup):
    """Commands on the log, which end with a sentence where it cannot do what they ask."""

    def invoke(self, context):
        with sentences():
            return super().invoke(context)


@contextmanager
def sentences():
    """End the program with a sentence where the log cannot do what was asked."""
    try:
        yield
    except (Unavailable, NotPossible) as failure:
        raise click.ClickException(str(failure)) from failure


def log():
    """Return the application's event log, which is closed when the command ends."""
    log = current_app.extensions["eventlog"]
    click.get_current_context().call_on_close(log.close)
    return log


def print_table(headers, rows):
    """Print rows under their headers, numbers to the right, each line cut at the terminal's width."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    for line, row in [(headers, None), *zip(cells, rows, strict=True)]:
        columns = []
        for index, (cell, width) in enumerate(zip(line, widths, strict=True)):
            is_number = rows and isinstance((row or rows[0])[index], int)
            columns.append(cell.rjust(width) if is_number else cell.ljust(width))
        click.echo("  ".join(columns).rstrip()[:WIDTH])


def short(time):
    """Return a time of the log without its seconds."""
    return time[:16].replace("T", " ")


def plain(text, keep=""):
    """Return text without what a terminal would obey, which senders must not write to an operator's."""
    return "".join(each if each.isprintable() or each in keep else "?" for each in text)
