"""flask rejected: what was refused, to be mended and replayed."""

import json

import click
from flask import current_app

from commands.group import LogGroup, format_minute, get_log, print_table, sanitize
from errors import ApiError
from eventlog import NotPossible
from ingest.replay import replay as replay_one

rejected = LogGroup("rejected", help="Look through what was refused, mend it, replay it.")


def choice(command):
    """Let a command be given ids, or all rejections with a code, or all."""
    command = click.option("--all", "everything", is_flag=True, help="All of them.")(command)
    command = click.option("--code", help="All that were refused with this code.")(command)
    return click.argument("ids", metavar="[ID]...", type=int, nargs=-1)(command)


def chosen(ids, code, everything, **options):
    if sum(map(bool, (ids, code, everything))) != 1:
        raise click.UsageError("Give ids, or --code, or --all")
    return ids or get_log().rejections.ids(code=code, **options)


@rejected.command("list")
@click.option("-n", "number", type=click.IntRange(min=1), default=20, show_default=True, help="How many.")
@click.option("--code", help="Only those that were refused with this code.")
@click.option("--source", metavar="NAME", help="Only those of this source.")
@click.option("--replayed", is_flag=True, help="Those that were replayed too, with the event that each became.")
def list_rejected(number, code, source, replayed):
    """Show the newest of what was refused and not yet replayed.

    \b
    Example:
      flask rejected list
      flask rejected list --code event_not_defined --source website
    """
    rows = [
        (
            each.id,
            format_minute(each.received_at),
            each.source[:14],
            each.route[:18],
            each.code,
            each.times_seen,
            each.became or "",
        )
        for each in get_log().rejections.last(number, code=code, source=source, replayed=replayed)
    ]
    print_table(("ID", "RECEIVED", "SOURCE", "ROUTE", "CODE", "SEEN", "EVENT"), rows)


@rejected.command()
@click.argument("id", type=int)
@click.option("--raw", is_flag=True, help="The body alone, byte for byte; not safe on a terminal.")
def show(id, raw):
    """Show why something was refused, and its body.

    \b
    Example:
      flask rejected show 17
      flask rejected show 17 --raw | jq .
    """
    rejection = get_log().rejections.get(id)
    if raw:
        click.echo(rejection.body, nl=False)
        return
    click.echo(sanitize(f"{rejection.code}: {rejection.message}"))
    for error in json.loads(rejection.errors):
        click.echo(sanitize(f"  {error['field']}: {error['code']}: {error['message']}"))
    times = "once" if rejection.times_seen == 1 else f"{rejection.times_seen} times"
    click.echo(sanitize(f"received {rejection.received_at}, {times}, by {rejection.route} from {rejection.source}"))
    if rejection.became:
        click.echo(f"replayed {rejection.replayed_at}, became event {rejection.became}")
    click.echo(f"{len(rejection.body)} bytes{', the beginning of more' if rejection.cut else ''}:\n")
    click.echo(sanitize(rejection.body.decode(errors="replace").expandtabs(), keep="\n"))


@rejected.command()
@choice
@click.option("--body", type=click.File("rb"), help="A mended body for the one ID; - for the standard input.")
def replay(ids, code, everything, body):
    """Store what was refused, now that it is mended, its source enabled, or a limit raised.

    It goes the way of a POST, but is received when it was received first. What is replayed twice is stored once.

    \b
    Example:
      flask rejected replay 17
      flask rejected show 17 --raw | jq '.event = "Added File"' > mended.json
      flask rejected replay 17 --body mended.json
      flask rejected replay --code source_disabled
    """
    if body and len(ids) != 1:
        raise click.UsageError("--body needs the one ID that it mends")
    mended = body.read() if body else None
    left = 0
    for id in chosen(ids, code, everything):
        try:
            event, is_new = replay_one(
                get_log(), current_app.extensions["config"], get_log().rejections.get(id), mended
            )
            click.echo(f"{id} became event {event}" if is_new else f"{id} is stored already, as event {event}")
        except (ApiError, NotPossible) as failure:
            reason = f"{failure.code}: {failure.message}" if isinstance(failure, ApiError) else str(failure)
            click.echo(f"{id} is not stored: {sanitize(reason)}")
            left += 1
    if left:
        raise click.exceptions.Exit(1)


@rejected.command()
@choice
def delete(ids, code, everything):
    """Delete what was refused, replayed or not.

    \b
    Example:
      flask rejected delete 17 18
      flask rejected delete --code invalid_json
    """
    get_log().make_room()
    deleted = get_log().rejections.delete(chosen(ids, code, everything, replayed=True))
    click.echo(f"{deleted} deleted")
