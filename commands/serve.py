"""tracklog serve: start gunicorn."""

import os
import sys
from pathlib import Path

import click

PROJECT = Path(__file__).resolve().parents[1]
CONFIGURATIONS = [PROJECT / "gunicorn.conf.py", Path(sys.prefix, "share/tracklog/gunicorn.conf.py")]  # checkout, pip


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("options", metavar="[GUNICORN OPTIONS]...", nargs=-1, type=click.UNPROCESSED)
def serve(options: tuple[str, ...]) -> None:
    """Serve the API with gunicorn until stopped.

    Options are passed to gunicorn, and take precedence over the settings. This process becomes gunicorn's master, so
    send it gunicorn's signals, such as TERM and HUP.

    \b
    Example:
      tracklog serve
      tracklog serve --workers 4 --bind 127.0.0.1:9000
      tracklog serve -- --help
    """
    configuration = next(filter(Path.exists, CONFIGURATIONS))
    server = PROJECT / "serving" / "gunicorn_app.py"
    os.execv(sys.executable, [sys.executable, str(server), "--config", str(configuration), "wsgi:app", *options])
