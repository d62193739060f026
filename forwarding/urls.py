"""Read a destination's URL: find its kind, fill in secrets, open its deliverer."""

import re
from collections.abc import Callable, Mapping
from contextlib import closing
from importlib import import_module
from urllib.parse import SplitResult, parse_qsl, quote, unquote

from eventlog import NotPossible

from . import secrets
from .delivery import Deliverer, DeliveryRejected, RetryLater
from .headers import check, fill_in_headers
from .variables import check_name, fill_in, find_names, value_of

# A kind is the name of its module here, and of its extra in setup.cfg if it needs a package. The module's from_url
# returns a deliverer for the split URL, its options and, for some kinds, headers. It raises ValueError if they are not
# valid.
KIND_BY_SCHEME = {
    "http": "segment",
    "https": "segment",
    "webhook+http": "webhook",
    "webhook+https": "webhook",
    "kafka": "kafka",
    "postgresql": "postgresql",
}
ARCHIVE = "archive+"  # before any URL that fsspec knows


def open_deliverer(url: str, headers: Mapping[str, str] = {}) -> Deliverer:
    """Return a deliverer for the URL and the headers, with variables from the environment.

    Raises NotPossible if either is not valid, a variable is not set, or the kind's package is not installed.
    """
    kind = find_kind(url)
    # Split the URL before secrets are filled in: they may contain delimiters.
    parts = _split(url)
    try:
        module = import_module(f"forwarding.{kind}")
    except ImportError as error:
        raise NotPossible(f"The kind {kind} needs its extra: pip install '.[{kind}]' ({error})") from error
    from_url: Callable[..., Deliverer] = module.from_url
    user, at, host = parts.netloc.rpartition("@")
    netloc = quote(fill_in(unquote(user)), safe="") + at + fill_in(host)
    options = {name: fill_in(value) for name, value in parse_qsl(parts.query)}
    more = [filled] if (filled := fill_in_headers(kind, headers)) else []  # other kinds take none
    try:
        return from_url(parts._replace(netloc=netloc, path=fill_in(parts.path)), options, *more)
    except ValueError as error:
        # The cause may contain a secret.
        raise NotPossible(f"The URL is not valid: {secrets.make_redactor(url, headers)(str(error))}") from None


def check_url(url: str, headers: Mapping[str, str] = {}) -> None:
    """Raise NotPossible if no forwarder can deliver to this URL with these headers.

    If one of their variables is not set here, check only the form: the forwarder has its own environment.
    """
    check(find_kind(url), headers)
    _split(url)
    names = set().union(*map(find_names, (url, *headers.values())))
    for name in sorted(names):
        check_name(name)
    if all(map(value_of, names)):
        open_deliverer(url, headers).close()


def create_tables(url: str) -> None:
    """Create the tables that a destination needs before its first delivery. Raises NotPossible if that fails."""
    with closing(open_deliverer(url)) as deliverer:
        try:
            deliverer.create()
        except (RetryLater, DeliveryRejected) as failure:
            raise NotPossible(f"The tables were not created: {secrets.make_redactor(url)(str(failure))}") from None


def find_kind(url: str) -> str:
    """Return the kind of destination that the URL names. Raises NotPossible if there is no such kind."""
    scheme = url.partition(":")[0]
    if scheme.startswith(ARCHIVE):
        return "archive"
    if scheme not in KIND_BY_SCHEME:
        known = ", ".join(sorted(KIND_BY_SCHEME))
        named = repr(scheme) if re.fullmatch(r"[\w+.-]{1,20}", scheme) and "://" in url else "The URL"
        raise NotPossible(f"{named} is not a kind of destination; use {known}, or {ARCHIVE} and a URL of fsspec")
    return KIND_BY_SCHEME[scheme]


def carries_one_source(url: str) -> bool:
    """Return True if the URL's key stands for one source, within which messageIds are unique."""
    return find_kind(url) == "segment"


def _split(url: str) -> SplitResult:
    parts = secrets.split(url)
    if parts is None:
        raise NotPossible(
            "The URL is ambiguous. In a key or an option, "
            "write @ as %40, / as %2F, ? as %3F, # as %23, and a space as %20"
        )
    return parts
