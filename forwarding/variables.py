"""Fill in the variables of a destination's settings, such as ${TRACKLOG_SECRET_KEY}, from the environment."""

import os
import re
from urllib.parse import unquote

from eventlog import NotPossible

VARIABLE = re.compile(r"\$\{(\w+)\}")
PREFIX = "TRACKLOG_SECRET_"  # or a writer of the log could read the forwarder's whole environment


def fill_in(text: str) -> str:
    """Return a text with its variables filled in.

    Raises NotPossible if a variable is not set, is empty, or does not begin with PREFIX.
    """
    for name in VARIABLE.findall(text):
        check_name(name)
        if not os.environ.get(name):
            raise NotPossible(f"The environment has no {name}, which the destination needs")
    return VARIABLE.sub(lambda found: os.environ[found[1]], text)


def find_names(text: str) -> set[str]:
    """Return the names of the variables in a text, percent-encoded or not."""
    return {*VARIABLE.findall(text), *VARIABLE.findall(unquote(text))}


def value_of(name: str) -> str:
    """Return the value of a variable that may be filled in; an empty string for any other."""
    return os.environ.get(name, "") if name.startswith(PREFIX) else ""


def check_name(name: str) -> None:
    """Raise NotPossible if the variable may not be filled in."""
    if not name.startswith(PREFIX):
        raise NotPossible(
            f"Only variables that begin with {PREFIX} are filled in, and {name} does not. "
            f"Rename it to {PREFIX}{name} in the forwarder's environment, "
            "and write the new name with: tracklog destinations set"
        )
