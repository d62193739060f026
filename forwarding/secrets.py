"""Keep the secrets of a destination's URL out of what people see: lists, errors and log lines."""

import json
import os
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from urllib.parse import SplitResult, parse_qsl, quote, quote_plus, unquote, urlencode, urlsplit

VARIABLE = re.compile(r"\$\{(\w+)\}")
HIDDEN = "***"
MIN_CHARACTERS = 3  # a shorter text is no secret, and is found in any message

#: The options whose values are shown, by the scheme's last part; those of a webhook are the receiver's own.
HARMLESS = {
    "http": {"gzip"},
    "https": {"gzip"},
    "kafka": {
        "acks",
        "batch.num.messages",
        "batch.size",
        "client.id",
        "compression.codec",
        "compression.level",
        "compression.type",
        "linger.ms",
        "message.max.bytes",
        "queue.buffering.max.ms",
        "request.timeout.ms",
        "sasl.mechanism",
        "sasl.mechanisms",
        "security.protocol",
        "ssl.ca.location",
    },
}
HARMLESS_OF_ARCHIVES = {"bytes", "seconds"}


def hide_secrets(url: str) -> str:
    """Return a URL for people's eyes: without what is before an @, and only with options known to be harmless.

    A URL that can be read in more than one way is hidden but for its scheme.
    """
    parts = split(url)
    if parts is None:
        return f"{_scheme(url)}://{HIDDEN}"
    user, at, host = parts.netloc.rpartition("@")
    shown_user = user if VARIABLE.fullmatch(user) else HIDDEN
    options = list(_options(parts))
    harmless = [(name, value) for name, value in options if _is_shown(parts.scheme, name, value)]
    query = urlencode(harmless, safe="*${}/:")
    if len(harmless) < len(options):
        query += "&" * bool(query) + HIDDEN
    return parts._replace(netloc=f"{shown_user}@{host}" if at else host, query=query).geturl()


def hider(url: str) -> Callable[[str], str]:
    """Return a function that strikes the URL's secrets, however they are written, out of a text."""
    spellings = {spelling for secret in _secrets(url) for spelling in _spellings(secret)}
    long_enough = sorted((each for each in spellings if len(each) >= MIN_CHARACTERS), key=len, reverse=True)
    if not long_enough:
        return lambda text: text
    pattern = re.compile("|".join(map(re.escape, long_enough)))
    return lambda text: pattern.sub(HIDDEN, text)


def split(url: str) -> SplitResult | None:
    """Return the parts of a URL, or None where it cannot be told for sure which parts they are."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    is_clear = url.startswith(f"{parts.scheme}://") and url.isprintable() and "#" not in url
    is_split = " " not in parts.netloc + parts.query and "@" not in parts.path + parts.query
    return parts if is_clear and is_split else None


def _scheme(url: str) -> str:
    scheme = url.partition("://")[0]
    return scheme if re.fullmatch(r"[a-z][a-z0-9+.-]{0,30}", scheme) and "://" in url else HIDDEN


def _options(parts: SplitResult) -> Iterator[tuple[str, str]]:
    yield from parse_qsl(parts.query, keep_blank_values=True)


def _is_shown(scheme: str, name: str, value: str) -> bool:
    known = HARMLESS_OF_ARCHIVES if scheme.startswith("archive+") else HARMLESS.get(scheme, set())
    return name in known or bool(re.fullmatch(r"[\w.-]{1,60}", name) and VARIABLE.fullmatch(value))


def _secrets(url: str) -> Iterator[str]:
    """Yield what must not be shown, as it is in the URL and as it is meant."""
    for name in VARIABLE.findall(url):
        yield os.environ.get(name, "")
    parts = split(url)
    if parts is None:
        yield from re.split(r"[/?#@&=:\s]+", url.partition("://")[2])
        yield url.partition("://")[2].rpartition("@")[0]
        return
    user = parts.netloc.rpartition("@")[0]
    for text in (user, *user.split(":")):
        yield from (text, unquote(text))
    for name, value in _options(parts):
        if not _is_shown(parts.scheme, name, value):
            yield from (value, VARIABLE.sub(lambda found: os.environ.get(found[1], ""), value))
            if not value:
                yield name


def _spellings(secret: str) -> Iterator[str]:
    yield from (secret, quote(secret), quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1])
    for text in (secret, f"{secret}:"):
        yield b64encode(text.encode(errors="replace")).decode().rstrip("=")
