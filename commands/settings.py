"""tracklog settings: show every setting."""

import os
from dataclasses import fields

import click
from flask import current_app
from flask.cli import with_appcontext

import forwarding
from commands.group import report_failures, sanitize


@click.command()
@with_appcontext
def settings() -> None:
    """Show every setting, its value, its default and its meaning.

    Settings are environment variables. The service reads the first ones, and the forwarder the last ones. Every command
    reads TRACKLOG_DATABASE. Of a secret, this shows only whether it is set.

    \b
    Example:
      tracklog settings
    """
    config = current_app.extensions["config"]
    with report_failures():
        for each in fields(config):
            variable, value = f"TRACKLOG_{each.name.upper()}", getattr(config, each.name)
            default = "the default" if value == each.default else f"default {each.default}"
            _print_setting(f"{variable}={value} ({default})", each.metadata["meaning"])
        for variable, meaning in forwarding.VARIABLES.items():
            _print_setting(f"{variable} ({_describe(variable)})", meaning)
        for variable in sorted(os.environ):
            if variable.startswith(forwarding.SECRET_PREFIX) and variable not in forwarding.VARIABLES:
                _print_setting(f"{variable} ({_describe(variable)})", "a secret, under a name of your own")


def _describe(variable: str) -> str:
    """Return the value of a variable of the forwarder; of a secret, only whether it has one."""
    value = os.environ.get(variable)
    return "not set" if not value else "set" if variable.startswith(forwarding.SECRET_PREFIX) else f"set to {value}"


def _print_setting(setting: str, meaning: str) -> None:
    click.echo(sanitize(setting))
    click.echo(f"  {meaning}")
