"""Every setting: its environment variable, its default, and what it means."""

import os
import re
from dataclasses import dataclass, field, fields

VERSION = "0.1.0"

_ADDRESS = re.compile(r"unix:.+|[^:\s]+:(\d{1,5})|\[[0-9a-fA-F:.]+\]:(\d{1,5})", re.ASCII)


def setting(default, meaning):
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True)
class Config:
    """The settings in force. A field is set by TRACKLOG_ and its name in capitals."""

    database: str = setting("tracklog.db", "the event log's file")
    bind: str = setting("127.0.0.1:8000", "where gunicorn listens: HOST:PORT or unix:PATH")
    allowed_origins: str = setting("*", "the origins whose pages may post, separated by blanks; * for any")
    trusted_proxies: int = setting(0, "how many proxies in front add to X-Forwarded-For")
    ip_policy: str = setting("keep", "what becomes of the requester's address: keep, truncate (to /24, /48) or drop")
    max_body_bytes: int = setting(8 * 1024 * 1024, "the largest request body, inflated or not")
    max_event_bytes: int = setting(512 * 1024, "the largest event, as JSON")
    max_batch_events: int = setting(25_000, "the most items in a batch")
    max_rejected_bytes: int = setting(1024 * 1024 * 1024, "the most that is kept of what was refused")
    min_free_bytes: int = setting(100 * 1024 * 1024, "the free disk space without which the service is not ready")
    access_log: str = setting("off", "whether each request gets a log line: on or off")

    @classmethod
    def from_environment(cls):
        """Read the settings, and end the program with a sentence at a wrong one."""
        given = {}
        for each in fields(cls):
            variable = f"TRACKLOG_{each.name.upper()}"
            if variable in os.environ:
                given[each.name] = _PARSERS.get(each.name, _PARSERS[each.type])(variable, os.environ[variable])
        return cls(**given)


def _number(variable, text, least=1):
    if not (text.isascii() and text.isdigit() and int(text) >= least):
        raise SystemExit(f"{variable} must be a whole number from {least} on, not {text!r}")
    return int(text)


def _count(variable, text):
    return _number(variable, text, least=0)


def _text(variable, text):
    if not text.strip():
        raise SystemExit(f"{variable} must not be empty")
    return text


def _address(variable, text):
    found = _ADDRESS.fullmatch(text)
    if not found or int(found[1] or found[2] or 0) > 65535:
        raise SystemExit(f"{variable} must be HOST:PORT or unix:PATH, not {text!r}")
    return text


def _one_of(*words):
    def parse(variable, text):
        if text not in words:
            raise SystemExit(f"{variable} must be {', '.join(words[:-1])} or {words[-1]}, not {text!r}")
        return text

    return parse


_PARSERS = {
    int: _number,
    str: _text,
    "bind": _address,
    "trusted_proxies": _count,
    "ip_policy": _one_of("keep", "truncate", "drop"),
    "access_log": _one_of("on", "off"),
}
