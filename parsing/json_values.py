"""Read one value of a JSON text within a limit on its length, and find where it ends."""

import re
from collections.abc import Callable
from json.decoder import JSONDecodeError, JSONDecoder
from typing import Any

OVERSIZED: Any = object()  # stands for a value whose text is longer than an event may be; it is not parsed
LONG_INTEGER = "an integer of more than 4,300 digits"  # the most that int() reads

read_value = JSONDecoder().raw_decode

# Senders choose the text that these read. Each takes linear time and stops after 1,000 pieces, so that other
# requests can run. Python before 3.11.5 has a bug in possessive groups: only single characters are possessive here.
_string_pieces = re.compile(r'(?:[^"\\]++|\\.){0,1000}', re.DOTALL).match
_pieces_without_brackets = re.compile(r'(?:[^"\[\]{}]++|"[^"\\]*+"){0,1000}').match
_scalar = re.compile(r"[^\s,\]}]*+").match
_pieces_without_long_integer = re.compile(
    r'(?:[^"0-9]++|"[^"\\]*+"|(?![0-9]{4301,}+(?![.eE]))[0-9]++(?:[.eE][0-9.eE+-]*+)?){0,1000}'
).match


class WindowReader:
    """Reads values from a text, but none of more than `max_length` characters.

    Only reading a value tells its length. So each is read from a window: a piece of the text that limits the work.
    """

    _MARGIN = 16  # characters at the window's end, where the cut may have changed a number, a word or an escape

    def __init__(self, text: str, max_length: int, yield_control: Callable[[], None]) -> None:
        self._text = text
        self._size = max_length + 2 * self._MARGIN
        self._yield_control = yield_control
        self._move_window(0)

    def read(self, at: int) -> tuple[Any, int]:
        """Return the value that begins at `at`, or OVERSIZED, and its end."""
        while True:
            try:
                value, end = read_value(self._window, at - self._start)
                if end <= self._safe_end:
                    return value, self._start + end
            except JSONDecodeError as error:
                is_cut = error.pos > self._safe_end or error.msg.startswith("Unterminated string")
                if self._is_last or not is_cut:
                    raise JSONDecodeError(error.msg, self._text, self._start + error.pos) from None
            except ValueError:
                raise long_integer_error(self._text, at) from None
            if self._start == at:
                return OVERSIZED, _end_of_value(self._text, at, self._yield_control)
            self._move_window(at)

    def _move_window(self, start: int) -> None:
        self._window, self._start = self._text[start : start + self._size], start
        self._is_last = start + self._size >= len(self._text)
        self._safe_end = len(self._window) - (0 if self._is_last else self._MARGIN)


def long_integer_error(text: str, at: int) -> JSONDecodeError:
    """Return the error of the first integer after `at` that int() does not read. The text before it is JSON."""
    while (end := _end_of_match(_pieces_without_long_integer, text, at)) > at or text.startswith('"', at):
        at = end if end > at else _end_of_string(text, at, lambda: None)
    return JSONDecodeError(LONG_INTEGER, text, at - text.endswith("-", 0, at))


def _end_of_value(text: str, start: int, yield_control: Callable[[], None]) -> int:
    """Return the end of the value that begins at `start`, found by its brackets and quotes alone."""
    if text[start] not in '"[{':
        return _end_of_match(_scalar, text, start)
    at, depth = start, 0
    while at < len(text):
        character = text[at]
        at = _end_of_string(text, at, yield_control) if character == '"' else at + 1
        depth += (character in "[{") - (character in "]}")
        if depth == 0:
            return at
        at = _end_of_match(_pieces_without_brackets, text, at)
        yield_control()
    raise JSONDecodeError("Unterminated value starting at", text, start)


def _end_of_string(text: str, start: int, yield_control: Callable[[], None]) -> int:
    at = start + 1
    while (end := _end_of_match(_string_pieces, text, at)) > at:
        at = end
        yield_control()
    return at + 1 if text.startswith('"', at) else len(text)


def _end_of_match(match: Callable[[str, int], re.Match[str] | None], text: str, at: int) -> int:
    return match(text, at).end()  # type: ignore[union-attr]  # each pattern matches an empty text too
