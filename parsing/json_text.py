"""JSON that every reader understands alike: from bytes to values, from values to text, or why not and where."""

import json
import math
import re
from codecs import BOM_UTF8
from functools import partial
from itertools import count
from json.decoder import JSONDecodeError, scanstring
from typing import NamedTuple

from errors import ApiError, field_error
from parsing import json_hints
from parsing.json_hints import refused
from parsing.json_values import Values, read_value

MAX_DEPTH = 200  # SQLite's JSON functions follow 1,000 levels, json.loads about as many
MAX_BRACKETS = 500_000  # opening brackets of a body: each becomes an object of at least 56 bytes
MAX_MEMBERS = 1000  # at the top level of a body
ESCAPED_AT_ONCE = 16_384  # characters, which take some milliseconds

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")).encode
_skip_blanks = re.compile(r"[ \t\n\r]*").match


class Unwritable(ValueError):
    """The value is none that JSON can hold; `faults` tells why."""


class Item(NamedTuple):
    """A part of a JSON text: its value, and the text that it was sent as."""

    value: object
    text: str


def decode(body):
    """Return the text of a UTF-8 body, with or without a byte order mark. Refuse what is not, and too many brackets."""
    if len(body) > MAX_BRACKETS and body.count(b"[") + body.count(b"{") > MAX_BRACKETS:
        raise ApiError("payload_too_large", f"A body may have {MAX_BRACKETS} opening brackets")
    try:
        return body.removeprefix(BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        line, column = body.count(b"\n", 0, error.start) + 1, error.start - body.rfind(b"\n", 0, error.start)
        raise ApiError(
            "invalid_json", f"line {line}, column {column}: the byte 0x{body[error.start]:02x} is not UTF-8"
        ) from None


def parse(text):
    """Return the value of a JSON text. NaN, 1e400 and lone surrogates pass here: they refuse an event, not its body."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise refused(text, error) from None
    if isinstance(value, dict) and len(value) > MAX_MEMBERS:
        raise _too_many_members()
    return value


def parse_batch(text, most, longest, pause):
    """Return the value of a JSON text as `parse` does, but a top-level list `batch` as a list of Items.

    A batch of more than `most` items is refused without a look at the rest. A member or an item of more than
    `longest` characters is TOO_LONG. `pause` is called after each: json.loads would hold the processor for all of them.
    """
    members, names = {}, count(1)
    read_any = partial(read_value, text) if len(text) <= longest else Values(text, longest, pause).read

    def read_member(at):
        if next(names) > MAX_MEMBERS:
            raise _too_many_members()
        name, at = _read_name(text, at)
        if name == "batch" and text.startswith("[", at):
            members[name] = items = []
            return _read_sequence(text, at + 1, "]", lambda at: read_item(at, items))
        members[name], at = read_any(at)
        pause()
        return at

    def read_item(start, items):
        if len(items) == most:
            raise ApiError("batch_too_long", f"A batch may have {most} items, this one has more")
        value, end = read_any(start)
        items.append(Item(value, text[start:end]))
        pause()
        return end

    def read(at):
        return (members, _read_members(text, at, read_member)) if text.startswith("{", at) else read_any(at)

    return _read_whole(text, read)


def parse_members(text):
    """Return the members of a JSON object by name, each as an Item; refuse a text that is none."""
    members = {}

    def read_member(at):
        name, start = _read_name(text, at)
        value, end = read_value(text, start)
        members[name] = Item(value, text[start:end])
        return end

    return _read_whole(text, lambda at: (members, _read_members(text, at, read_member)))


def encode(value):
    """Return the value's JSON text, which SQLite can read, or raise Unwritable."""
    try:
        text = _encode(value)
        if not text.isascii():
            text.encode()
    except ValueError as error:
        raise Unwritable from error
    return text


def ascii_escaped(text, pause):
    """Return a JSON text in ASCII. Outside of strings it is ASCII already, and inside an escape says the same."""
    if text.isascii():
        return text.encode()
    pieces = []
    for start in range(0, len(text), ESCAPED_AT_ONCE):
        piece = text[start : start + ESCAPED_AT_ONCE]
        pieces.append(json_hints.ascii_escaped(piece))
        pause()
    return "".join(pieces).encode()


def is_too_deep(value, text):
    """Tell whether a value is nested too deeply. Few brackets in its text mean that it is not."""
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return False
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, (dict, list))
        ]
    return bool(level)


def faults(value, pause):
    """Yield, as field errors, what keeps `value` from being JSON that everybody can read, level by level."""
    level = [(None, {"": value})]
    for _ in range(MAX_DEPTH + 1):
        inner = []
        for trail, each in level:
            if isinstance(each, dict):
                yield from (_fault((key, trail), "invalid_text") for key in each if not _is_unicode(key))
            for step, member in each.items() if isinstance(each, dict) else enumerate(each):
                if isinstance(member, (dict, list)):
                    inner.append(((step, trail), member))
                elif isinstance(member, str) and not _is_unicode(member):
                    yield _fault((step, trail), "invalid_text")
                elif isinstance(member, float) and not math.isfinite(member):
                    yield _fault((step, trail), "invalid_number")
            pause()
        if not inner:
            return
        level = inner
    yield from (_fault(trail, "too_deep") for trail, _ in level)


def _fault(trail, code):
    """Name the place that `trail` leads to: its key or index, and the trail of what holds it."""
    path = ""
    while trail and len(path) < 200:
        step, trail = trail
        path = f"[{step}]{path}" if isinstance(step, int) else f".{step[:200]}{path}"
    return field_error(path.lstrip("."), code)


def _is_unicode(text):
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def _after_blanks(text, at):
    return _skip_blanks(text, at).end()


def _read_whole(text, read):
    """Return the value that `read` finds in a text; it gets its place, and returns its end. Refuse what is no JSON."""
    try:
        value, end = read(_after_blanks(text, 0))
        if (end := _after_blanks(text, end)) != len(text):
            raise JSONDecodeError("Extra data", text, end)
    except (ValueError, RecursionError) as error:
        raise refused(text, error) from None
    return value


def _read_members(text, start, read_member):
    """Read the object that begins at `start`; return where it ends."""
    if not text.startswith("{", start):
        raise JSONDecodeError("Expecting '{'", text, start)
    return _read_sequence(text, start + 1, "}", read_member)


def _read_name(text, at):
    """Return the name of a member, and where its value begins."""
    if not text.startswith('"', at):
        raise JSONDecodeError("Expecting property name enclosed in double quotes", text, at)
    name, at = scanstring(text, at + 1)
    at = _after_blanks(text, at)
    if not text.startswith(":", at):
        raise JSONDecodeError("Expecting ':' delimiter", text, at)
    return name, _after_blanks(text, at + 1)


def _read_sequence(text, at, end, read_element):
    """Read what stands between brackets, separated by commas; return where it ends."""
    at = _after_blanks(text, at)
    if text.startswith(end, at):
        return at + 1
    while True:
        at = _after_blanks(text, read_element(at))
        if text.startswith(end, at):
            return at + 1
        if not text.startswith(",", at):
            raise JSONDecodeError("Expecting ',' delimiter", text, at)
        at = _after_blanks(text, at + 1)


def _too_many_members():
    return ApiError("payload_too_large", f"A body may have {MAX_MEMBERS} members at its top level")
