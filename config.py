"""Every setting: its environment variable, its default, and what it means."""

import os
from dataclasses import dataclass, field, fields


def setting(default, meaning):
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True)
class Config:
    """The settings in force. A field is set by TRACKLOG_ and its name in capitals."""

    database: str = setting("tracklog.db", "the event log's file")
    bind: str = setting("127.0.0.1:8000", "the address that gunicorn listens on")
    max_body_bytes: int = setting(8 * 1024 * 1024, "the largest request body, inflated or not")
    max_event_bytes: int = setting(512 * 1024, "the largest event, as JSON")
    max_batch_events: int = setting(25_000, "the most items in a batch")
    max_message_id_length: int = setting(255, "the longest messageId, in characters")

    @classmethod
    def from_environment(cls):
        """Read the settings, and end the program with a sentence at a wrong one."""
        given = {}
        for each in fields(cls):
            variable = f"TRACKLOG_{each.name.upper()}"
            if variable in os.environ:
                given[each.name] = _parse(each.type, variable, os.environ[variable])
        return cls(**given)


def _parse(type, variable, text):
    if type is str and text.strip():
        return text
    if type is int and text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    expected = "must not be empty" if type is str else f"must be a whole number above 0, not {text!r}"
    raise SystemExit(f"{variable} {expected}")
