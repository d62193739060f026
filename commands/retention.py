"""flask events prune, forget: what the log is to keep no longer."""

import re
import sys
from datetime import timedelta

import click

from commands.events import events
from commands.group import log, plain
from eventlog import NotPossible
from eventlog.times import ago

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
SIZES = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


class Age(click.ParamType):
    """A time span; as a value, the time that was so long ago."""

    name = "age"

    def convert(self, value, param, context):
        found = re.fullmatch(r"(\d{1,5})([smhdw])", value, re.ASCII)
        if not found:
            self.fail("is a number and s, m, h, d or w, as in 30d", param, context)
        return ago(timedelta(**{UNITS[found[2]]: int(found[1])}))


class Size(click.ParamType):
    """A number of bytes."""

    name = "size"

    def convert(self, value, param, context):
        found = re.fullmatch(r"(\d{1,9})([KMGT]B)", value.upper(), re.ASCII)
        if not found:
            self.fail("is a number and KB, MB, GB or TB, as in 20GB", param, context)
        return int(found[1]) * SIZES[found[2]]


@events.command()
@click.option("--older-than", "before", metavar="AGE", type=Age(), help="What was received so long ago, as 30d, 12h.")
@click.option("--max-size", metavar="SIZE", type=Size(), help="Then refused bodies and events, until it uses 20GB.")
@click.option("--even-undelivered", is_flag=True, help="What a destination has not got, too.")
def prune(before, max_size, even_undelivered):
    """Remove old events, and what was refused as long ago, while the service runs.

    For --max-size it removes the oldest refused bodies, then the oldest events. It removes none of them if the rest of
    the log, such as dead letters, is larger by itself.

    It never asks. It ends with 1 if the log stays too large, or events stay because a destination has not got them.

    \b
    Example:
      flask events prune --older-than 30d
      flask events prune --older-than 1w --max-size 20GB --even-undelivered
    """
    if before is None and max_size is None:
        raise click.UsageError("Give --older-than, or --max-size, or both")
    log().make_room()
    retention = log().retention
    length = retention.estimate(before, max_size)
    with click.progressbar(length=length, label="Pruning", file=sys.stderr, hidden=not sys.stderr.isatty()) as progress:
        pruned = retention.prune(
            before=before, max_bytes=max_size, even_undelivered=even_undelivered, report=progress.update
        )
    line = f"{pruned.removed} events and {pruned.dropped} refused bodies are removed"
    if pruned.kept:
        last = min(log().destinations.all(), key=lambda each: each.position)
        line += f"; {pruned.kept} events stay, which {last.name} lacks"
    click.echo(line)
    is_too_large = max_size is not None and retention.used_bytes() > max_size
    if is_too_large:
        click.echo(f"The log uses {retention.used_bytes()} bytes all the same", err=True)
    if pruned.rest_bytes:
        click.echo(
            f"Without all events and refused bodies it would still use {pruned.rest_bytes}, so none was removed for its"
            " size. `flask destinations list` counts the dead letters",
            err=True,
        )
    if pruned.kept or is_too_large:
        raise click.exceptions.Exit(1)


@events.command()
@click.argument("user_id")
@click.option("--unreadable", is_flag=True, help="Delete refused bodies that cannot be read, too, whoever's they are.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def forget(user_id, unreadable, yes):
    """Remove all that is a person's, from the log and from the bytes of its files.

    It reads all of the log a few times, while the service runs. docs/operate.md says what is taken for one person.
    It ends with 1 if nothing has the id.

    \b
    Example:
      flask events forget 1234
    """
    log().make_room()
    people = log().people
    person = people.find(user_id)
    others = sorted(person.ids.keys() - {user_id})
    if others:
        click.echo(plain(f"{user_id} is also {', '.join(others)}"))
    if person.shared:
        click.echo(plain(f"Seen with others too, and so with no more than what names both: {', '.join(person.shared)}"))
    if unreadable:
        person = person._replace(rejected=person.rejected + person.unread)
    numbers = (
        f"{len(person.events)} events, {len(person.rejected)} refused bodies, {len(person.dead_letters)} dead letters"
    )
    click.echo(numbers)
    if person.unread and not unreadable:
        click.echo(f"{len(person.unread)} refused bodies cannot be read; --unreadable deletes them too")
    is_found = person.events or person.rejected or person.dead_letters
    if is_found and not yes:
        click.confirm("Remove all of it for good?", abort=True)
    people.forget(person)
    if not is_found:  # but what was deleted before may not have been overwritten
        raise NotPossible(f"Nothing in the log has the id {plain(user_id)}")
    click.echo("Deleted, and overwritten on disk")
