"""JSON that every reader understands alike: from bytes to values, from values to text, or why not and where."""

import json
import math
import re
from codecs import BOM_UTF8
from json.decoder import JSONDecodeError, JSONDecoder, scanstring
from typing import NamedTuple

from errors import Refused, field_error

MAX_DEPTH = 200  # SQLite's JSON functions follow 1,000 levels, json.loads about as many

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")).encode
_read_value = JSONDecoder().raw_decode
_skip_blanks = re.compile(r"[ \t\n\r]*").match
_word = re.compile(r"[A-Za-z_$][\w$.@-]*").match
_strings_and_long_integers = re.compile(r'"(?:[^"\\]|\\.)*+"|(-?[0-9]{4301,})').finditer

_QUOTES = "'`\u2018\u2019\u201c\u201d\u00ab\u00bb"
_LITERALS = {"True": "true", "False": "false", "None": "null", "undefined": "null"}


class Unwritable(ValueError):
    """The value is none that JSON can hold; `faults` tells why."""


class Item(NamedTuple):
    """A part of a JSON text: its value, and the text that it was sent as."""

    value: object
    text: str


def decode(body):
    """Return the text of a UTF-8 body, with or without a byte order mark; refuse any other encoding."""
    try:
        return body.removeprefix(BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        line, column = body.count(b"\n", 0, error.start) + 1, error.start - body.rfind(b"\n", 0, error.start)
        raise Refused(
            "invalid_json", f"line {line}, column {column}: the byte 0x{body[error.start]:02x} is not UTF-8"
        ) from None


def parse(text):
    """Return the value of a JSON text. NaN, 1e400 and lone surrogates pass here: they refuse an event, not its body."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _refused(text, error) from None


def parse_batch(text, most, pause):
    """Return the value of a JSON text as `parse` does, but a top-level list `batch` as a list of Items.

    json.loads would hold the processor for all of a long batch; here `pause` is called after each item, and a
    batch of more than `most` is refused without a look at the rest.
    """
    members = {}

    def read_member(at):
        name, at = _read_name(text, at)
        if name == "batch" and text.startswith("[", at):
            members[name] = items = []
            return _read_sequence(text, at + 1, "]", lambda at: read_item(at, items))
        members[name], at = _read_value(text, at)
        return at

    def read_item(start, items):
        if len(items) == most:
            raise Refused("batch_too_long", f"A batch may have {most} items, this one has more")
        value, end = _read_value(text, start)
        items.append(Item(value, text[start:end]))
        pause()
        return end

    if not text.startswith("{", _after_blanks(text, 0)):
        return parse(text)
    _read_object(text, read_member)
    return members


def parse_members(text):
    """Return the members of a JSON object by name, each as an Item; refuse a text that is none."""
    members = {}

    def read_member(at):
        name, start = _read_name(text, at)
        value, end = _read_value(text, start)
        members[name] = Item(value, text[start:end])
        return end

    _read_object(text, read_member)
    return members


def encode(value):
    """Return the value's JSON text, which SQLite can read, or raise Unwritable."""
    try:
        text = _encode(value)
        if not text.isascii():
            text.encode()
    except ValueError as error:
        raise Unwritable from error
    return text


def ascii_escaped(text):
    """Return a JSON text in ASCII. Outside of strings it is ASCII already, and inside an escape says the same."""
    return re.sub(r"[^\x00-\x7f]+", lambda found: json.dumps(found[0])[1:-1], text).encode("ascii")


def may_be_too_deep(text):
    """Tell from a value's text, at no cost, whether it is worth a look for its depth."""
    return text.count("{") + text.count("[") > MAX_DEPTH


def faults(value):
    """Yield, as field errors, what keeps `value` from being JSON that everybody can read, level by level."""
    level = [(None, value)]
    for _ in range(MAX_DEPTH + 1):
        inner = []
        for trail, each in level:
            if isinstance(each, dict):
                yield from (_fault((key, trail), "invalid_text") for key in each if not _is_unicode(key))
                inner += [((key, trail), member) for key, member in each.items()]
            elif isinstance(each, list):
                inner += [((index, trail), element) for index, element in enumerate(each)]
            elif isinstance(each, str) and not _is_unicode(each):
                yield _fault(trail, "invalid_text")
            elif isinstance(each, float) and not math.isfinite(each):
                yield _fault(trail, "invalid_number")
        level, outer = inner, level
    yield from (_fault(trail, "too_deep") for trail, each in outer if isinstance(each, dict | list))


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


def _read_object(text, read_member):
    """Read a text that is one object, and refuse what is not."""
    start = _after_blanks(text, 0)
    try:
        if not text.startswith("{", start):
            raise JSONDecodeError("Expecting '{'", text, start)
        end = _after_blanks(text, _read_sequence(text, start + 1, "}", read_member))
        if end != len(text):
            raise JSONDecodeError("Extra data", text, end)
    except (ValueError, RecursionError) as error:
        raise _refused(text, error) from None


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


def _refused(text, error):
    if isinstance(error, JSONDecodeError):
        return Refused("invalid_json", f"line {error.lineno}, column {error.colno}: {_advice(error)}")
    if isinstance(error, RecursionError):
        return Refused("invalid_json", "The body is nested too deeply to be read")
    # int() reads no more than 4,300 digits
    return Refused("invalid_json", f"{_place_of_long_integer(text)}: an integer of more than 4,300 digits")


def _place_of_long_integer(text):
    at = next(found.start(1) for found in _strings_and_long_integers(text) if found[1])
    return f"line {text.count(chr(10), 0, at) + 1}, column {at - text.rfind(chr(10), 0, at)}"


def _advice(error):
    """Say what to write instead, at the slips that the API's first page taught its readers."""
    rest = error.doc[error.pos :]
    before = error.doc[: error.pos].rstrip()
    if not rest:
        return "the text ends too early" if before else "the body is empty"
    if rest.startswith(("//", "/*", "#")):
        return "JSON has no comments"
    if error.msg.startswith("Illegal trailing comma") or (rest[0] in "]}" and before.endswith(",")):
        return "remove the comma after the last element"
    if rest[0] in _QUOTES:
        return f'write text in double quotes, "like this", not in {rest[0]}'
    if error.msg == "Expecting ',' delimiter":
        return f"write a comma before {_shown(rest)}"
    if error.msg == "Expecting ':' delimiter":
        return f"write a colon before {_shown(rest)}"
    if error.msg.startswith("Expecting") and (word := _word(rest)):
        literal = _LITERALS.get(word[0])
        return f"write {literal} instead of {word[0]}" if literal else f'write "{word[0][:40]}" in double quotes'
    return f"{error.msg.removesuffix(' at')}: {_shown(rest)}"


def _shown(rest):
    return ascii_escaped(rest[:20].partition("\n")[0]).decode()
