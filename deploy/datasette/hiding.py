"""Replace keys in the text of a rejected body, however they are spelled."""

import base64
import re
from collections.abc import Iterable, Iterator

MIN_KEY_LENGTH = 8  # of keys that are hidden inside words too
HIDDEN = "•"

#: The value of a member that holds a key: in JSON, in a form, in what is nearly JSON, at the end of a cut text.
_key_members = re.compile(
    r"""(?:writeKey|\bsecret)(?:\\?["'’”]|%22)?\s*(?:[:=]|%3A)\s*(?:\\?["'‘“]|%22)?"""
    r"""((?:(?!%22)[^"'’”,&{}\[\]\s\\]|\\u[0-9a-f]{4})+)""",
    re.IGNORECASE,
).finditer
_escapes = re.compile(r"\\u([0-9a-f]{4})|%([0-9a-f]{2})|\0+", re.IGNORECASE).finditer


class KeyHider:
    """Hides every key of the log, and the value of every writeKey, even if it is no key of the log."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._spellings = {spelling for key in keys if key for spelling in _spellings(key)}

    def hide(self, text: str) -> str:
        """Return the text, of the same length, without keys."""
        characters = list(text)
        for start, end in (*(found.span(1) for found in _key_members(text)), *self._find_keys(text)):
            characters[start:end] = HIDDEN * (end - start)
        return "".join(characters)

    def _find_keys(self, text: str) -> Iterator[tuple[int, int]]:
        plain, starts = _unescape(text)
        for spelling in self._spellings:
            at = plain.find(spelling)
            while at >= 0:
                end = at + len(spelling)
                if len(spelling) >= MIN_KEY_LENGTH or not (
                    plain[at - 1 : at].isalnum() or plain[end : end + 1].isalnum()
                ):
                    yield starts[at], starts[end]
                at = plain.find(spelling, at + 1)
            # The text may end within a key.
            at = plain.find(spelling[:MIN_KEY_LENGTH], max(0, len(plain) - len(spelling) + 1))
            if at >= 0 and len(spelling) > MIN_KEY_LENGTH and spelling.startswith(plain[at:]):
                yield starts[at], starts[-1]


def _spellings(key: str) -> Iterator[str]:
    """Yield a key as it is, with its quotes escaped, as its UTF-8 is read byte by byte, and in base64."""
    yield key
    yield key.replace("\\", "\\\\").replace('"', '\\"')
    yield key.encode().decode("latin-1")
    for shift in range(3) if len(key) >= MIN_KEY_LENGTH else ():  # it may begin at each byte of three
        digits = base64.b64encode(bytes(shift) + key.encode()).rstrip(b"=").decode()
        for spelling in {digits, digits.replace("+", "-").replace("/", "_"), digits.replace("+", " ")}:
            yield spelling[-(-shift * 8 // 6) : -1]  # those that depend on the key alone


def _unescape(text: str) -> tuple[str, list[int]]:
    """Return a text without escapes of JSON and URLs and without NULs, and where each character of it begins."""
    plain: list[str] = []
    starts: list[int] = []
    at = 0
    for found in _escapes(text):
        plain.append(text[at : found.start()])
        starts += range(at, found.start())
        if digits := found[1] or found[2]:
            plain.append(chr(int(digits, 16)))
            starts.append(found.start())
        at = found.end()
    return "".join(plain) + text[at:], [*starts, *range(at, len(text) + 1)]
