"""Turn bytes into JSON values and values into JSON text that SQLite can read."""

import json
import math
import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import msgspec

from errors import ApiError, field_error
from parsing.json_hints import invalid_json

MAX_DEPTH = 200  # levels; SQLite's JSON functions follow 1,000, json.loads about as many
MAX_BRACKETS = 500_000  # opening brackets in a body; each becomes an object of at least 56 bytes
MAX_MEMBERS = 1000  # members at the top level of a body
MAX_CHECKED_LENGTH = 16_384  # characters for msgspec, which takes 10 us for a number like 1.2345678901234567e307
MAX_PATH_LENGTH = 200  # characters of a field's path, and of each of its steps, in an error
CHARACTERS_PER_ESCAPE = 16_384  # escaping this many takes some milliseconds

# What `read_checked` raises. The strict reader then reads the text: it says what is wrong, or accepts NaN and the like.
NOT_READ = (msgspec.DecodeError, UnicodeError, RecursionError)

_decode = msgspec.json.Decoder().decode
_encode_checked = msgspec.json.Encoder().encode
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")).encode

_surrogate = re.compile("[\ud800-\udfff]")
_non_ascii = re.compile(r"[^\x00-\x7f]+")

# The way to a value: its key or index, and the way to the value that contains it.
Trail: TypeAlias = "tuple[str | int, Trail] | None"


class ParsedValue(NamedTuple):
    """A JSON value, and the text that it was parsed from."""

    value: Any
    text: str
    is_checked: bool = False  # whether `read_checked` has read it: then it has neither NaN nor lone surrogates


def decode(body: bytes) -> str:
    """Decode UTF-8, without a byte order mark. Raise ApiError for another encoding or too many brackets."""
    if len(body) > MAX_BRACKETS and body.count(b"[") + body.count(b"{") > MAX_BRACKETS:
        raise ApiError("payload_too_large", f"A body may have at most {MAX_BRACKETS} opening brackets")
    body = body.removeprefix(BOM_UTF8)
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        at = error.start
        line, column = body.count(b"\n", 0, at) + 1, at - body.rfind(b"\n", 0, at)
        message = f"line {line}, column {column}: the byte 0x{body[at]:02x} is not UTF-8"
        raise ApiError("invalid_json", message) from None


def parse(text: str) -> ParsedValue:
    """Return the value of a JSON text.

    NaN, 1e400 and lone surrogates pass here: they concern an event, not its body. Raises ApiError.
    """
    try:
        parsed = ParsedValue(read_checked(text), text, is_checked=True)
    except NOT_READ:
        parsed = ParsedValue(_read_strictly(text), text)
    if isinstance(parsed.value, dict) and len(parsed.value) > MAX_MEMBERS:
        raise too_many_members()
    return parsed


def read_checked(text: str) -> Any:
    """Return the value of a short JSON text, without NaN, infinity or lone surrogates. Raise NOT_READ for any other."""
    if len(text) > MAX_CHECKED_LENGTH:
        raise msgspec.DecodeError("too long")
    return _decode(text)


def _read_strictly(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise invalid_json(text, error) from None


def too_many_members() -> ApiError:
    return ApiError("payload_too_large", f"A body may have at most {MAX_MEMBERS} members at its top level")


def encode(value: Any, *, is_checked: bool = False) -> str:
    """Return the value's JSON text, with U+FFFD for each lone surrogate (half an emoji, cut by the sender).

    Raises ValueError if SQLite could not read it; `find_defects` tells why. A value that is checked, as in ParsedValue,
    is encoded in a seventh of the time. msgspec would write NaN as null, so no other value may reach it.
    """
    if is_checked:
        return _encode_checked(value).decode()
    text = _encode(value)
    return text if is_unicode(text) else _encode(json.loads(replace_surrogates(text)))  # of two equal names the last


def is_unicode(text: str) -> bool:
    """Return False if a text has lone surrogates, which UTF-8 cannot hold."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def has_lone_surrogates(value: Any, text: str) -> bool:
    """Return True if a text in `value`, which was parsed from `text`, has lone surrogates."""
    return "\\u" in text and not is_unicode(_encode(value))


def replace_surrogates(text: str) -> str:
    """Return a text with U+FFFD for each lone surrogate, as JavaScript's `toWellFormed` does."""
    return text if text.isascii() else _surrogate.sub("\ufffd", text)


def escape_non_ascii(text: str, yield_control: Callable[[], None]) -> bytes:
    """Return a JSON text with every character outside ASCII escaped. Its value stays the same."""
    if text.isascii():
        return text.encode()
    pieces = []
    for start in range(0, len(text), CHARACTERS_PER_ESCAPE):
        piece = text[start : start + CHARACTERS_PER_ESCAPE]
        pieces.append(_non_ascii.sub(lambda found: json.dumps(found[0])[1:-1], piece))  # they occur in strings only
        yield_control()
    return "".join(pieces).encode()


def is_too_deep(value: Any, text: str) -> bool:
    """Return True if a value is nested too deeply. A short text, or one with few brackets, needs no search."""
    if len(text) <= 2 * MAX_DEPTH or text.count("{") + text.count("[") <= MAX_DEPTH:
        return False
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
    return bool(level)


def find_defects(value: Any, yield_control: Callable[[], None]) -> Iterator[dict[str, str]]:
    """Yield, level by level, a field error for each part of a value that not every JSON reader accepts."""
    level: list[tuple[Trail, Any]] = [(None, {"": value})]
    for _ in range(MAX_DEPTH + 1):
        next_level: list[tuple[Trail, Any]] = []
        for trail, outer in level:
            for step, inner in outer.items() if isinstance(outer, dict) else enumerate(outer):
                if isinstance(inner, (dict, list)):
                    next_level.append(((step, trail), inner))
                elif isinstance(inner, float) and not math.isfinite(inner):
                    yield _defect((step, trail), "invalid_number")
            yield_control()
        if not next_level:
            return
        level = next_level
    yield from (_defect(trail, "too_deep") for trail, _ in level)


def _defect(trail: Trail, code: str) -> dict[str, str]:
    path = ""
    while trail and len(path) < MAX_PATH_LENGTH:
        step, trail = trail
        path = f"[{step}]{path}" if isinstance(step, int) else f".{step[:MAX_PATH_LENGTH]}{path}"
    return field_error(path.lstrip("."), code)
