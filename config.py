"""Define every setting: its environment variable, its default and its meaning."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

VERSION = "0.1.0"

MAX_DIGITS = 18  # of a number; Python reads no more than 4,300

_ADDRESS = re.compile(r"unix:.+|[^:\s]+:(\d{1,5})|\[[0-9a-fA-F:.]+\]:(\d{1,5})", re.ASCII)


def setting(default: Any, meaning: str) -> Any:
    """Declare a field of Config. Its meaning is part of the documentation."""
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True)
class Config:
    """The settings. The environment variable of a field is TRACKLOG_ and its name in capitals."""

    database: str = setting("tracklog.db", "path of the event log")
    bind: str = setting("127.0.0.1:8000", "address that gunicorn listens on: HOST:PORT or unix:PATH")
    allowed_origins: str = setting("*", "origins whose web pages may send events, separated by spaces; * for any")
    trusted_proxies: int = setting(0, "number of trusted proxies that append to X-Forwarded-For")
    ip_policy: str = setting("keep", "how client addresses are stored: keep, truncate (to /24 or /48) or drop")
    max_body_bytes: int = setting(8 * 1024 * 1024, "maximum size of a request body, before and after inflating")
    max_event_bytes: int = setting(512 * 1024, "maximum size of an event, as JSON")
    max_batch_events: int = setting(25_000, "maximum number of items in a batch")
    max_rejected_bytes: int = setting(1024 * 1024 * 1024, "maximum size of all rejections in the log")
    min_free_bytes: int = setting(100 * 1024 * 1024, "free disk space below which the service is not ready")
    access_log: str = setting("off", "whether each request is logged: on or off")

    @classmethod
    def from_environment(cls) -> "Config":
        """Read the settings from the environment, and exit with a message if one is invalid."""
        given: dict[str, Any] = {}
        for each in fields(cls):
            variable = f"TRACKLOG_{each.name.upper()}"
            if variable in os.environ:
                given[each.name] = _PARSERS.get(each.name, _PARSERS[each.type])(variable, os.environ[variable])
        return cls(**given)


def _parse_number(variable: str, text: str, least: int = 1) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS and int(text) >= least):
        raise SystemExit(f"{variable} must be a whole number of at least {least}, not {text!r}")
    return int(text)


def _parse_text(variable: str, text: str) -> str:
    if not text.strip():
        raise SystemExit(f"{variable} must not be empty")
    if any("\udc80" <= character <= "\udcff" for character in text):  # how Python reads other bytes
        raise SystemExit(f"{variable} must be UTF-8, not {text!r}")
    return text


def _parse_address(variable: str, text: str) -> str:
    found = _ADDRESS.fullmatch(text)
    if not found or int(found[1] or found[2] or 0) > 65535:
        raise SystemExit(f"{variable} must be HOST:PORT or unix:PATH, not {text!r}")
    return text


def _parse_choice(variable: str, text: str, choices: tuple[str, ...]) -> str:
    if text not in choices:
        raise SystemExit(f"{variable} must be {', '.join(choices[:-1])} or {choices[-1]}, not {text!r}")
    return text


# field name, or type of field -> what parses the variable's text
_PARSERS: dict[Any, Callable[[str, str], Any]] = {
    int: _parse_number,
    str: _parse_text,
    "bind": _parse_address,
    "trusted_proxies": partial(_parse_number, least=0),
    "ip_policy": partial(_parse_choice, choices=("keep", "truncate", "drop")),
    "access_log": partial(_parse_choice, choices=("on", "off")),
}
