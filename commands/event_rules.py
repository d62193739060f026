"""The options of tracklog destinations for the rules of a destination's events."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import click

import forwarding
from schemas import CALLS

Rule: TypeAlias = tuple[str, ...] | str | None


def rule_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command. It gets each under the name of the rule; a rule that is not given is empty."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def is_given(rule: Rule) -> bool:
    """Return True if an option for the rule is on the command line, be it empty."""
    return rule not in ((), None)


def change_rules(event_rules: str, given: Mapping[str, Rule], url: str) -> str:
    """Return rules, as JSON, with those that are given replaced. Raise NotPossible if the URL's kind cannot have them.

    `given` has an empty text for a rule that ends.
    """
    rules = forwarding.EventRules.from_json(event_rules)
    rules = rules._replace(**{name: rule for name, rule in given.items() if is_given(rule)})
    rules = rules._replace(**{name: tuple(filter(None, getattr(rules, name))) for name in ("only", "excluded", "mask")})
    rules.check(forwarding.find_kind(url))
    return rules.to_json()


def _check_patterns(_context: click.Context, option: click.Parameter, patterns: tuple[str, ...]) -> tuple[str, ...]:
    for pattern in patterns:
        type, colon, name = pattern.partition(":")
        if pattern and (type not in CALLS or (colon and not name)):
            raise click.BadParameter(f"{pattern!r} is not TYPE or TYPE:NAME, with a type of {', '.join(CALLS)}")
    return patterns


def _split(_context: click.Context, option: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(path.strip() for text in texts for path in text.split(","))


OPTIONS = [
    click.option(
        "--only",
        metavar="TYPE[:NAME]",
        multiple=True,
        callback=_check_patterns,
        help="Deliver only such events, as in 'track:Added File'; may be repeated.",
    ),
    click.option(
        "--not",
        "excluded",
        metavar="TYPE[:NAME]",
        multiple=True,
        callback=_check_patterns,
        help="Deliver no such events; may be repeated.",
    ),
    click.option(
        "--transform", metavar="NAME", help="Change events with NAME.py from the forwarder's folder of transforms."
    ),
    click.option(
        "--mask",
        metavar="FIELD,...",
        multiple=True,
        callback=_split,
        help="Replace fields such as context.ip by an HMAC; may be repeated.",
    ),
]
