"""flask events backup | import: bring the log, or its events, to another place and back."""

import gzip
import io
import os
import sys
import zlib

import click
from flask import current_app

import eventlog
from commands.events import events
from commands.group import get_log, sanitize
from errors import ApiError
from eventlog import NotPossible
from ingest.import_lines import read_line

CHUNK_EVENTS = 500  # in a transaction, so that senders never wait for long
CHUNK_BYTES = 1024 * 1024
GZIP = b"\x1f\x8b"  # how a gzip file begins


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

        last = get_log().back_up(target, report)
    click.echo(f"{target} is whole, and its last event is {last}")


@events.command("import")
@click.argument("file", metavar="FILE", type=click.File("rb"))
def import_events(file):
    """Store the events of FILE, lines of `flask events export`; - is the standard input.

    FILE may be compressed with gzip. Blank lines are skipped. Creates the log if there is none. An event that is there
    already is a duplicate, and not stored again: after a failure, run it again. Times are kept, and so is an id that
    is above all that the log has used.

    \b
    Example:
      flask events import events.ndjson
      cat archive/*.ndjson.gz | flask events import -
    """
    eventlog.create(current_app.extensions["config"].database)
    get_log().keep_reserve()
    is_shown = sys.stderr.isatty() and file.name != "<stdin>" and file.seekable()
    size = os.fstat(file.fileno()).st_size if is_shown else 0
    stored = duplicates = 0
    with click.progressbar(length=size, label="Importing", file=sys.stderr, hidden=not is_shown) as progress:
        for chunk in _chunks(_lines(file)):
            are_new = get_log().import_events(chunk)
            stored += sum(are_new)
            duplicates += len(are_new) - sum(are_new)
            if is_shown:
                progress.update((size if file.closed else file.tell()) - progress.pos)
    click.echo(f"{stored + duplicates} events: {stored} stored, {duplicates} duplicates")


def _lines(file):
    """Yield the number and the text of each line that is not blank, inflated where the file is gzip.

    Raises NotPossible where it cannot be read to its end.
    """
    number = 0
    try:
        with io.BufferedReader(file) as buffered:
            lines = gzip.GzipFile(fileobj=buffered) if buffered.peek(2)[:2] == GZIP else buffered
            for number, line in enumerate(lines, 1):
                if not line.isspace():
                    yield number, line
    except (EOFError, OSError, zlib.error) as failure:
        reason = getattr(failure, "strerror", None) or failure
        raise NotPossible(
            f"The file cannot be read past line {number}, the events up to there are imported: {reason}"
        ) from failure


def _chunks(lines):
    """Yield the events of an export in chunks for a short transaction each; before a failure, those that are good."""
    chunk, size = [], 0
    try:
        for number, line in lines:
            try:
                chunk.append(read_line(line))
            except (ApiError, NotPossible) as failure:
                reason = f"{failure.code}: {failure.message}" if isinstance(failure, ApiError) else str(failure)
                raise NotPossible(
                    f"Line {number} cannot be imported, those before it are. {sanitize(reason)}"
                ) from None
            size += len(line)
            if len(chunk) == CHUNK_EVENTS or size > CHUNK_BYTES:
                yield chunk
                chunk, size = [], 0
    except NotPossible:
        yield chunk
        raise
    yield chunk
