"""Read a destination's URL: which kind it is, with secrets from the environment."""

import os
import re
from collections.abc import Callable
from importlib import import_module
from urllib.parse import SplitResult, parse_qsl, quote, unquote

from eventlog import NotPossible

from . import secrets
from .delivery import Kind

KINDS = {
    "http": "segment",
    "https": "segment",
    "webhook+http": "webhook",
    "webhook+https": "webhook",
    "kafka": "kafka",
}
ARCHIVE = "archive+"  # before any URL of fsspec's


def open_kind(url: str) -> Kind:
    """Return the kind of destination that the URL stands for, ready to deliver; raise NotPossible for a wrong one."""
    name = kind_of(url)
    # Split before it is filled in: a secret may hold what divides a URL.
    parts = _split(url)
    try:
        module = import_module(f"forwarding.{name}")
    except ModuleNotFoundError as error:
        raise NotPossible(f"This kind needs the extra {name!r}: pip install '.[{name}]' ({error})") from error
    kind: Callable[[SplitResult, dict[str, str]], Kind] = module.open
    user, at, host = parts.netloc.rpartition("@")
    netloc = quote(_filled(unquote(user)), safe="") + at + _filled(host)
    options = {name: _filled(value) for name, value in parse_qsl(parts.query)}
    try:
        return kind(parts._replace(netloc=netloc, path=_filled(parts.path)), options)
    except ValueError as error:
        # Without its cause, whose text may show a secret.
        raise NotPossible(f"The URL is not right for its kind: {secrets.hider(url)(str(error))}") from None


def check_url(url: str) -> None:
    """Raise NotPossible for a URL that no forwarder could deliver to.

    One with variables that are not in this environment is checked for its form alone: the forwarder has its own.
    """
    kind_of(url)
    _split(url)
    if all(name in os.environ for name in secrets.VARIABLE.findall(url)):
        open_kind(url).close()


def kind_of(url: str) -> str:
    """Return the name of the kind of destination that the URL stands for; raise NotPossible where there is none."""
    scheme = url.partition(":")[0]
    if scheme.startswith(ARCHIVE):
        return "archive"
    if scheme not in KINDS:
        known = ", ".join(sorted(KINDS))
        what = repr(scheme) if re.fullmatch(r"[\w+.-]{1,20}", scheme) and "://" in url else "That"
        raise NotPossible(f"{what} is no kind of destination; there are {known} and {ARCHIVE} with a URL")
    return KINDS[scheme]


def carries_one_source(url: str) -> bool:
    """Tell whether a destination is for one source: its key stands for one there, whose messageIds are unique."""
    return kind_of(url) == "segment"


def _split(url: str) -> SplitResult:
    parts = secrets.split(url)
    if parts is None:
        raise NotPossible(
            "The URL cannot be read for sure. In a key or an option, "
            "write @ as %40, / as %2F, ? as %3F, # as %23, and a space as %20"
        )
    return parts


def _filled(text: str) -> str:
    return secrets.VARIABLE.sub(_value_of, text)


def _value_of(found: re.Match[str]) -> str:
    try:
        return os.environ[found[1]]
    except KeyError:
        raise NotPossible(f"The URL names ${{{found[1]}}}, which is not in the environment") from None
