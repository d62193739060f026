"""tracklog destinations: manage where events are forwarded to."""

import re

import click

import forwarding
from commands.event_rules import Rule, change_rules, is_given, rule_options
from commands.group import LogGroup, confirmed_option, format_minute, get_log, get_log_to_change, print_table, sanitize
from eventlog import NotPossible
from eventlog.times import age
from schemas import CALLS

CALL_TYPE = click.Choice(list(CALLS))
header_option = click.option(
    "--header", "lines", metavar="'NAME: VALUE'", multiple=True, help="Send this header; may be repeated."
)

create_tables_option = click.option(
    "--create", "creates_tables", is_flag=True, help="Create the tables there that are missing."
)

destinations = LogGroup("destinations", help="Manage where events are forwarded to.")


def check_start(text: str) -> str:
    """Return the text if it is `start`, `now`, or the id of an event."""
    if not re.fullmatch(r"start|now|\d{1,18}", text, re.ASCII):
        raise click.BadParameter(f"{text!r} is not start, now, or the id of an event")
    return text


@destinations.command()
@click.argument("name")
@click.argument("url")
@click.option("--type", "types", type=CALL_TYPE, multiple=True, help="Deliver only this type; may be repeated.")
@click.option("--source", "sources", metavar="NAME", multiple=True, help="Deliver only this source; may be repeated.")
@click.option(
    "--from", "start", metavar="START|NOW|ID", type=check_start, default="start", help="The first event to deliver."
)
@header_option
@create_tables_option
@rule_options
def add(
    name: str,
    url: str,
    types: tuple[str, ...],
    sources: tuple[str, ...],
    start: str,
    lines: tuple[str, ...],
    creates_tables: bool,
    **rules: Rule,
) -> None:
    """Add a destination. A running forwarder delivers to it within seconds.

    The forwarder fills in variables such as ${TRACKLOG_SECRET_KEY} from its environment. docs/forward.md lists the
    kinds of URLs.

    \b
    Example:
      tracklog destinations add warehouse \\
        'https://${TRACKLOG_SECRET_KEY}@warehouse.example/v1/batch'
      tracklog destinations add hook webhook+https://host.example/in \\
        --header 'Authorization: Bearer ${TRACKLOG_SECRET_HOOK}' \\
        --only 'track:Added File' --mask context.ip,traits.email
      tracklog destinations add tables postgresql://user@host.example/db --create
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,60}", name):
        raise NotPossible("A destination's name may have only letters, digits, - and _, and at most 60 of them")
    for source in sources:
        get_log().sources.named(source)
    headers = forwarding.parse_headers(lines)
    forwarding.check_url(url, headers)
    event_rules = change_rules("{}", rules, url)
    if forwarding.carries_one_source(url):
        # Bind it to the only source, so that a source added later does not share its key.
        sources = sources or tuple(source.name for source in get_log().sources.all())
        if len(sources) != 1:
            raise NotPossible("A destination of this kind carries one source: name it with --source")
    if creates_tables:
        forwarding.create_tables(url)
    position = 0 if start == "start" else get_log().reader.last_id() if start == "now" else int(start) - 1
    get_log_to_change().destinations.add(name, url, types, sources, position, headers, event_rules)
    click.echo(f"Destination {name} begins after event {position}")


@destinations.command("set")
@click.argument("name")
@click.argument("url", required=False)
@header_option
@click.option("--no-headers", is_flag=True, help="Send no headers of your own.")
@create_tables_option
@rule_options
def set_url(
    name: str, url: str | None, lines: tuple[str, ...], no_headers: bool, creates_tables: bool, **rules: Rule
) -> None:
    """Change a destination's URL to another one of the same kind, its headers, or the rules for its events.

    The headers that are given replace all others. A rule that is given replaces the old one, and an empty text ends
    it. What is not given stays as it is. A running forwarder uses the change within two seconds. Events that were not
    yet acknowledged are sent again in the new way.

    \b
    Example:
      tracklog destinations set warehouse \\
        'https://${TRACKLOG_SECRET_KEY}@new.example/v1/batch'
      tracklog destinations set hook --header 'X-Key: ${TRACKLOG_SECRET_HOOK}'
      tracklog destinations set hook --mask context.ip --transform ''
    """
    is_changed = url or lines or no_headers or creates_tables or any(map(is_given, rules.values()))
    if not is_changed or (lines and no_headers):
        raise click.UsageError("Give a URL, --create, a rule, or one of --header and --no-headers, or several of them")
    old = get_log().destinations.get(name)
    url = url or old.url
    headers = forwarding.parse_headers(lines) if lines or no_headers else old.headers
    forwarding.check_url(url, headers)
    event_rules = change_rules(old.event_rules, rules, url)
    kind, new_kind = forwarding.find_kind(old.url), forwarding.find_kind(url)
    if new_kind != kind:
        raise NotPossible(
            f"{name} is of the kind {kind}, but this URL is of the kind {new_kind}: add a new destination"
        )
    if creates_tables:
        forwarding.create_tables(url)
    get_log_to_change().destinations.set_url(name, url, headers, event_rules)
    click.echo(f"Destination {name} now delivers to {forwarding.redact_url(url)}")


@destinations.command("list")
def list_destinations() -> None:
    """Show each destination's state, cursor, backlog, last error, and the events that it keeps from being pruned.

    A failing destination could not be opened, or did not take its last batch. A refusing one has refused
    20 events in a row; they are tried again. docs/forward.md says more.

    \b
    Example:
      tracklog destinations list
    """
    progress = {each.name: each for each in get_log().destinations.progress()}
    held = {each.name: each for each in get_log().retention.held() if each.since}
    listed = [each for each in get_log().destinations.all() if each.name in progress]
    rows = []
    for each in listed:
        _, waiting, oldest, delivered, _, dead = progress[each.name]
        rows.append((each.name, each.state, each.position, waiting, _format_age(oldest), delivered, dead))
    print_table(("NAME", "STATE", "POSITION", "WAITING", "OLDEST", "DELIVERED", "DEAD"), rows)
    for each in listed:
        click.echo(f"\n{each.name}: {forwarding.redact_url(each.url)}")
        if each.headers:
            click.echo(f"  headers      {sanitize(', '.join(each.headers))}")
        for option, values in (("type", each.types), ("source", each.sources)):
            if values:
                click.echo(sanitize(f"  {option} {', '.join(values)}"))
        for rule in forwarding.EventRules.from_json(each.event_rules).describe():
            click.echo(f"  {sanitize(rule)}")
        click.echo(f"  last success {each.last_success_at or 'never'}")
        if each.last_error:
            click.echo(f"  last error   {each.last_error_at} {sanitize(each.last_error)}")
        if each.name in held:
            _, events, _, since = held[each.name]
            click.echo(f"  keeps        {events} events from being pruned, since {format_minute(since)}")


@destinations.command()
@click.argument("name")
def pause(name: str) -> None:
    """Stop delivering to a destination. It keeps its cursor.

    \b
    Example:
      tracklog destinations pause warehouse
    """
    get_log_to_change().make_room()
    get_log().destinations.pause(name, True)
    click.echo(f"Destination {name} is paused")


@destinations.command()
@click.argument("name")
def resume(name: str) -> None:
    """Continue delivering to a paused destination, or try a failing or refusing one at once.

    \b
    Example:
      tracklog destinations resume warehouse
    """
    get_log_to_change().destinations.pause(name, False)
    click.echo(f"Destination {name} is resumed")


@destinations.command()
@click.argument("name")
@confirmed_option
def remove(name: str, is_confirmed: bool) -> None:
    """Delete a destination, its cursor and its dead letters.

    \b
    Example:
      tracklog destinations remove warehouse --yes
    """
    get_log_to_change().make_room()
    dead = get_log().destinations.count_dead(get_log().destinations.get(name).name)
    if not is_confirmed:
        click.confirm(f"Delete {name}, its cursor and {dead} dead letters?", abort=True)
    get_log().destinations.remove(name)
    forwarding.discard_lock(get_log().path, name)
    click.echo(f"Destination {name} is removed")


def _format_age(received_at: str | None) -> str:
    """Return how long ago a time of the log was, such as 3h."""
    if received_at is None:
        return "-"
    seconds = int(age(received_at))
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
