"""Read a destination's URL: which kind it is, with secrets from the environment that are never shown."""

import os
import re
from collections.abc import Callable
from importlib import import_module
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from eventlog import NotPossible

from .delivery import Kind

KINDS = {
    "http": "segment",
    "https": "segment",
    "webhook+http": "webhook",
    "webhook+https": "webhook",
    "kafka": "kafka",
}
ARCHIVE = "archive+"  # before any URL of fsspec's

_VARIABLE = re.compile(r"\$\{(\w+)\}")
_SECRET_OPTION = re.compile(r"secret|password|key|token", re.IGNORECASE)


def open_kind(url: str) -> Kind:
    """Return the kind of destination that the URL stands for, ready to deliver; raise NotPossible for a wrong one."""
    name = kind_of(url)
    try:
        module = import_module(f"forwarding.{name}")
    except ModuleNotFoundError as error:
        raise NotPossible(f"This kind needs the extra {name!r}: pip install '.[{name}]' ({error})") from error
    kind: Callable[[SplitResult, dict[str, str]], Kind] = module.open
    # Split before it is filled in: a secret may hold what divides a URL.
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    netloc = quote(_filled(unquote(user)), safe="") + at + _filled(host)
    options = {name: _filled(value) for name, value in parse_qsl(parts.query)}
    try:
        return kind(parts._replace(netloc=netloc, path=_filled(parts.path)), options)
    except ValueError as error:
        raise NotPossible(f"The URL is not right for its kind: {error}") from error


def kind_of(url: str) -> str:
    """Return the name of the kind of destination that the URL stands for; raise NotPossible where there is none."""
    scheme = url.partition(":")[0]
    if scheme.startswith(ARCHIVE):
        return "archive"
    if scheme not in KINDS:
        known = ", ".join(sorted(KINDS))
        raise NotPossible(f"{scheme!r} is no kind of destination; there are {known} and {ARCHIVE} with a URL")
    return KINDS[scheme]


def hide_secrets(url: str) -> str:
    """Return a URL for people's eyes: without what stands before an @, and without options that are secrets."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    shown = user if _VARIABLE.fullmatch(user) else "***"
    options = parse_qsl(parts.query, keep_blank_values=True)
    shown_options = [(name, "***" if _SECRET_OPTION.search(name) else value) for name, value in options]
    query = urlencode(shown_options, safe="*${}/:")
    return parts._replace(netloc=f"{shown}@{host}" if at else host, query=query).geturl()


def _filled(text: str) -> str:
    return _VARIABLE.sub(_value_of, text)


def _value_of(found: re.Match[str]) -> str:
    try:
        return os.environ[found[1]]
    except KeyError:
        raise NotPossible(f"The URL names ${{{found[1]}}}, which is not in the environment") from None
