"""Inspect, fix and replay rejections: tracklog rejected list | show | replay | delete."""

import json
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

import click
from flask import current_app

from commands.group import LogGroup, format_minute, get_log, get_log_to_change, print_table, sanitize
from errors import ApiError
from eventlog import NotPossible
from ingest.replay import replay as replay_one

rejected = LogGroup("rejected", help="Inspect, fix and replay rejected events.")


def selection_options(command: Callable[..., None]) -> Callable[..., Any]:
    """Add the arguments by which a command selects rejections: ids, --code or --all."""
    command = click.option("--all", "everything", is_flag=True, help="All rejections.")(command)
    command = click.option("--code", help="All rejections with this code.")(command)
    return click.argument("ids", metavar="[ID]...", type=int, nargs=-1)(command)


def select_ids(ids: Sequence[int], code: str | None, everything: bool, *, replayed: bool = False) -> Sequence[int]:
    """Return the ids of the selected rejections. `replayed` includes replayed ones in --code and --all."""
    if sum(map(bool, (ids, code, everything))) != 1:
        raise click.UsageError("Give ids, or --code, or --all")
    return ids or get_log().rejections.ids(code=code, replayed=replayed)


@rejected.command("list")
@click.option("-n", "number", type=click.IntRange(min=1), default=20, help="Number of rejections.")
@click.option("--code", help="Only rejections with this code.")
@click.option("--source", metavar="NAME", help="Only rejections of this source.")
@click.option("--replayed", is_flag=True, help="Also show those that were replayed, with the event they became.")
def list_rejected(number: int, code: str | None, source: str | None, replayed: bool) -> None:
    """List the newest rejections that were not replayed yet.

    \b
    Example:
      tracklog rejected list
      tracklog rejected list --code event_not_defined --source website
    """
    rows = []
    for each in get_log().rejections.last(number, code=code, source=source, replayed=replayed):
        received, source, route = format_minute(each.received_at), each.source[:14], each.route[:18]
        rows.append((each.id, received, source, route, each.code, each.times_seen, each.became or ""))
    print_table(("ID", "RECEIVED", "SOURCE", "ROUTE", "CODE", "SEEN", "EVENT"), rows)


@rejected.command()
@click.argument("id", type=int)
@click.option("--raw", is_flag=True, help="Print only the body, byte for byte; not safe on a terminal.")
def show(id: int, raw: bool) -> None:
    """Show the errors and the body of a rejection.

    \b
    Example:
      tracklog rejected show 17
      tracklog rejected show 17 --raw | jq .
    """
    rejection = get_log().rejections.get(id)
    if raw:
        click.echo(rejection.body, nl=False)
        return
    click.echo(sanitize(f"{rejection.code}: {rejection.message}"))
    for error in json.loads(rejection.errors):
        click.echo(sanitize(f"  {error['field']}: {error['code']}: {error['message']}"))
    times = "once" if rejection.times_seen == 1 else f"{rejection.times_seen} times"
    click.echo(sanitize(f"received {rejection.received_at}, {times}, on {rejection.route} from {rejection.source}"))
    if rejection.became:
        click.echo(f"replayed {rejection.replayed_at} as event {rejection.became}")
    click.echo(f"{len(rejection.body)} bytes{' (truncated)' if rejection.cut else ''}:\n")
    click.echo(sanitize(rejection.body.decode(errors="replace").expandtabs(), keep="\n"))


@rejected.command()
@selection_options
@click.option("--body", type=click.File("rb"), help="A fixed body for the one ID; - reads the standard input.")
def replay(ids: Sequence[int], code: str | None, everything: bool, body: BinaryIO | None) -> None:
    """Try to store rejections again.

    Use it after fixing the body, the source or a limit. A replayed body is processed like a POST, but keeps
    the time at which it was first received. Replaying it twice stores it once. Exits with status 1 if any rejection is
    not stored.

    \b
    Example:
      tracklog rejected replay 17
      tracklog rejected show 17 --raw | jq '.event = "Added File"' > fixed.json
      tracklog rejected replay 17 --body fixed.json
      tracklog rejected replay --code source_disabled
    """
    if body and len(ids) != 1:
        raise click.UsageError("--body needs exactly one ID")
    fixed = body.read() if body else None
    failed = 0
    log, config = get_log_to_change(), current_app.extensions["config"]
    for id in select_ids(ids, code, everything):
        try:
            event, is_new = replay_one(log, config, log.rejections.get(id), fixed)
            click.echo(f"{id} is stored as event {event}" if is_new else f"{id} was already stored as event {event}")
        except (ApiError, NotPossible) as failure:
            click.echo(f"{id} is not stored: {sanitize(str(failure))}")
            failed += 1
    if failed:
        raise click.exceptions.Exit(1)


@rejected.command()
@selection_options
def delete(ids: Sequence[int], code: str | None, everything: bool) -> None:
    """Delete rejections, replayed or not.

    \b
    Example:
      tracklog rejected delete 17 18
      tracklog rejected delete --code invalid_json
    """
    get_log_to_change().make_room()
    deleted = get_log().rejections.delete(select_ids(ids, code, everything, replayed=True))
    click.echo(f"{deleted} deleted")
