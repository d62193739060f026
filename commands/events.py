"""flask events: what has been recorded."""

import sys
import time

import click

from commands.group import WIDTH, LogGroup, log, plain, print_table, short
from eventlog.export_line import export_line
from schemas import CALLS

POLL = 0.25  # seconds between two looks at a log that is followed
CHUNK = 1000  # events

events = LogGroup("events", help="Look at the recorded events.")


@events.command()
@click.option("-n", "number", type=click.IntRange(min=0), default=10, show_default=True, help="How many.")
@click.option("--follow", is_flag=True, help="Go on with those that come, until interrupted.")
@click.option("--type", type=click.Choice(list(CALLS)), help="Only calls of this type.")
@click.option("--source", metavar="NAME", help="Only events of this source.")
def tail(number, follow, type, source):
    """Show the newest events, a line each: id, time received, type, source, user, name.

    Where few events are of a --type or --source, it reads the log back until it has found them.

    \b
    Example:
      flask events tail -n 3
      flask events tail --follow --type track --source website
    """
    reader = log().reader
    cursor = reader.last_id()
    newest = reader.read_last(number, type=type, source=source)
    while True:
        for event in newest:
            click.echo(_line(event))
            cursor = max(cursor, event.id)
        if not follow:
            return
        if not newest:
            time.sleep(POLL)
        newest = reader.read_after(cursor, CHUNK, type=type, source=source)


@events.command()
def stats():
    """Show what was received since the log was made: by source and type, and what was rejected and why.

    \b
    Example:
      flask events stats
    """
    counts = log().reader.counts()
    by_type = {}
    for each in counts:
        if not each.code:
            by_type.setdefault((each.source, each.type), {})[each.outcome] = each
    rows = []
    for (source, type), outcomes in sorted(by_type.items()):
        first, last = min(each.first_at for each in outcomes.values()), max(each.last_at for each in outcomes.values())
        numbers = [outcomes[outcome].times if outcome in outcomes else 0 for outcome in ("stored", "duplicate")]
        rows.append((source, type, *numbers, short(first), short(last)))
    print_table(("SOURCE", "TYPE", "STORED", "DUPLICATES", "FIRST", "LAST"), rows)
    rejected = [
        (each.source, each.code, each.times, short(each.first_at), short(each.last_at))
        for each in counts
        if each.outcome == "rejected"
    ]
    if rejected:
        click.echo()
        print_table(("SOURCE", "REJECTED FOR", "TIMES", "FIRST", "LAST"), rejected)
    stored, duplicates, refused, removed = (
        sum(each.times for each in counts if each.outcome == outcome)
        for outcome in ("stored", "duplicate", "rejected", "removed")
    )
    click.echo(
        f"\n{stored + duplicates + refused} received = {stored} stored + {duplicates} duplicates + {refused} rejected"
    )
    if removed:
        click.echo(f"{removed} of the stored are removed again")


@events.command()
def export():
    """Write all events to the standard output, oldest first, as lines of JSON: {"id", "source", "event"}.

    An event is written as it is stored, and not safe to show on a terminal.

    \b
    Example:
      flask events export > events.ndjson
      flask events export | jq -r 'select(.event.type == "track") | .event.event'
    """
    reader = log().reader
    cursor, last = 0, reader.last_id()
    with click.progressbar(length=last, label="Exporting", file=sys.stderr, hidden=not sys.stderr.isatty()) as progress:
        while cursor < last and (chunk := reader.read_after(cursor, CHUNK)):
            for event in chunk:
                click.echo(export_line(event))
            progress.update(chunk[-1].id - cursor)
            cursor = chunk[-1].id


@events.command()
def check():
    """Read all of the log: whether it is whole, and whether its counts are those of its rows.

    \b
    Example:
      flask events check
    """
    problems = log().reader.problems()
    for problem in problems:
        click.echo(plain(problem))
    if problems:
        raise click.exceptions.Exit(1)
    click.echo(f"The log is whole, and its counts agree with its rows; the last event is {log().reader.last_id()}")


def _line(event):
    user = event.user_id or event.anonymous_id or ""
    name = event.name or ""
    line = (
        f"{event.id:>7} {event.received_at[:19]} {event.type:<8} {event.source[:12]:<12} {user[:14]:<14} {name[:WIDTH]}"
    )
    return plain(line[:WIDTH]).rstrip()
