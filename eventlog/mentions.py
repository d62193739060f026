"""Find a person's ids, or a trait, in texts that need not be valid JSON."""

import re
from collections.abc import Collection
from typing import NamedTuple

#: A word may begin after an escape of JSON, although that ends in a letter or a digit.
_AFTER_ESCAPE = rb"(?<=\\[bfnrt])|(?<=\\u[0-9A-Fa-f]{4})"

#: Not within another address, such as that of o'neil. But Python writes u'neil, and / or = may stand before a value.
_EMAIL_START = rb"(?:(?<![\w.+!$*^~`-])(?<![^\Wub]')|" + _AFTER_ESCAPE + rb")"


class Trait(NamedTuple):
    """A trait by which a person is found. An email is found in any case, also outside of the traits."""

    name: str
    value: str
    is_email: bool = False

    def has(self, value: str) -> bool:
        """Return True if a trait of that name has this value."""
        return value == self.value or (self.is_email and value.strip().casefold() == self.value.casefold())


def compile_mentions(ids: Collection[str], trait: Trait | None) -> re.Pattern[bytes]:
    """Return a pattern for the ids as whole words, and for the trait, in any spelling that JSON allows."""
    choices = [rb"(?:(?<!\w)|" + _AFTER_ESCAPE + rb")(?:" + b"|".join(map(_spell, ids)) + rb")(?!\w)"] if ids else []
    if trait and trait.is_email:
        value = b"".join(map(_spell_in_any_case, trait.value))
        choices.append(_EMAIL_START + rb"(?i:" + value + rb")(?![\w-]|\.\w)")
    elif trait:
        value = _spell(trait.value)
        quoted = rb"(?P<quote>\\?[\"'])" + value + rb"(?P=quote)|" + value + rb"(?=[&,}\]\s]|\Z)"
        choices.append(rb"(?<!\w)" + _spell(trait.name) + rb"(?:\\?[\"'])?\s*+[:=]\s*+(?:" + quoted + rb")")
    return re.compile(b"|".join(choices))


def _spell(text: str) -> bytes:
    return b"".join(map(_spellings, text))


def _spell_in_any_case(character: str) -> bytes:
    """Return the spellings of a character. Patterns of bytes ignore the case of ASCII only."""
    cases = [character] if character.isascii() else sorted({character, character.lower(), character.upper()})
    return b"(?:" + b"|".join(map(_spell, cases)) + b")"


def _spellings(character: str) -> bytes:
    units = character.encode("utf-16-be").hex()
    escapes = [rf"(?i:\\u{units[start : start + 4]})" for start in range(0, len(units), 4)]
    slashed = "" if character.isalnum() else r"\\?"
    return b"(?:" + slashed.encode() + re.escape(character.encode()) + b"|" + "".join(escapes).encode() + b")"
