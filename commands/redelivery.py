"""Deliver to a destination by hand: tracklog destinations test | dead | replay."""

from collections.abc import Iterator, Sequence
from uuid import uuid4

import click

import forwarding
from commands.destinations import destinations
from commands.group import format_minute, get_log, get_log_to_change, print_table, sanitize
from eventlog import NotPossible, StoredEvent
from eventlog.times import now

REPLAY_EVENTS, REPLAY_BYTES = 1000, 10_000_000  # read and delivered at a time


@destinations.command()
@click.argument("name")
def test(name: str) -> None:
    """Deliver a test event, which is not stored in the log, and show what came back.

    Makes one attempt.

    \b
    Example:
      tracklog destinations test warehouse
    """
    id, at = f"test-{uuid4()}", now()
    payload = (
        f'{{"type":"track","messageId":"{id}","userId":"tracklog","event":"Destination Tested",'
        f'"originalTimestamp":"{at}","timestamp":"{at}","receivedAt":"{at}"}}'
    )
    sources = get_log_to_change().destinations.get(name).sources or [source.name for source in get_log().sources.all()]
    if not sources:
        raise NotPossible("The log has no source that the test event could be of. Add one: tracklog sources add NAME")
    event = StoredEvent(0, sources[0], id, "track", "tracklog", None, "Destination Tested", at, at, payload)
    result = _deliver(name, [event], max_tries=1)
    if not result.delivered:
        raise NotPossible(f"Destination {name} does not get the test event: its filters or its transform drop it")
    click.echo(f"Destination {name} accepted the event {id}")
    if result.answer:
        click.echo(sanitize(f"It answered {result.answer}"))


@destinations.command()
@click.argument("name")
def dead(name: str) -> None:
    """Show the events that a destination rejected for good, and why.

    \b
    Example:
      tracklog destinations dead warehouse
    """
    rows = [
        (event.id, format_minute(died_at), event.type, attempts, code, message)
        for event, code, message, attempts, died_at in get_log().destinations.dead_letters(name)
    ]
    print_table(("EVENT", "DIED", "TYPE", "TRIES", "CODE", "MESSAGE"), rows, max_columns=None)


@destinations.command()
@click.argument("name")
@click.option("--dead", "is_dead", is_flag=True, help="Deliver its dead letters.")
@click.option("--from", "first", metavar="ID", type=int, help="Deliver events from this one.")
@click.option("--to", "last", metavar="ID", type=int, help="Deliver events up to this one.")
def replay(name: str, is_dead: bool, first: int | None, last: int | None) -> None:
    """Deliver dead letters, or a range of the log, once more.

    Dead letters that are accepted, or that the transform drops, are deleted. The cursor does not move.

    \b
    Example:
      tracklog destinations replay warehouse --dead
      tracklog destinations replay warehouse --from 1000 --to 2000
    """
    get_log_to_change()
    if is_dead and first is None and last is None:
        delivered = _deliver(name, [each.event for each in get_log().destinations.dead_letters(name)]).delivered
    elif not is_dead and first is not None and last is not None:
        delivered = sum(_deliver(name, events).delivered for events in _read_range(first, last))
    else:
        raise click.UsageError("Give --dead, or both --from and --to")
    click.echo(f"{delivered} delivered")


def _read_range(first: int, last: int) -> Iterator[list[StoredEvent]]:
    read_next = get_log().reader.read_next
    while events := [each for each in read_next(first - 1, REPLAY_EVENTS, REPLAY_BYTES) if each.id <= last]:
        yield events
        first = events[-1].id + 1


def _deliver(
    name: str, events: Sequence[StoredEvent], max_tries: int = forwarding.MAX_TRIES_ONCE
) -> forwarding.Redelivered:
    """Deliver events regardless of the cursor, and delete the dead letters among them that are accepted or dropped.

    Raises NotPossible if any is rejected.
    """
    id = get_log().destinations.get(name).id
    result = forwarding.redeliver(get_log(), name, events, max_tries)
    get_log().destinations.delete_dead_letters(id, result.done)
    if result.dead:
        reason = sanitize(result.dead[0].message)
        raise NotPossible(f"{len(result.dead)} of {len(events)} events were rejected, the first as: {reason}")
    return result
