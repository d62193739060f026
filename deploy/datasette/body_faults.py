"""Find the places in a rejected body that its errors are about."""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from json.decoder import JSONDecoder, scanstring  # type: ignore[attr-defined]
from typing import Any, AnyStr, NamedTuple, TypeAlias

MAX_FAULTS = 10  # marked in one body
MAX_LEVELS = 20  # that a field is looked for; each level reads the levels below it once more
MAX_STEP_LENGTH = 200  # characters of a member's name in the path of an error
MAX_TOKEN_LENGTH = 1000  # characters of a word or a text that is marked
MAX_DEPTH = 200  # levels that an event may have

#: Earlier names of a field. Its error has the present one.
OLD_NAMES = {
    "userId": ("userID", "to"),
    "anonymousId": ("anonymousID",),
    "groupId": ("groupID",),
    "previousId": ("from",),
    "type": ("action",),
    "messageId": ("requestId",),
}

_read_value = JSONDecoder().raw_decode
_skip_blanks = re.compile(r"[ \t\n\r]*").match
_position = re.compile(r"line (\d+), column (\d+): (.*)", re.DOTALL).match
_token = re.compile(r"[^\s,:\[\]{}]+|.", re.DOTALL).match
_quoted = re.compile(r"(['`‘’“”«»])[^\n]*?['`‘’“”«»](?=\s*[,:\]}]|$)").match
_bracket_or_string = re.compile(r'[\[{]|[\]}]|"[^"\\]*+(?:\\.[^"\\]*+)*"?', re.DOTALL).finditer


class Fault(NamedTuple):
    """A part of a text to mark, or, with a note, a place at which to insert the note."""

    start: int
    end: int
    note: str = ""


#: Where a value begins and ends.
Span: TypeAlias = tuple[int, int]
#: The values of an object or a list, by what a path calls them: ".name" or "[0]".
Values: TypeAlias = dict[str, Span]


def find_faults(body: bytes, text: str, code: str, message: str, errors: Sequence[dict[str, str]]) -> list[Fault]:
    """Return what to mark in a body's text, in the order of the text. There may be nothing to mark.

    `text` is the body decoded with `surrogateescape`, so that each byte that is not UTF-8 is a character.
    """
    try:
        faults = list(_find(body, text, code, message, errors))
    except (ValueError, IndexError, RecursionError):  # it is not JSON, or only the beginning of it
        faults = []
    return sorted(set(faults[:MAX_FAULTS]))


def _find(body: bytes, text: str, code: str, message: str, errors: Sequence[dict[str, str]]) -> Iterator[Fault]:
    find_field = partial(_faults_of_field, text, cache(partial(_read_values, text)))
    if found := _position(message):
        yield from _faults_at(text, _offset(body, text, int(found[1]), int(found[2]), found[3]), found[3])
    elif errors:
        for error in errors[:MAX_FAULTS]:
            yield from find_field(error["field"], error["code"])
    elif code == "invalid_encoding" or (code == "payload_too_large" and "bytes" in message):
        yield from _faults_of_encoding(text, message)
    elif code in ("payload_too_large", "event_too_large") and "context" in message:
        yield from find_field("context", code)
        yield from find_field("integrations", code)
    elif code == "event_too_large":
        yield from _largest_value(text)
    elif code in ("batch_too_long", "bad_request"):
        yield from list(find_field("batch", code)) or [_whole(text)]
    elif code == "event_not_object":
        yield _whole(text)
    elif code == "invalid_json":
        yield from _first_too_deep(text)


def _offset(body: bytes, text: str, line: int, column: int, advice: str) -> int:
    """Return the offset of a position in the text. That of a byte which is not UTF-8 is given in bytes."""
    if "is not UTF-8" in advice:
        return len(body[: _line_start(body, line, b"\n") + column - 1].decode(errors="surrogateescape"))
    return _line_start(text, line, "\n") + column - 1


def _line_start(text: AnyStr, line: int, newline: AnyStr) -> int:
    return bisect_left(range(len(text) + 1), line - 1, key=lambda end: text.count(newline, 0, end))


