"""Explain where and why a text is not JSON, and what to write instead."""

import re
from json.decoder import JSONDecodeError

from errors import ApiError
from parsing.json_values import LONG_INTEGER, long_integer_error

SHOWN_CHARACTERS = 20
MAX_WORD_LENGTH = 40  # characters of a word that advice quotes

_form_field = re.compile(r"%7B|[\w.%+~\[\]-]{1,80}=", re.ASCII | re.IGNORECASE).match
_word = re.compile(r"[A-Za-z_$][\w$.@-]*").match

_QUOTES = "'`\u2018\u2019\u201c\u201d\u00ab\u00bb"
_LITERALS = {"True": "true", "False": "false", "None": "null", "undefined": "null"}


def invalid_json(text: str, error: Exception) -> ApiError:
    """Return the ApiError for an error that parsing `text` has raised."""
    if isinstance(error, RecursionError):
        return ApiError("invalid_json", "The body is nested too deeply")
    if not isinstance(error, JSONDecodeError):
        error = long_integer_error(text, 0)
    return ApiError("invalid_json", f"line {error.lineno}, column {error.colno}: {_advice(error)}")


def _advice(error: JSONDecodeError) -> str:
    """Return what to write instead, for the mistakes in the API's first documentation, or the error itself."""
    rest = error.doc[error.pos : error.pos + 100]
    before = error.doc[: error.pos].rstrip()[-1:]
    if error.msg == LONG_INTEGER:
        return error.msg
    if not rest:
        return "the text ends too early" if before else "the body is empty"
    if rest.startswith(("//", "/*", "#")):
        return "JSON has no comments"
    if error.msg.startswith("Illegal trailing comma") or (rest[0] in "]}" and before == ","):
        return "remove the comma after the last element"
    if not before and rest.startswith("--"):
        return "the body is multipart; send JSON"
    if not before and _form_field(rest):
        return "the body is a form; send JSON, or a form with the JSON in a field named data"
    if rest[0] in _QUOTES:
        return f'write text in double quotes, "like this", not in {rest[0]}'
    if error.msg == "Expecting ',' delimiter":
        return f"write a comma before {_shown(rest)}"
    if error.msg == "Expecting ':' delimiter":
        return f"write a colon before {_shown(rest)}"
    if error.msg.startswith("Expecting") and (word := _word(rest)):
        if word[0] in _LITERALS:
            return f"write {_LITERALS[word[0]]} instead of {word[0]}"
        return f'write "{word[0][:MAX_WORD_LENGTH]}" in double quotes'
    return f"{error.msg.removesuffix(' at')}: {_shown(rest)}"


def _shown(rest: str) -> str:
    line = rest[:SHOWN_CHARACTERS].partition("\n")[0]
    return line.encode("ascii", "backslashreplace").decode()
