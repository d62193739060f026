"""flask destinations: where events are forwarded to."""

import re
import threading
from uuid import uuid4

import click

import forwarding
from commands.group import LogGroup, log, plain, print_table, short
from eventlog import NotPossible, StoredEvent
from eventlog.times import age, now
from schemas import CALLS

MOST_COUNTED = 100_000  # waiting events; beyond, there are just many

destinations = LogGroup("destinations", help="Say where events are forwarded to.")


class From(click.ParamType):
    """Where a new destination begins: the position before its first event."""

    name = "start|now|ID"

    def convert(self, value, param, context):
        if value in ("start", "now"):
            return value
        if not re.fullmatch(r"\d{1,18}", value, re.ASCII):
            self.fail("is start, now, or the id of an event", param, context)
        return int(value)


@destinations.command()
@click.argument("name")
@click.argument("url")
@click.option(
    "--type",
    "types",
    type=click.Choice(list(CALLS)),
    multiple=True,
    help="Only calls of this type; more than once for more.",
)
@click.option("--source", "sources", metavar="NAME", multiple=True, help="Only this source; may be repeated.")
@click.option("--from", "start", type=From(), default="start", show_default=True, help="The first event to deliver.")
def add(name, url, types, sources, start):
    """Add a destination; a forwarder that runs delivers to it within seconds.

    ${NAME} in the URL is read from the forwarder's environment. docs/forward.md lists the kinds of URLs.

    \b
    Example:
      flask destinations add warehouse 'https://${KEY}@warehouse.example/v1/batch'
      flask destinations add hook webhook+https://host.example/in --type track
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,60}", name):
        raise NotPossible("A destination's name has letters, digits, - and _")
    for source in sources:
        log().sources.named(source)
    forwarding.check_url(url)
    if forwarding.carries_one_source(url):
        # It is bound to the only one, so that one that is added later does not share its key.
        sources = sources or [source.name for source in log().sources.all()]
        if len(sources) != 1:
            raise NotPossible("A destination of this kind carries one source: say which with --source")
    position = {"start": 0, "now": log().reader.last_id()}.get(start)
    if position is None:
        position = start - 1
    log().destinations.add(name, url, types, sources, position)
    click.echo(f"Destination {name} begins after event {position}")


@destinations.command("set")
@click.argument("name")
@click.argument("url")
def set_url(name, url):
    """Deliver to another URL, of the same kind; all else stays as it is.

    A forwarder that runs takes the new URL within two seconds. What it had sent to the old one, and not yet
    noted, is sent again.

    \b
    Example:
      flask destinations set warehouse 'https://${KEY}@new.example/v1/batch'
    """
    forwarding.check_url(url)
    kind, new_kind = forwarding.kind_of(log().destinations.get(name).url), forwarding.kind_of(url)
    if new_kind != kind:
        raise NotPossible(f"{name} is of the kind {kind}, and this URL of the kind {new_kind}: add another destination")
    log().destinations.set_url(name, url)
    click.echo(f"Destination {name} is set to {forwarding.hide_secrets(url)}")


@destinations.command("list")
def list_destinations():
    """Show all destinations: how far each is, and what is in its way.

    \b
    Example:
      flask destinations list
    """
    rows = []
    for each in log().destinations.all():
        waiting, oldest = log().reader.waiting(each.position, MOST_COUNTED)
        state = "paused" if each.paused else "failing" if each.last_error else "ok"
        shown = f"{MOST_COUNTED}+" if waiting == MOST_COUNTED else waiting
        rows.append(
            (
                each.name,
                state,
                each.position,
                shown,
                _age(oldest),
                each.delivered,
                log().destinations.count_dead(each.name),
            )
        )
    print_table(("NAME", "STATE", "POSITION", "WAITING", "OLDEST", "DELIVERED", "DEAD"), rows)
    for each in log().destinations.all():
        click.echo(f"\n{each.name}: {forwarding.hide_secrets(each.url)}")
        if each.types or each.sources:
            click.echo(f"  only {', '.join((*each.types, *each.sources))}")
        click.echo(f"  last success {each.last_success_at or 'never'}")
        if each.last_error:
            click.echo(f"  last error   {each.last_error_at} {plain(each.last_error)}")


@destinations.command()
@click.argument("name")
def pause(name):
    """Stop delivering to a destination; it keeps its position.

    \b
    Example:
      flask destinations pause warehouse
    """
    log().make_room()
    log().destinations.pause(name, True)
    click.echo(f"Destination {name} is paused")


@destinations.command()
@click.argument("name")
def resume(name):
    """Go on delivering to a destination.

    \b
    Example:
      flask destinations resume warehouse
    """
    log().destinations.pause(name, False)
    click.echo(f"Destination {name} is resumed")


@destinations.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(name, yes):
    """Forget a destination, its position and its dead letters.

    \b
    Example:
      flask destinations remove warehouse --yes
    """
    log().make_room()
    dead = log().destinations.count_dead(log().destinations.get(name).name)
    if not yes:
        click.confirm(f"Forget {name}, its position and {dead} dead letters?", abort=True)
    log().destinations.remove(name)
    forwarding.discard_lock(log().path, name)
    click.echo(f"Destination {name} is removed")


@destinations.command()
@click.argument("name")
def test(name):
    """Deliver one synthetic event, which is not in the log, and say what became of it.

    \b
    Example:
      flask destinations test warehouse
    """
    id, at = f"test-{uuid4()}", now()
    payload = (
        f'{{"type":"track","messageId":"{id}","userId":"tracklog","event":"Destination Tested",'
        f'"originalTimestamp":"{at}","timestamp":"{at}","receivedAt":"{at}"}}'
    )
    sources = log().destinations.get(name).sources or [source.name for source in log().sources.all()]
    event = StoredEvent(0, sources[0], id, "track", "tracklog", None, "Destination Tested", at, at, payload)
    _deliver(name, [event])
    click.echo(f"Destination {name} took the event {id}")


@destinations.command()
@click.argument("name")
def dead(name):
    """Show what a destination refused for good, and why.

    \b
    Example:
      flask destinations dead warehouse
    """
    rows = [
        (letter.event.id, short(letter.died_at), letter.event.type, letter.attempts, letter.code, letter.message)
        for letter in log().destinations.dead_letters(name)
    ]
    print_table(("EVENT", "DIED", "TYPE", "TRIES", "CODE", "MESSAGE"), rows)


@destinations.command()
@click.argument("name")
@click.option("--dead", "is_dead", is_flag=True, help="Its dead letters, which are struck off where they are taken.")
@click.option("--from", "first", metavar="ID", type=int, help="Events from this one on.")
@click.option("--to", "last", metavar="ID", type=int, help="Up to this one.")
def replay(name, is_dead, first, last):
    """Deliver events once more: dead letters, or a range of the log.

    \b
    Example:
      flask destinations replay warehouse --dead
      flask destinations replay warehouse --from 1000 --to 2000
    """
    if is_dead == (first is not None or last is not None):
        raise click.UsageError("Give --dead, or --from and --to")
    if is_dead:
        click.echo(f"{_deliver(name, [letter.event for letter in log().destinations.dead_letters(name)])} delivered")
        return
    if first is None or last is None:
        raise click.UsageError("--from and --to go together")
    delivered, cursor = 0, first - 1
    while events := [event for event in log().reader.read_next(cursor, 1000, 10_000_000) if event.id <= last]:
        delivered, cursor = delivered + _deliver(name, events), events[-1].id
    click.echo(f"{delivered} delivered")


def _deliver(name, events):
    """Deliver events past the position, and strike off those that were dead letters; return how many were taken.

    Ends with a sentence where any is refused.
    """
    id = log().destinations.get(name).id
    taken, refused = forwarding.Forwarder(log(), name, stop=threading.Event(), once=True).redeliver(events)
    log().destinations.delete_dead_letters(id, taken)
    if refused:
        raise NotPossible(f"{len(refused)} of {len(events)} are refused, the first: {plain(refused[0].message)}")
    return len(taken)


def _age(oldest):
    """Return how long ago something was received, for people."""
    if oldest is None:
        return "-"
    seconds = int(age(oldest))
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
