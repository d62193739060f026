"""No regular expression takes more than linear time on a sender's text."""

import importlib
import re
from pathlib import Path
from time import process_time

import pytest

PROJECT = Path(__file__).parents[2]
MODULES = (
    "config",
    "forwarding.postgresql_tables",
    "ingest.body",
    "parsing.json_batch",
    "parsing.json_hints",
    "parsing.json_text",
    "parsing.json_values",
    "parsing.timestamps",
    "telemetry.logs",
)
CODE = [
    *PROJECT.glob("*.py"),
    *(
        path
        for name in ("eventlog", "forwarding", "ingest", "parsing", "routes", "serving", "telemetry")
        for path in (PROJECT / name).glob("*.py")
    ),
]
PIECES = {
    "letters": "x",
    "digits": "1",
    "long integers": "1" * 4300 + ",",
    "blanks": " ",
    "line ends": "\n",
    "quotes": '"',
    "backslashes": "\\",
    "escapes": "\\u00e9",
    "NULs": "\\u0000",
    "brackets": "[",
    "pairs of brackets": "{}",
    "minus signs": "-",
    "dots": ".",
    "percent signs": "%",
    "commas": ",",
    "colons": ":",
    "dollars and braces": "${",
    "no ASCII": "é",
    "ASCII and not": "éa",
}
BEGINNINGS = ("", '"', "2015-11-10T00:45:23.", "10 Nov 2015 00:45:23 (", "[", "x")
CHARACTERS = 65_536
MOST_TIMES = 200  # the time to read each character once; a quadratic pattern takes some 10,000 times it
FLOOR = 0.1  # seconds; a shorter time is noise


def patterns():
    """Return each use of a compiled pattern in the modules, by name."""
    found = {}
    for name in MODULES:
        module = importlib.import_module(name)
        source = Path(module.__file__).read_text()
        for attribute, value in vars(module).items():
            if isinstance(getattr(value, "__self__", None), re.Pattern):
                found[f"{name}.{attribute}"] = value
            elif isinstance(value, re.Pattern):
                for way in re.findall(rf"\b{attribute}\.(\w+)\(", source):
                    found[f"{name}.{attribute}.{way}"] = getattr(value, way)
    return found


PATTERNS = patterns()


def seconds(use, text):
    """Return how long a pattern takes for a text."""
    given = [*["x"] * (use.__name__ == "sub"), text]
    if isinstance(use.__self__.pattern, bytes):
        given = [each.encode() for each in given]
    started = process_time()
    use(*given)
    return process_time() - started


def test_every_module_with_a_pattern_is_tested():
    compiling = {
        ".".join(path.relative_to(PROJECT).with_suffix("").parts) for path in CODE if "re.compile(" in path.read_text()
    }
    others = {"eventlog.mentions", "eventlog.body_texts"}  # these delay no request
    others |= {"forwarding.headers", "forwarding.secrets", "forwarding.variables"}
    assert compiling - others == {name for name in MODULES if any(use.startswith(f"{name}._") for use in PATTERNS)}


@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_takes_linear_time(name):
    plain = re.compile(r"[^\0]*").match
    for beginning in BEGINNINGS:
        for piece in PIECES.values():
            text = beginning + piece * (CHARACTERS // len(piece))
            taken, once = (min(seconds(each, text) for _ in range(2)) for each in (PATTERNS[name], plain))
            assert taken < max(FLOOR, MOST_TIMES * once), (beginning, piece)


def test_a_quadratic_pattern_is_found():
    slow = re.compile(r'"(?:[^"\\]|\\.)*+"|(-?[0-9]{4301,})').search
    text, plain = PIECES["long integers"] * 15, re.compile(r"[^\0]*").match
    assert seconds(slow, text) > max(FLOOR, MOST_TIMES * seconds(plain, text))
