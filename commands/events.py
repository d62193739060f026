"""Show and check the recorded events: tracklog events tail | stats | export | check."""

import time
from collections.abc import Sequence
from itertools import groupby

import click

from commands.group import (
    TERMINAL_COLUMNS,
    LogGroup,
    format_minute,
    get_log,
    print_table,
    report_progress,
    sanitize,
    show_progress,
)
from eventlog import Count, StoredEvent, StoredRejection
from schemas import CALLS

POLL_SECONDS = 0.25
MAX_EVENTS_PER_READ = 1000

events = LogGroup("events", help="Show, check and manage the recorded events.")


@events.command()
@click.option("-n", "number", type=click.IntRange(min=0), default=10, help="Number of events.")
@click.option("--follow", is_flag=True, help="Keep printing new ones until interrupted.")
@click.option("--type", type=click.Choice(list(CALLS)), help="Only calls of this type.")
@click.option("--source", metavar="NAME", help="Only events of this source.")
@click.option("--rejected", "is_rejected", is_flag=True, help="Print rejected events instead.")
def tail(number: int, follow: bool, type: str | None, source: str | None, is_rejected: bool) -> None:
    """Print the newest events, one per line.

    The columns are id, time received, type, source, user and name. With --rejected, they are id, time first received,
    source, error code and route; rejections that were replayed are shown too. With --type or --source, the log is
    scanned backwards until enough are found.

    \b
    Example:
      tracklog events tail -n 3
      tracklog events tail --follow --type track --source website
      tracklog events tail --follow --rejected
    """
    if is_rejected and type:
        raise click.UsageError("A rejected event has no type: give --rejected or --type")
    log = get_log()
    last_shown = log.rejections.last_id() if is_rejected else log.reader.last_id()
    shown: Sequence[StoredRejection | StoredEvent] = (
        log.rejections.last(number, source=source, replayed=True)
        if is_rejected
        else log.reader.read_last(number, type=type, source=source)
    )
    while True:
        for each in shown:
            click.echo(_format_rejection(each) if isinstance(each, StoredRejection) else _format_event(each))
            last_shown = max(last_shown, each.id)
        if not follow:
            return
        if not shown:
            time.sleep(POLL_SECONDS)
        shown = (
            log.rejections.read_after(last_shown, MAX_EVENTS_PER_READ, source=source)
            if is_rejected
            else log.reader.read_after(last_shown, MAX_EVENTS_PER_READ, type=type, source=source)
        )


@events.command()
def stats() -> None:
    """Count what was received, by source and type or error code.

    The counts start when the log is created.

    \b
    Example:
      tracklog events stats
    """
    counts = get_log().reader.counts()
    rows = []
    without_code = [each for each in counts if not each.code]
    for (source, type), same_type in groupby(without_code, lambda each: (each.source, each.type)):
        group = list(same_type)
        first, last = min(each.first_at for each in group), max(each.last_at for each in group)
        times = _total(group, "stored"), _total(group, "duplicate")
        rows.append((source, type, *times, format_minute(first), format_minute(last)))
    print_table(("SOURCE", "TYPE", "STORED", "DUPLICATES", "FIRST", "LAST"), rows)
    rejections = [
        (each.source, each.code, each.times, format_minute(each.first_at), format_minute(each.last_at))
        for each in counts
        if each.outcome == "rejected"
    ]
    if rejections:
        click.echo()
        print_table(("SOURCE", "REJECTED WITH", "TIMES", "FIRST", "LAST"), rejections)
    stored, duplicates, rejected = (_total(counts, outcome) for outcome in ("stored", "duplicate", "rejected"))
    received = stored + duplicates + rejected
    click.echo(f"\n{received} received = {stored} stored + {duplicates} duplicates + {rejected} rejected")
    if removed := _total(counts, "removed"):
        click.echo(f"{removed} of the stored events were deleted later")


def _total(counts: Sequence[Count], outcome: str) -> int:
    return sum(each.times for each in counts if each.outcome == outcome)


@events.command()
def export() -> None:
    """Write all events to the standard output as JSON lines.

    Each line is {"id", "source", "event"}, oldest first. Events are written exactly as they are stored,
    and are not safe to print on a terminal.

    \b
    Example:
      tracklog events export > events.ndjson
      tracklog events export | jq -r 'select(.event.type == "page") | .event.name'
    """
    reader = get_log().reader
    written, last = 0, reader.last_id()
    with show_progress("Exporting", last) as progress:
        while written < last and (chunk := reader.read_after(written, MAX_EVENTS_PER_READ)):
            for event in chunk:
                click.echo(event.export_line())
            progress.update(chunk[-1].id - written)
            written = chunk[-1].id


@events.command()
def check() -> None:
    """Verify the whole log.

    Runs SQLite's integrity check and compares the counts with the rows. Exits with status 1 if anything is wrong.

    \b
    Example:
      tracklog events check
    """
    with report_progress("Checking") as report:
        problems = get_log().reader.problems(report)
    for problem in problems:
        click.echo(sanitize(problem))
    if problems:
        raise click.exceptions.Exit(1)
    click.echo(f"The log is intact and its counts match its rows; the last event is {get_log().reader.last_id()}")


def _format_event(event: StoredEvent) -> str:
    user = event.user_id or event.anonymous_id or ""
    name = event.name or ""
    line = f"{event.id:>7} {event.received_at[:19]} {event.type:<8} {event.source[:12]:<12} {user[:14]:<14} {name}"
    return sanitize(line[:TERMINAL_COLUMNS]).rstrip()


def _format_rejection(rejection: StoredRejection) -> str:
    received_at, source = rejection.received_at[:19], rejection.source[:12]
    line = f"{rejection.id:>7} {received_at} {source:<12} {rejection.code:<24} {rejection.route}"
    return sanitize(line[:TERMINAL_COLUMNS]).rstrip()
