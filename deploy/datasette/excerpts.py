"""Show the parts of a rejected body around its faults."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from faults import Fault

WHOLE_CHARACTERS = 1500  # of a body that is shown whole
BEFORE, AFTER, IN_FAULT = 200, 200, 300  # characters shown before, after and in a fault of a longer body
BEGINNING = 120  # characters that are shown of each longer body
MARGIN = 1000  # characters around a shown part that are searched for a key which is cut by it


class Piece(NamedTuple):
    """A part of an excerpt, to show as its kind: "" (as it is), "fault", "note" or "gap"."""

    text: str
    kind: str = ""


def make_excerpt(text: str, faults: Sequence[Fault], hide: Callable[[str], str]) -> list[Piece]:
    """Return the parts of a body's text around its faults, or its beginning, with the gaps between them."""
    pieces, at = [], 0
    for start, end in _windows(len(text), faults):
        if start > at:
            pieces.append(_gap(start - at))
        before = max(0, start - MARGIN)
        window = hide(text[before : end + MARGIN])[start - before : end - before]
        pieces += _mark(window, start, faults)
        at = end
    return [*pieces, _gap(len(text) - at)] if at < len(text) else pieces


def _windows(length: int, faults: Sequence[Fault]) -> list[tuple[int, int]]:
    """Return the parts of a text to show, in order, apart from each other."""
    if length <= WHOLE_CHARACTERS:
        return [(0, length)]
    wanted = [(0, BEGINNING if faults else WHOLE_CHARACTERS)]
    for fault in faults:
        is_long = fault.end - fault.start > IN_FAULT
        wanted.append((max(0, fault.start - BEFORE), fault.start + IN_FAULT if is_long else fault.end + AFTER))
    windows: list[tuple[int, int]] = []
    for start, end in sorted(wanted):
        if windows and start <= windows[-1][1]:
            windows[-1] = windows[-1][0], max(windows[-1][1], min(end, length))
        else:
            windows.append((start, min(end, length)))
    return windows


def _mark(window: str, offset: int, faults: Sequence[Fault]) -> Iterator[Piece]:
    """Yield the pieces of a window that begins at `offset` of the text."""
    at, end = offset, offset + len(window)
    for fault in faults:
        if fault.start < at or fault.start > end:
            continue
        yield Piece(visible(window[at - offset : fault.start - offset]))
        at = min(fault.end, end)
        if fault.note:
            yield Piece(fault.note, "note")
        if at > fault.start:
            yield Piece(visible(window[fault.start - offset : at - offset]), "fault")
    yield Piece(visible(window[at - offset :]))


def _gap(characters: int) -> Piece:
    return Piece(f"{characters:,} more characters", "gap")


def visible(text: str) -> str:
    """Return a text with an escape for each character that cannot be seen, and for each byte that is not UTF-8."""
    text = text.replace("\r\n", "\n")
    return text if text.isprintable() else "".join(map(_visible_character, text))


def _visible_character(character: str) -> str:
    if character.isprintable() or character in "\n\t":
        return character
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
