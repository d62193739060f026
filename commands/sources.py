"""Manage the sources: flask sources add | list | disable | enable."""

import click
from flask import current_app

import eventlog
from commands.group import LogGroup, format_minute, get_log, print_table

sources = LogGroup("sources", help="Manage the sources that may send events.")


@sources.command()
@click.argument("name")
@click.option("--source-id", metavar="ID", help="The key that the sender authenticates with; random by default.")
def add(name: str, source_id: str | None) -> None:
    """Register a source. Creates the event log if there is none.

    \b
    Example:
      flask sources add website
      flask sources add legacy --source-id ILoveData123
    """
    eventlog.create(current_app.extensions["config"].database)
    source = get_log().sources.add(name, source_id)
    click.echo(f"Source {source.name} has the Source ID {source.id}")


@sources.command("list")
def list_sources() -> None:
    """List all sources.

    \b
    Example:
      flask sources list
    """
    rows = [
        (each.name, each.id, "enabled" if each.enabled else "disabled", format_minute(each.created_at))
        for each in get_log().sources.all()
    ]
    print_table(("NAME", "SOURCE ID", "STATE", "SINCE"), rows)


@sources.command()
@click.argument("name")
def disable(name: str) -> None:
    """Reject a source's events, but keep them.

    Takes effect within one second.

    \b
    Example:
      flask sources disable legacy
    """
    get_log().sources.set_enabled(name, False)
    click.echo(f"Source {name} is disabled")


@sources.command()
@click.argument("name")
def enable(name: str) -> None:
    """Accept a disabled source's events again.

    Takes effect within one second.

    \b
    Example:
      flask sources enable legacy
    """
    get_log().sources.set_enabled(name, True)
    click.echo(f"Source {name} is enabled")
