"""Delete old events, or one person's: tracklog events prune | forget."""

import re
from datetime import timedelta

import click

import forwarding
from commands.events import events
from commands.group import confirmed_option, format_minute, get_log, get_log_to_change, sanitize, show_progress
from eventlog import NotPossible, Person, Trait
from eventlog.times import ago

TIMEDELTA_ARGUMENTS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
BYTES_PER_UNIT = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def to_time(text: str) -> str:
    """Return the time that an age such as 30d reaches back to, as the log writes it."""
    found = re.fullmatch(r"(\d{1,5})([smhdw])", text, re.ASCII)
    if not found:
        raise click.BadParameter(f"{text!r} is not an age: use a number and s, m, h, d or w, e.g. 30d")
    return ago(timedelta(**{TIMEDELTA_ARGUMENTS[found[2]]: int(found[1])}))


def to_bytes(text: str) -> int:
    """Return the bytes of a size such as 20GB."""
    found = re.fullmatch(r"(\d{1,9})([KMGT]B)", text.upper(), re.ASCII)
    if not found:
        raise click.BadParameter(f"{text!r} is not a size: use a number and KB, MB, GB or TB, e.g. 20GB")
    return int(found[1]) * BYTES_PER_UNIT[found[2]]


def to_email(text: str) -> Trait:
    """Return the trait of an email address."""
    name, _, domain = text.strip().rpartition("@")
    if not (name and domain):
        raise click.BadParameter(f"{text!r} is not an email address")
    return Trait("email", text.strip(), is_email=True)


def to_trait(text: str) -> Trait:
    """Return the trait that NAME=VALUE names."""
    name, _, value = text.partition("=")
    if not (name and value):
        raise click.BadParameter(f"{text!r} is not NAME=VALUE")
    return Trait(name, value)


@events.command()
@click.option("--older-than", "before", metavar="AGE", type=to_time, help="Delete what is older, e.g. 30d or 12h.")
@click.option("--max-size", metavar="SIZE", type=to_bytes, help="Then delete the oldest until the log fits, e.g. 20GB.")
@click.option("--even-undelivered", is_flag=True, help="Also delete events that a destination has not received.")
def prune(before: str | None, max_size: int | None, even_undelivered: bool) -> None:
    """Delete old events, rejections and dead letters while the service runs.

    --max-size deletes the oldest rejections, then the oldest events. It deletes nothing if the rest of the log, such as
    dead letters, is larger than that by itself.

    Does not ask for confirmation. Exits with status 1 if the log is still too large, or if events were kept because
    a destination has not received them.

    \b
    Example:
      tracklog events prune --older-than 30d
      tracklog events prune --older-than 1w --max-size 20GB --even-undelivered
    """
    if before is None and max_size is None:
        raise click.UsageError("Give --older-than, or --max-size, or both")
    get_log_to_change().make_room()
    retention = get_log().retention
    with show_progress("Pruning", retention.estimate(before, max_size)) as progress:
        pruned = retention.prune(
            before=before, max_bytes=max_size, even_undelivered=even_undelivered, report=progress.update
        )
    summary = f"Deleted {pruned.removed} events and {pruned.dropped} rejections"
    summary += f", and {pruned.dead_letters} dead letters" if pruned.dead_letters else ""
    if pruned.kept:
        summary += f"; kept {pruned.kept} events that a destination has not received"
    click.echo(summary)
    if pruned.kept:
        for held in retention.held():
            if held.since:
                click.echo(f"  {held.name} has held {held.events} of them since {format_minute(held.since)}")
        click.echo(
            "To delete them, fix the destination, or remove it with `tracklog destinations remove`, or add"
            " --even-undelivered"
        )
    is_too_large = max_size is not None and retention.used_bytes() > max_size
    if is_too_large:
        click.echo(f"The log still uses {retention.used_bytes()} bytes", err=True)
    if pruned.rest_bytes:
        click.echo(
            f"Even without events and rejections it would use {pruned.rest_bytes} bytes, so --max-size deleted nothing."
            " `tracklog destinations list` counts the dead letters",
            err=True,
        )
    if pruned.kept or is_too_large:
        raise click.exceptions.Exit(1)


@events.command()
@click.argument("user_id", required=False)
@click.option("--email", metavar="ADDRESS", type=to_email, help="Find the person by their email, in any case.")
@click.option("--trait", metavar="NAME=VALUE", type=to_trait, help="Find the person by a trait.")
@click.option("--unreadable", is_flag=True, help="Also delete rejections that cannot be searched, of any person.")
@confirmed_option
def forget(user_id: str | None, email: Trait | None, trait: Trait | None, unreadable: bool, is_confirmed: bool) -> None:
    """Delete a person's data and overwrite it on disk.

    Deletes events, rejections and dead letters. Reads the whole log a few times, while the service runs. --email and
    --trait first find the ids that have this trait. docs/maintain.md lists which ids count as the same person's. Exits
    with status 1 if the log has nothing of the person.

    \b
    Example:
      tracklog events forget 1234
      tracklog events forget --email peter@example.com
      tracklog events forget --trait phone=+4930123456
    """
    if sum(each is not None for each in (user_id, email, trait)) != 1:
        raise click.UsageError("Give a USER_ID, or --email, or --trait")
    trait = email or trait
    get_log_to_change().make_room()
    people = get_log().people
    with show_progress("Searching", people.estimate(passes=4 if trait else 3)) as progress:
        report = progress.update
        person = people.find_by_trait(trait, report) if trait else people.find(user_id or "", report)
    if unreadable:
        person = person._replace(rejected=person.rejected + person.unread)
    _describe(person, trait, unreadable)
    is_found = person.events or person.rejected or person.dead_letters
    if is_found and not is_confirmed:
        click.confirm("Delete all of this permanently?", abort=True)
    with show_progress("Deleting", people.estimate_forget(person)) as progress:
        people.forget(person, progress.update)
    if not is_found:  # still overwrite the rows that an interrupted run deleted
        of_whom = f"trait {trait.name}={trait.value}" if trait else f"id {user_id}"
        raise NotPossible(f"Nothing in the log has the {of_whom}")
    click.echo("Deleted, and overwritten on disk")


def _describe(person: Person, trait: Trait | None, unreadable: bool) -> None:
    """Show what belongs to a person, and what to do outside of the log."""
    if trait:
        found = ", ".join(sorted(id for id, distance in person.ids.items() if not distance))
        click.echo(sanitize(f"Ids with {trait.name}={trait.value}: {found or 'none'}"))
    if others := ", ".join(sorted(id for id, distance in person.ids.items() if distance)):
        click.echo(sanitize(f"Other ids of this person: {others}"))
    if person.shared:
        shared = ", ".join(person.shared)
        click.echo(sanitize(f"Shared with other people, so only events with an id of this person match: {shared}"))
    click.echo(
        f"{len(person.events)} events, {len(person.rejected)} rejections, {len(person.dead_letters)} dead letters"
    )
    if person.unread and not unreadable:
        click.echo(f"{len(person.unread)} rejections cannot be searched; --unreadable deletes them too")
    for each in get_log().destinations.all():
        if person.ids and forwarding.find_kind(each.url) == "postgresql":
            click.echo(f"To delete them in {each.name}, {forwarding.redact_url(each.url)}, run there:")
            click.echo(f"  {forwarding.write_deletion(each.url, person.ids)}")
            if forwarding.EventRules.from_json(each.event_rules).may_change_ids:
                click.echo("  Its transform or mask may have changed ids. This finds only those of the log")