def _faults_at(text: str, at: int, advice: str) -> Iterator[Fault]:
    """Yield what is wrong at a position at which a parser has stopped."""
    if at >= len(text.rstrip()):
        yield Fault(len(text.rstrip()), len(text.rstrip()), "the body is empty" if not text.strip() else "ends here")
        return
    if advice.startswith("remove the comma"):
        at = text.rindex(",", 0, at + 1)
        yield Fault(at, at + 1)
        return
    if advice.startswith(("write a comma", "write a colon")):
        end = len(text[:at].rstrip())
        yield Fault(end, end, "comma missing" if "comma" in advice else "colon missing")
    end = at + MAX_TOKEN_LENGTH
    token = text[at] if "UTF-8" in advice else (_quoted(text, at, end) or _token(text, at, end))[0]  # type: ignore[index]
    yield Fault(at, at + len(token))


def _faults_of_encoding(text: str, message: str) -> Iterator[Fault]:
    """Yield where a body that was not read to its end stops, or where it is not what its headers say."""
    if message.startswith("data must be"):
        start = text.index("data=") + len("data=")
        yield Fault(start, (text + "&").index("&", start))
    elif message.startswith("The body should be gzip"):
        yield Fault(0, min(len(text), 2))  # the magic bytes that it lacks
    elif not message.startswith("Content-Encoding"):  # a header's fault
        yield Fault(len(text), len(text), "ends here")


def _faults_of_field(text: str, values_at: Callable[[int], Values], field: str, code: str) -> Iterator[Fault]:
    """Yield the value of a field, or a note where the field is missing."""
    if code == "too_deep":
        yield from _first_too_deep(text)
        return
    start = _after_blanks(text, 0)
    path = field if field.startswith("[") else f".{field}"
    is_missing = code.endswith(("_required", "_not_defined")) or (field, code) == ("batch", "batch_not_list")
    names = [path, *(f".{name}" for name in OLD_NAMES.get(field, ()) if not (is_missing and name in ("to", "from")))]
    spans = [span for name in names if (span := _find_value(values_at, start, name))]
    found = [span for span in spans if not _is_blank(text, span)] or spans
    if found:
        yield Fault(*found[0])
    elif (is_missing or code == "unknown_type") and text.startswith("{", start):
        yield Fault(start + 1, start + 1, f"{field} is missing")


def _find_value(values_at: Callable[[int], Values], at: int, path: str, level: int = 0) -> Span | None:
    """Return the span of the value that a path leads to, from the object or list at `at`."""
    if level == MAX_LEVELS:
        return None
    values = values_at(at)
    if path in values:
        return values[path]
    for step, (start, _) in values.items():
        if path.startswith((f"{step}.", f"{step}[")):
            found = _find_value(values_at, start, path[len(step) :], level + 1)
            if found:
                return found
    return None


def _read_values(text: str, at: int) -> Values:
    """Return the values of the object or list at `at`. Of two with one name, the last counts."""
    values: Values = {}
    if text[at] not in "[{":
        return values
    is_object, index = text[at] == "{", 0
    at = _after_blanks(text, at + 1)
    while text[at] not in "]}":
        step = f"[{index}]"
        if is_object:
            name, at = scanstring(text, at + 1)
            step = f".{name[:MAX_STEP_LENGTH]}"
            at = _after_blanks(text, _after_blanks(text, at) + 1)  # the colon
        _, end = _read_value(text, at)
        values[step] = at, end
        at, index = _after_blanks(text, end), index + 1
        if text[at] == ",":
            at = _after_blanks(text, at + 1)
    return values


def _first_too_deep(text: str) -> Iterator[Fault]:
    """Yield the first bracket that opens one level too many."""
    depth = 0
    for found in _bracket_or_string(text):
        depth += (found[0] in "[{") - (found[0] in "]}")
        if depth > MAX_DEPTH:
            yield Fault(found.start(), found.end())
            return


def _largest_value(text: str) -> Iterator[Fault]:
    """Yield the largest value of an object, or the largest in that one, as long as one has most of the text."""
    start, end = _whole(text)[:2]
    for _ in range(MAX_LEVELS):
        spans = _read_values(text, start).values()
        largest = max(spans, key=lambda span: span[1] - span[0], default=(0, 0))
        if (largest[1] - largest[0]) * 2 < end - start:
            break
        start, end = largest
    yield Fault(start, end)


def _whole(text: str) -> Fault:
    start = _after_blanks(text, 0)
    return Fault(start, _read_value(text, start)[1])


def _is_blank(text: str, span: Span) -> bool:
    read: Any = _read_value(text, span[0])[0]
    return read is None or (isinstance(read, str) and not read.strip())


def _after_blanks(text: str, at: int) -> int:
    return _skip_blanks(text, at).end()  # type: ignore[union-attr]  # it matches nothing, too
