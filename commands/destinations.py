"""flask destinations: manage where events are forwarded to."""

import re
from collections.abc import Sequence
from uuid import uuid4

import click

import forwarding
from commands.group import LogGroup, format_minute, get_log, print_table, sanitize
from eventlog import NotPossible, StoredEvent
from eventlog.times import age, now
from schemas import CALLS

REPLAY_EVENTS, REPLAY_BYTES = 1000, 10_000_000  # read and delivered at a time

destinations = LogGroup("destinations", help="Manage where events are forwarded to.")


class From(click.ParamType):
    """A parameter for the first event to deliver: `start`, `now`, or its id as an int."""

    name = "start|now|ID"

    def convert(self, value: str, param: click.Parameter | None, context: click.Context | None) -> str | int:
        if value in ("start", "now"):
            return value
        if not re.fullmatch(r"\d{1,18}", value, re.ASCII):
            self.fail(f"{value!r} is not start, now, or the id of an event", param, context)
        return int(value)


@destinations.command()
@click.argument("name")
@click.argument("url")
@click.option(
    "--type",
    "types",
    type=click.Choice(list(CALLS)),
    multiple=True,
    help="Deliver only this type; may be repeated.",
)
@click.option("--source", "sources", metavar="NAME", multiple=True, help="Deliver only this source; may be repeated.")
@click.option("--from", "start", type=From(), default="start", show_default=True, help="The first event to deliver.")
def add(name: str, url: str, types: tuple[str, ...], sources: tuple[str, ...], start: str | int) -> None:
    """Add a destination. A running forwarder delivers to it within seconds.

    The forwarder replaces ${NAME} in the URL from its environment. docs/forward.md lists the kinds of URLs.

    \b
    Example:
      flask destinations add warehouse 'https://${KEY}@warehouse.example/v1/batch'
      flask destinations add hook webhook+https://host.example/in --type track
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,60}", name):
        raise NotPossible("A destination's name may have only letters, digits, - and _, and at most 60 of them")
    for source in sources:
        get_log().sources.named(source)
    forwarding.check_url(url)
    if forwarding.carries_one_source(url):
        # Bind it to the only source, so that a source added later does not share its key.
        sources = sources or tuple(source.name for source in get_log().sources.all())
        if len(sources) != 1:
            raise NotPossible("A destination of this kind carries one source: name it with --source")
    first = 1 if start == "start" else get_log().reader.last_id() + 1 if start == "now" else int(start)
    get_log().destinations.add(name, url, types, sources, first - 1)
    click.echo(f"Destination {name} begins after event {first - 1}")


@destinations.command("set")
@click.argument("name")
@click.argument("url")
def set_url(name: str, url: str) -> None:
    """Change a destination's URL to another one of the same kind.

    A running forwarder uses the new URL within two seconds. Events that were not yet acknowledged at the old URL
    are sent to the new one.

    \b
    Example:
      flask destinations set warehouse 'https://${KEY}@new.example/v1/batch'
    """
    forwarding.check_url(url)
    kind, new_kind = forwarding.find_kind(get_log().destinations.get(name).url), forwarding.find_kind(url)
    if new_kind != kind:
        raise NotPossible(
            f"{name} is of the kind {kind}, but this URL is of the kind {new_kind}: add a new destination"
        )
    get_log().destinations.set_url(name, url)
    click.echo(f"Destination {name} now delivers to {forwarding.redact_url(url)}")


@destinations.command("list")
def list_destinations() -> None:
    """Show each destination's position, backlog and last error.

    \b
    Example:
      flask destinations list
    """
    progress = {each.name: each for each in get_log().destinations.progress()}
    listed = [each for each in get_log().destinations.all() if each.name in progress]
    rows = []
    for each in listed:
        state = "paused" if each.paused else "failing" if each.last_error else "ok"
        _, waiting, oldest, delivered, _, dead = progress[each.name]
        rows.append((each.name, state, each.position, waiting, _format_age(oldest), delivered, dead))
    print_table(("NAME", "STATE", "POSITION", "WAITING", "OLDEST", "DELIVERED", "DEAD"), rows)
    for each in listed:
        click.echo(f"\n{each.name}: {forwarding.redact_url(each.url)}")
        if each.types or each.sources:
            click.echo(f"  only {', '.join((*each.types, *each.sources))}")
        click.echo(f"  last success {each.last_success_at or 'never'}")
        if each.last_error:
            click.echo(f"  last error   {each.last_error_at} {sanitize(each.last_error)}")


@destinations.command()
@click.argument("name")
def pause(name: str) -> None:
    """Stop delivering to a destination. It keeps its position.

    \b
    Example:
      flask destinations pause warehouse
    """
    get_log().make_room()
    get_log().destinations.pause(name, True)
    click.echo(f"Destination {name} is paused")


@destinations.command()
@click.argument("name")
def resume(name: str) -> None:
    """Continue delivering to a paused destination.

    \b
    Example:
      flask destinations resume warehouse
    """
    get_log().destinations.pause(name, False)
    click.echo(f"Destination {name} is resumed")


@destinations.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def remove(name: str, yes: bool) -> None:
    """Delete a destination, its position and its dead letters.

    \b
    Example:
      flask destinations remove warehouse --yes
    """
    get_log().make_room()
    dead = get_log().destinations.count_dead(get_log().destinations.get(name).name)
    if not yes:
        click.confirm(f"Delete {name}, its position and {dead} dead letters?", abort=True)
    get_log().destinations.remove(name)
    forwarding.discard_lock(get_log().path, name)
    click.echo(f"Destination {name} is removed")


@destinations.command()
@click.argument("name")
def test(name: str) -> None:
    """Deliver a test event, which is not stored in the log.

    \b
    Example:
      flask destinations test warehouse
    """
    id, at = f"test-{uuid4()}", now()
    payload = (
        f'{{"type":"track","messageId":"{id}","userId":"tracklog","event":"Destination Tested",'
        f'"originalTimestamp":"{at}","timestamp":"{at}","receivedAt":"{at}"}}'
    )
    sources = get_log().destinations.get(name).sources or [source.name for source in get_log().sources.all()]
    event = StoredEvent(0, sources[0], id, "track", "tracklog", None, "Destination Tested", at, at, payload)
    _deliver(name, [event])
    click.echo(f"Destination {name} accepted the event {id}")


@destinations.command()
@click.argument("name")
def dead(name: str) -> None:
    """Show the events that a destination rejected for good, and why.

    \b
    Example:
      flask destinations dead warehouse
    """
    rows = [
        (
            letter.event.id,
            format_minute(letter.died_at),
            letter.event.type,
            letter.attempts,
            letter.code,
            letter.message,
        )
        for letter in get_log().destinations.dead_letters(name)
    ]
    print_table(("EVENT", "DIED", "TYPE", "TRIES", "CODE", "MESSAGE"), rows)


@destinations.command()
@click.argument("name")
@click.option("--dead", "is_dead", is_flag=True, help="Deliver its dead letters.")
@click.option("--from", "first", metavar="ID", type=int, help="Deliver events from this one.")
@click.option("--to", "last", metavar="ID", type=int, help="Deliver events up to this one.")
def replay(name: str, is_dead: bool, first: int | None, last: int | None) -> None:
    """Deliver dead letters, or a range of the log, once more.

    Dead letters that are accepted are deleted. The position does not change.

    \b
    Example:
      flask destinations replay warehouse --dead
      flask destinations replay warehouse --from 1000 --to 2000
    """
    if is_dead == (first is not None or last is not None):
        raise click.UsageError("Give --dead, or --from and --to")
    if is_dead:
        click.echo(
            f"{_deliver(name, [letter.event for letter in get_log().destinations.dead_letters(name)])} delivered"
        )
        return
    if first is None or last is None:
        raise click.UsageError("Give both --from and --to")
    delivered, done = 0, first - 1  # `done` is the id of the last event delivered
    while events := [
        event for event in get_log().reader.read_next(done, REPLAY_EVENTS, REPLAY_BYTES) if event.id <= last
    ]:
        delivered, done = delivered + _deliver(name, events), events[-1].id
    click.echo(f"{delivered} delivered")


def _deliver(name: str, events: Sequence[StoredEvent]) -> int:
    """Deliver events regardless of the position, and delete the dead letters among them that are accepted.

    Return how many were accepted. Raises NotPossible if any is rejected.
    """
    id = get_log().destinations.get(name).id
    delivered, dead = forwarding.redeliver(get_log(), name, events)
    get_log().destinations.delete_dead_letters(id, delivered)
    if dead:
        raise NotPossible(
            f"{len(dead)} of {len(events)} events were rejected, the first as: {sanitize(dead[0].message)}"
        )
    return len(delivered)


def _format_age(received_at: str | None) -> str:
    """Return how long ago a time of the log was, such as 3h."""
    if received_at is None:
        return "-"
    seconds = int(age(received_at))
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
