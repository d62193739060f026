"""Copy the log, or import exported events: tracklog events backup | import."""

import gzip
import io
import os
import sys
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import click

from commands.events import events
from commands.group import create_log, create_option, get_log, report_progress, sanitize, show_progress
from errors import ApiError
from eventlog import Event, NotPossible
from ingest.body import GZIP_MAGIC
from ingest.import_lines import read_line

# The limits of one import transaction. A short one does not keep senders waiting.
MAX_TRANSACTION_EVENTS = 500
MAX_TRANSACTION_BYTES = 1024 * 1024


@events.command()
@click.argument("target", metavar="FILE", type=click.Path())
def backup(target: str) -> None:
    """Copy the log to FILE while the service runs.

    FILE must not exist. It appears under its name once the copy is complete, verified and on disk.

    \b
    Example:
      tracklog events backup /backup/tracklog-$(date +%F).db
    """
    with report_progress("Copying") as report:
        last = get_log().back_up(target, report)
    click.echo(f"Backed up {sanitize(get_log().path)} to {target}; its last event is {last}")


@events.command("import")
@click.argument("file", metavar="FILE", type=click.File("rb"))
@create_option
def import_events(file: BinaryIO, may_create: bool) -> None:
    """Store the events that `tracklog events export` wrote to FILE.

    FILE may be compressed with gzip; - reads the standard input. Blank lines are skipped. Events that are already in
    the log are duplicates and are not stored again, so a failed import can be repeated. Events keep their times. An
    event keeps its id if that is higher than every id that the log has used.

    If there is no log, creates the one that TRACKLOG_DATABASE names. Without that setting, this needs --create.

    \b
    Example:
      tracklog events import events.ndjson
      cat archive/*/*/*.ndjson.gz | tracklog events import -
    """
    create_log(may_create).keep_reserve()
    is_shown = sys.stderr.isatty() and file.name != "<stdin>" and file.seekable()
    size = os.fstat(file.fileno()).st_size if is_shown else 0
    stored = duplicates = 0
    with show_progress("Importing", size, is_shown) as progress:
        for chunk in _split(_read_lines(file)):
            are_new = get_log().import_events(chunk)
            stored += sum(are_new)
            duplicates += len(are_new) - sum(are_new)
            if is_shown:
                progress.update((size if file.closed else file.tell()) - progress.pos)
    click.echo(f"{stored + duplicates} events: {stored} stored, {duplicates} duplicates")


def _read_lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield the number and the text of each line that is not blank. Inflate a gzip file.

    Raises NotPossible if the file cannot be read to its end.
    """
    number = 0
    try:
        with io.BufferedReader(file) as buffered:
            lines = gzip.GzipFile(fileobj=buffered) if buffered.peek(2)[:2] == GZIP_MAGIC else buffered
            for number, line in enumerate(lines, 1):
                if not line.isspace():
                    yield number, line
    except (EOFError, OSError, zlib.error) as failure:
        reason = getattr(failure, "strerror", None) or failure
        raise NotPossible(
            f"Cannot read the file past line {number}; the events up to that line are imported: {reason}"
        ) from failure


def _split(lines: Iterable[tuple[int, bytes]]) -> Iterator[list[tuple[int, Event]]]:
    """Yield the events of an export in chunks, one per transaction.

    Raises NotPossible at the first bad line, after yielding the events before it.
    """
    chunk: list[tuple[int, Event]] = []
    size = 0
    try:
        for number, line in lines:
            try:
                chunk.append(read_line(line))
            except (ApiError, NotPossible) as failure:
                reason = sanitize(str(failure))
                raise NotPossible(f"Cannot import line {number}; the lines before it are imported. {reason}") from None
            size += len(line)
            if len(chunk) == MAX_TRANSACTION_EVENTS or size > MAX_TRANSACTION_BYTES:
                yield chunk
                chunk, size = [], 0
    except NotPossible:
        yield chunk
        raise
    yield chunk
