"""Parse a batch's items, or an object's members, one by one.

One call for all of them would hold the processor, and would not tell where each one's text is.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count
from json.decoder import JSONDecodeError, scanstring  # type: ignore[attr-defined]
from typing import Any

from msgspec import DecodeError, Raw
from msgspec.json import Decoder

from errors import ApiError
from parsing.json_hints import invalid_json
from parsing.json_text import MAX_MEMBERS, NOT_READ, ParsedValue, read_checked, too_many_members
from parsing.json_values import WindowReader, read_value

# msgspec splits a text in one call. These limits keep it below 10 ms: a member takes 0.25 us, an item less.
MAX_SPLIT_LENGTH = 512 * 1024  # characters
MAX_SPLIT_COMMAS = 30_000

_skip_blanks = re.compile(r"[ \t\n\r]*").match


class _Name:
    """The name of a member. No two are equal, so that a repeated name hides no value from its check."""

    def __init__(self, text: str) -> None:
        self.text = text


_split_object = Decoder(dict[_Name, Raw], dec_hook=lambda _, text: _Name(text)).decode
_split_list = Decoder(list[Raw]).decode


def parse_batch(text: str, max_items: int, max_length: int, yield_control: Callable[[], None]) -> Any:
    """Return the value of a JSON text as `parse` does, but a top-level list `batch` as a list of ParsedValues.

    A member or an item of more than `max_length` characters becomes OVERSIZED. The rest of a batch of more than
    `max_items` is not read. Raises ApiError.
    """
    if len(text) <= min(MAX_SPLIT_LENGTH, max_length) and text.count(",") <= MAX_SPLIT_COMMAS:
        with suppress(*NOT_READ):
            return _read_checked_batch(text, max_items, yield_control)
    return _read_batch_strictly(text, max_items, max_length, yield_control)


def _read_checked_batch(text: str, max_items: int, yield_control: Callable[[], None]) -> dict[str, Any]:
    """Return the members of a batch that is valid and within the limits. Raise NOT_READ for any other text."""
    members: dict[str, Any] = {}
    texts = _split_object(text)
    if len(texts) > MAX_MEMBERS:
        raise DecodeError("too many members")
    for name, member in texts.items():
        if name.text != "batch":
            members[name.text] = read_checked(str(member, "utf-8"))
            yield_control()
            continue
        item_texts = _split_list(member)
        if len(item_texts) > max_items:
            raise DecodeError("too many items")
        items = members["batch"] = []
        for item in item_texts:
            item_text = str(item, "utf-8")
            items.append(ParsedValue(read_checked(item_text), item_text, is_checked=True))
            yield_control()
    return members


def _read_batch_strictly(text: str, max_items: int, max_length: int, yield_control: Callable[[], None]) -> Any:
    """Return what `parse_batch` does, for any text. Raise ApiError that says what is wrong and where."""
    members: dict[str, Any] = {}
    member_numbers = count(1)
    read = partial(read_value, text) if len(text) <= max_length else WindowReader(text, max_length, yield_control).read

    def read_member(name: str, at: int) -> int:
        if next(member_numbers) > MAX_MEMBERS:
            raise too_many_members()
        if name == "batch" and text.startswith("[", at):
            items: list[ParsedValue] = []
            members[name] = items
            return _read_sequence(text, at + 1, "]", partial(read_item, items))
        members[name], at = read(at)
        yield_control()
        return at

    def read_item(items: list[ParsedValue], start: int) -> int:
        if len(items) == max_items:
            raise ApiError("batch_too_long", f"A batch may have at most {max_items} items")
        value, end = read(start)
        items.append(ParsedValue(value, text[start:end]))
        yield_control()
        return end

    def read_body(at: int) -> tuple[Any, int]:
        return (members, _read_members(text, at, read_member)) if text.startswith("{", at) else read(at)

    return _read_whole(text, read_body)


def parse_members(text: str) -> dict[str, ParsedValue]:
    """Return the members of a JSON object by name. Raise ApiError if the text is not an object."""
    members = {}

    def read_member(name: str, start: int) -> int:
        value, end = read_value(text, start)
        members[name] = ParsedValue(value, text[start:end])
        return end

    _read_whole(text, lambda at: (members, _read_members(text, at, read_member)))
    return members


def _read_whole(text: str, read: Callable[[int], tuple[Any, int]]) -> Any:
    """Return the value that `read` finds, given its start and returning its end. It must be the whole text."""
    try:
        value, end = read(_after_blanks(text, 0))
        if (end := _after_blanks(text, end)) != len(text):
            raise JSONDecodeError("Extra data", text, end)
    except (ValueError, RecursionError) as error:
        raise invalid_json(text, error) from None
    return value


def _read_members(text: str, start: int, read_member: Callable[[str, int], int]) -> int:
    """Return the end of the object at `start`. `read_member` gets a name and its value's start, and returns its end."""
    if not text.startswith("{", start):
        raise JSONDecodeError("Expecting '{'", text, start)
    return _read_sequence(text, start + 1, "}", lambda at: read_member(*_read_name(text, at)))


def _read_name(text: str, at: int) -> tuple[str, int]:
    """Return the name of a member, and where its value begins."""
    if not text.startswith('"', at):
        raise JSONDecodeError("Expecting property name enclosed in double quotes", text, at)
    name, at = scanstring(text, at + 1)
    at = _after_blanks(text, at)
    if not text.startswith(":", at):
        raise JSONDecodeError("Expecting ':' delimiter", text, at)
    return name, _after_blanks(text, at + 1)


def _read_sequence(text: str, at: int, closing: str, read_element: Callable[[int], int]) -> int:
    """Read elements separated by commas, up to the closing bracket; return its end."""
    at = _after_blanks(text, at)
    if text.startswith(closing, at):
        return at + 1
    while True:
        at = _after_blanks(text, read_element(at))
        if text.startswith(closing, at):
            return at + 1
        if not text.startswith(",", at):
            raise JSONDecodeError("Expecting ',' delimiter", text, at)
        at = _after_blanks(text, at + 1)


def _after_blanks(text: str, at: int) -> int:
    return _skip_blanks(text, at).end()  # type: ignore[union-attr]  # it matches nothing, too
