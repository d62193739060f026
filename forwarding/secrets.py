"""Keep the secrets of a destination's URL and headers out of lists, errors and log lines."""

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from urllib.parse import SplitResult, parse_qsl, quote, quote_plus, unquote, urlencode, urlsplit

from .variables import VARIABLE, find_names, value_of

REDACTED = "***"
MIN_SECRET_CHARACTERS = 3  # a shorter text is not a secret, and occurs in any message

#: Options whose values are shown, by scheme. A webhook's other options belong to its receiver.
SHOWN_OPTIONS = {
    "webhook+http": {"expect"},
    "webhook+https": {"expect"},
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
    "postgresql": {
        "application_name",
        "connect_timeout",
        "host",
        "port",
        "schema",
        "sslmode",
        "sslrootcert",
        "target_session_attrs",
    },
}
SHOWN_ARCHIVE_OPTIONS = {"bytes", "seconds"}


def redact_url(url: str) -> str:
    """Return a URL with only its harmless options and no user part; of an ambiguous URL, only the scheme."""
    parts = split(url)
    if parts is None:
        scheme = re.match(r"[a-z][a-z0-9+.-]{0,30}(?=://)", url)
        return f"{scheme[0] if scheme else REDACTED}://{REDACTED}"
    user, at, host = parts.netloc.rpartition("@")
    shown_user = user if VARIABLE.fullmatch(user) else REDACTED
    options = parse_qsl(parts.query, keep_blank_values=True)
    shown = [(name, value) for name, value in options if _is_shown(parts.scheme, name, value)]
    query = urlencode(shown, safe="*${}/:")
    if len(shown) < len(options):
        query += "&" * bool(query) + REDACTED
    place = f"{shown_user}@{host}" if at else host
    return f"{parts.scheme}://{place}{parts.path}" + f"?{query}" * bool(query)


def make_redactor(url: str, headers: Mapping[str, str] = {}) -> Callable[[str], str]:
    """Return a function that replaces the secrets of a URL and of headers in a text, in any spelling, by `***`.

    A secret is also found if the text was cut in the middle of it.
    """
    secrets = {*_secrets(url), *(secret for value in headers.values() for secret in _header_secrets(value))}
    spellings = {spelling for secret in secrets for spelling in _spellings(secret)}
    long_enough = sorted((each for each in spellings if len(each) >= MIN_SECRET_CHARACTERS), key=len, reverse=True)
    if not long_enough:
        return lambda text: text
    pattern = re.compile("|".join(map(re.escape, long_enough)))

    def redact(text: str) -> str:
        text = pattern.sub(REDACTED, text.rstrip("\ufffd"))  # half a character
        for start in range(max(0, len(text) - len(long_enough[0])), len(text) - MIN_SECRET_CHARACTERS + 1):
            if any(each.startswith(text[start:]) for each in long_enough):
                return text[:start] + REDACTED
        return text

    return redact


def split(url: str) -> SplitResult | None:
    """Return the parts of a URL, or None if it is ambiguous."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    is_clear = url.startswith(f"{parts.scheme}://") and url.isprintable() and "#" not in url
    is_split = " " not in parts.netloc + parts.query and "@" not in parts.path + parts.query
    return parts if is_clear and is_split else None


def _is_shown(scheme: str, name: str, value: str) -> bool:
    known = SHOWN_ARCHIVE_OPTIONS if scheme.startswith("archive+") else SHOWN_OPTIONS.get(scheme, set())
    return name in known or bool(re.fullmatch(r"[\w.-]{1,60}", name) and VARIABLE.fullmatch(value))


def _secrets(url: str) -> Iterator[str]:
    """Yield each text that must not be shown, as written in the URL and decoded."""
    yield from map(value_of, find_names(url))
    parts = split(url)
    if parts is None:
        yield from re.split(r"[/?#@&=:\s]+", url.partition("://")[2])
        yield url.partition("://")[2].rpartition("@")[0]
        return
    user = parts.netloc.rpartition("@")[0]
    for text in (user, *user.split(":")):
        yield from (text, unquote(text))
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if not _is_shown(parts.scheme, name, value):
            yield from (value, _fill_in(value))
            if not value:
                yield name


def _header_secrets(value: str) -> Iterator[str]:
    """Yield a header's value and its words, and what its base64 stands for, such as the password of Basic."""
    filled = _fill_in(value)
    yield from (*map(value_of, find_names(value)), value, filled)
    for word in filled.split():
        yield from (word, *re.split(r'[,;:="]+', word))
        with suppress(ValueError):
            decoded = b64decode(word, validate=True).decode()
            yield from (decoded, *decoded.split(":"))


def _fill_in(text: str) -> str:
    return VARIABLE.sub(lambda found: value_of(found[1]), text)


def _spellings(secret: str) -> Iterator[str]:
    bare = secret.removeprefix("whsec_")
    for text in (secret, bare):
        yield from (text, quote(text), quote(text, safe=""), quote_plus(text), json.dumps(text)[1:-1])
    for text in (secret, f"{secret}:", bare):
        yield b64encode(text.encode(errors="replace")).decode().rstrip("=")
