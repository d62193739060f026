"""Manage the sources: tracklog sources add | list | rotate | disable | enable | remove."""

import click

from commands.group import (
    LogGroup,
    create_log,
    create_option,
    format_minute,
    get_log,
    get_log_to_change,
    print_table,
)

sources = LogGroup("sources", help="Manage the sources that may send events.")


@sources.command()
@click.argument("name")
@click.option("--source-id", metavar="ID", help="The key that the sender authenticates with; random by default.")
@create_option
def add(name: str, source_id: str | None, may_create: bool) -> None:
    """Register a source.

    If there is no log, creates the one that TRACKLOG_DATABASE names. Without that setting, this needs --create.

    \b
    Example:
      tracklog sources add website
      tracklog sources add legacy --source-id ILoveData123
    """
    source = create_log(may_create).sources.add(name, source_id)
    click.echo(f"Source {source.name} has the Source ID {source.id}")


@sources.command("list")
def list_sources() -> None:
    """List all sources, once for each of their keys.

    \b
    Example:
      tracklog sources list
    """
    rows = []
    for each in get_log().sources.all_keys():
        state = "retired" if each.retired_at else "enabled" if each.enabled else "disabled"
        rows.append((each.name, each.id, state, format_minute(each.retired_at or each.created_at)))
    print_table(("NAME", "SOURCE ID", "STATE", "SINCE"), rows)


@sources.command()
@click.argument("name")
@click.option("--source-id", metavar="ID", help="The new key; random by default.")
@click.option("--retire", metavar="ID", help="End this key, instead of adding one.")
def rotate(name: str, source_id: str | None, retire: str | None) -> None:
    """Change a source's key: add a new one, then retire the old one.

    Both work until the old one is retired, which takes effect within one second. No other source can get a retired
    key. To use it again, add it with --source-id.

    \b
    Example:
      tracklog sources rotate legacy
      tracklog sources rotate legacy --retire ILoveData123
    """
    if source_id is not None and retire is not None:
        raise click.UsageError("--source-id adds a key and --retire ends one; give one of them")
    if retire is not None:
        get_log_to_change().sources.retire_key(name, retire)
        click.echo(f"The Source ID {retire} of {name} is retired")
    else:
        source = get_log_to_change().sources.add_key(name, source_id)
        click.echo(f"Source {source.name} now has the Source ID {source.id} too")


@sources.command()
@click.argument("name")
def disable(name: str) -> None:
    """Reject a source's events, but keep them.

    Takes effect within one second.

    \b
    Example:
      tracklog sources disable legacy
    """
    get_log_to_change().sources.set_enabled(name, False)
    click.echo(f"Source {name} is disabled")


@sources.command()
@click.argument("name")
def enable(name: str) -> None:
    """Accept a disabled source's events again.

    Takes effect within one second.

    \b
    Example:
      tracklog sources enable legacy
    """
    get_log_to_change().sources.set_enabled(name, True)
    click.echo(f"Source {name} is enabled")


@sources.command()
@click.argument("name")
def remove(name: str) -> None:
    """Delete a source that the log holds nothing of.

    If the log has counted one of its events or rejections, or a destination is limited to it, disable it instead.

    \b
    Example:
      tracklog sources remove webiste
    """
    get_log_to_change().sources.remove(name)
    click.echo(f"Source {name} is removed")
