"""flask sources: who may send."""

import click
from flask import current_app

import eventlog
from commands.group import LogGroup, format_minute, get_log, print_table

sources = LogGroup("sources", help="Say who may send events.")


@sources.command()
@click.argument("name")
@click.option("--source-id", metavar="ID", help="What the sender authenticates with; made at random if not given.")
def add(name, source_id):
    """Register a source, and create the event log if there is none yet.

    \b
    Example:
      flask sources add website
      flask sources add legacy --source-id ILoveData123
    """
    eventlog.create(current_app.extensions["config"].database)
    source = get_log().sources.add(name, source_id)
    click.echo(f"Source {source.name} sends with the Source ID {source.id}")


@sources.command("list")
def list_sources():
    """Show all sources.

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
def disable(name):
    """Refuse what a source sends, from within a second on. It is kept, as rejected.

    \b
    Example:
      flask sources disable legacy
    """
    get_log().sources.set_enabled(name, False)
    click.echo(f"Source {name} is disabled")


@sources.command()
@click.argument("name")
def enable(name):
    """Accept what a source sends again, from within a second on.

    \b
    Example:
      flask sources enable legacy
    """
    get_log().sources.set_enabled(name, True)
    click.echo(f"Source {name} is enabled")
