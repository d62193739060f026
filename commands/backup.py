"""flask events backup | import: bring the log, or its events, to another place and back."""

import os
import sys

import click
from flask import current_app

import eventlog
from commands.events import events
from commands.group import log, plain
from errors import Refused
from eventlog import NotPossible
from importing import read_line

CHUNK_EVENTS = 500  # in a transaction, so that senders never wait for long
CHUNK_BYTES = 1024 * 1024


@events.command()
@click.argument("target", metavar="FILE", type=click.Path())
def backup(target):
    """Copy the log into FILE, as it is now, while the service goes on.

    FILE must not exist yet. It is there once the copy is whole, checked and on disk.

    \b
    Example:
      flask events backup /backup/tracklog-$(date +%F).db
    """
    hidden = not sys.stderr.isatty()
    with click.progressbar(length=1, label="Copying", file=sys.stderr, hidden=hidden) as progress:

        def report(done, pages):
            progress.length = pages
            progress.update(done - progress.pos)

        last = log().back_up(target, report)
    click.echo(f"{target} is whole, and its last event is {last}")


@events.command("import")
@click.argument("path", metavar="FILE", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
def import_events(path):
    """Store the events of FILE, lines of `flask events export`; - is the standard input.

    Creates the log if there is none. An event that is there already is a duplicate, and not stored again: after a
    failure, run it again. Times are kept, and so is an id that is above all that the log has used.

    \b
    Example:
      flask events import events.ndjson
      zcat events.ndjson.gz | flask events import -
    """
    eventlog.create(current_app.extensions["config"].database)
    log().keep_reserve()
    is_shown = sys.stderr.isatty() and path != "-"
    size = os.path.getsize(path) if is_shown else 0
    stored = duplicates = 0
    with (
        click.open_file(path, "rb") as lines,
        click.progressbar(length=size, label="Importing", file=sys.stderr, hidden=not is_shown) as progress,
    ):
        for chunk in _chunks(lines, progress.update):
            are_new = log().import_events(chunk)
            stored += sum(are_new)
            duplicates += len(are_new) - sum(are_new)
    click.echo(f"{stored + duplicates} events: {stored} stored, {duplicates} duplicates")


def _chunks(lines, report):
    """Yield the events of an export in chunks for a short transaction each; before a bad line, those that are good."""
    chunk, size = [], 0
    for number, line in enumerate(lines, 1):
        try:
            chunk.append(read_line(line))
        except (Refused, NotPossible) as failure:
            yield chunk
            reason = f"{failure.code}: {failure.message}" if isinstance(failure, Refused) else str(failure)
            raise NotPossible(f"Line {number} cannot be imported, those before it are. {plain(reason)}") from None
        report(len(line))
        size += len(line)
        if len(chunk) == CHUNK_EVENTS or size > CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    yield chunk
