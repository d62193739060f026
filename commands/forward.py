"""tracklog forward: deliver events to their destinations."""

import logging
import signal
import threading

import click
from flask import current_app
from flask.cli import with_appcontext

import forwarding
from commands.group import get_log, get_log_to_change, print_warnings, report_failures, show_progress
from telemetry import logs


@click.command(context_settings={"show_default": True})
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--once", is_flag=True, help="Deliver the backlog, then exit; with 1 if events or dead letters are left.")
@click.option(
    "--give-up-after",
    metavar="HOURS",
    type=float,
    default=24,
    help="Look for one bad event after this many hours of 5xx.",
)
@with_appcontext
def forward(names: tuple[str, ...], once: bool, give_up_after: float) -> None:
    """Deliver events to their destinations until stopped.

    Delivers to all destinations, or to those that are named. Finds a destination that is added later within a second.
    Only one forwarder at a time delivers to a destination.

    \b
    Example:
      tracklog forward
      tracklog forward warehouse --once
    """
    if once:  # for a person at a terminal
        print_warnings()
    else:
        logs.write_lines(logging.StreamHandler())
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with report_failures():
        log = get_log_to_change() if once else get_log()  # without --once, the first log line says which one it is
        destinations = [log.destinations.get(name) for name in names] or log.destinations.all()
        if not once:
            logs.start(current_app.extensions["config"])
        last = get_log().reader.last_id()
        waiting = sum(max(0, last - each.position) for each in destinations)
        lock = threading.Lock()
        with show_progress("Forwarding", waiting, is_shown=once) as progress:

            def report(advanced: int) -> None:
                with lock:
                    progress.update(advanced)

            is_done = forwarding.forward(
                get_log().path, names, stop=stop, once=once, give_up_after=give_up_after * 3600, report=report
            )
        if not once:
            logs.stop()
            return
        dead = sum(get_log().destinations.count_dead(each.name) for each in destinations)
    if dead or not is_done:
        click.echo(f"{'All events are' if is_done else 'Not all events are'} delivered; dead letters: {dead}", err=True)
        raise click.exceptions.Exit(1)
