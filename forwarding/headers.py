"""Headers that an operator adds to the requests of a destination, such as `Authorization: Bearer ${NAME}`."""

import re
from collections.abc import Mapping, Sequence

from eventlog import NotPossible

from .variables import fill_in

KINDS = ("segment", "webhook")  # of destinations that take headers
# Names that the forwarder or the connection sets, in the form of `_normalize`, also those that begin with PREFIXES.
RESERVED = {
    "accept-encoding",
    "connection",
    "expect",
    "host",
    "idempotency-key",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-signature",
}
PREFIXES = ("content-", "webhook-")

_NAME = re.compile(r"[\w!#$%&'*+.^`|~-]{1,100}", re.ASCII)
_VALUE = re.compile(r"[\t -~]+")  # printable ASCII, and tabs


def parse(lines: Sequence[str]) -> dict[str, str]:
    """Return headers by name from lines such as `NAME: VALUE`. Raises NotPossible if one has another form."""
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not (colon and _NAME.fullmatch(name)):
            raise NotPossible("A header is written as 'NAME: VALUE', without a space before the colon")
        if name in headers:
            raise NotPossible(f"The header {name} is given twice")
        headers[name] = value.strip(" \t")
    return headers


def check(kind: str, headers: Mapping[str, str]) -> None:
    """Raise NotPossible if a destination of this kind cannot send these headers. The message has no value."""
    if headers and kind not in KINDS:
        raise NotPossible(f"A destination of the kind {kind} takes no headers")
    seen = set()
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            raise NotPossible("A header's name may have only letters, digits and !#$%&'*+-.^_`|~")
        key = _normalize(name)
        if key in RESERVED or key.startswith(PREFIXES):
            raise NotPossible(f"The header {name} cannot be set: the forwarder or the connection sets it")
        if key == "authorization" and kind == "segment":
            raise NotPossible(f"The header {name} cannot be set: the forwarder makes it from the key in the URL")
        if key in seen:
            raise NotPossible(f"The header {name} is given twice")
        if not (value.strip() and _VALUE.fullmatch(value)):
            raise NotPossible(f"The header {name} needs a value in printable ASCII, without a line end")
        seen.add(key)


def fill_in_headers(kind: str, headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers with their variables filled in. Raises NotPossible if one is then not valid."""
    check(kind, headers)
    filled = {name: fill_in(value) for name, value in headers.items()}
    check(kind, filled)
    return filled


def _normalize(name: str) -> str:
    """Return a name as receivers compare it. Many take an underscore for a hyphen."""
    return name.lower().replace("_", "-")
