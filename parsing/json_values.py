"""Read one value of a JSON text, unless it is too long; find where it ends, or its first integer that is too long."""

import re
from json.decoder import JSONDecodeError, JSONDecoder

TOO_LONG = object()  # in the place of a value whose text is longer than an event may be; it is never read
LONG_INTEGER = "an integer of more than 4,300 digits"  # int() reads no more

read_value = JSONDecoder().raw_decode

# Senders choose what these read. Each takes linear time and stops after 1,000 pieces, so that others get a turn.
# Python before 3.11.5 gets possessive groups wrong: only single characters are repeated so.
_string_pieces = re.compile(r'(?:[^"\\]++|\\.){0,1000}', re.DOTALL).match
_pieces_without_brackets = re.compile(r'(?:[^"\[\]{}]++|"[^"\\]*+"){0,1000}').match
_scalar = re.compile(r"[^\s,\]}]*+").match
_pieces_without_long_integer = re.compile(
    r'(?:[^"0-9]++|"[^"\\]*+"|(?![0-9]{4301,}+(?![.eE]))[0-9]++(?:[.eE][0-9.eE+-]*+)?){0,1000}'
).match


class Values:
    """Reads values from a text, but none of more than `longest` characters.

    Only reading tells how long a value is. So each is read from a window, a piece of the text that ends in time.
    """

    _MARGIN = 16  # characters at a window's end, where the cut may have changed a number, a word or an escape

    def __init__(self, text, longest, pause):
        self._text = text
        self._size = longest + 2 * self._MARGIN
        self._pause = pause
        self._place_window(0)

    def read(self, at):
        """Return the value that begins at `at`, or TOO_LONG, and where it ends."""
        while True:
            try:
                value, end = read_value(self._window, at - self._start)
                if end <= self._safe_end:
                    return value, self._start + end
            except JSONDecodeError as error:
                if self._is_sound(error):
                    raise JSONDecodeError(error.msg, self._text, self._start + error.pos) from None
            except ValueError:
                raise long_integer(self._text, at) from None
            if self._start == at:
                return TOO_LONG, _end_of_value(self._text, at, self._pause)
            self._place_window(at)

    def _place_window(self, start):
        self._window, self._start = self._text[start : start + self._size], start
        self._is_last = start + self._size >= len(self._text)
        self._safe_end = len(self._window) - (0 if self._is_last else self._MARGIN)

    def _is_sound(self, error):
        """Tell whether an error comes from the text, and not from the window's end."""
        is_cut = error.pos > self._safe_end or error.msg.startswith("Unterminated string")
        return self._is_last or not is_cut


def long_integer(text, at):
    """Return the error of the first integer after `at` that int() does not read. The text is JSON up to there."""
    while (end := _pieces_without_long_integer(text, at).end()) > at or text.startswith('"', at):
        at = end if end > at else _end_of_string(text, at, lambda: None)
    return JSONDecodeError(LONG_INTEGER, text, at - text.endswith("-", 0, at))


def _end_of_value(text, start, pause):
    """Return where the value that begins at `start` ends, by its brackets and quotes alone."""
    if text[start] not in '"[{':
        return _scalar(text, start).end()
    at, depth = start, 0
    while at < len(text):
        character = text[at]
        at = _end_of_string(text, at, pause) if character == '"' else at + 1
        depth += (character in "[{") - (character in "]}")
        if depth == 0:
            return at
        at = _pieces_without_brackets(text, at).end()
        pause()
    raise JSONDecodeError("Unterminated value starting at", text, start)


def _end_of_string(text, start, pause):
    at = start + 1
    while (end := _string_pieces(text, at).end()) > at:
        at = end
        pause()
    return at + 1 if text.startswith('"', at) else len(text)
