"""Read a time as clients write it: ISO 8601 as widely as it is written, or an epoch number."""

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECONDS_FROM = 1e11  # an epoch number this large counts milliseconds: as seconds it is the year 5138, else 1973

# As widely as clients write ISO 8601: one-digit months and days, a blank for the T, any fraction, any offset or none.
_ISO_8601 = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})"
    r"(?:[Tt ](\d{2}):(\d{2})(?::(\d{2})(?:[.,](\d+))?)?"
    r"(?:[Zz]|([+-])(\d{2}):?(\d{2})?)?)?",
    re.ASCII,
)
_EPOCH_TEXT = re.compile(r"\d{9,20}(\.\d+)?", re.ASCII)


class Timestamp(NamedTuple):
    """A time as a client gave it, text or number, and what it is in UTC."""

    given: str | int | float
    at: datetime


def parse_timestamp(value):
    """Return the Timestamp that `value` gives; raise ValueError unless it is one of the years 1 to 9999."""
    try:
        if isinstance(value, str) and not _EPOCH_TEXT.fullmatch(value):
            return Timestamp(value, _read_iso_8601(value))
        return Timestamp(value, _read_epoch(value))
    except (OverflowError, TypeError) as error:
        raise ValueError("not a time") from error


def _read_iso_8601(text):
    found = _ISO_8601.fullmatch(text)
    if not found:
        raise ValueError("not ISO 8601")
    year, month, day, hour, minute, second, fraction, sign, offset_hours, offset_minutes = found.groups("0")
    microsecond = fraction[:6].ljust(6, "0")
    local = datetime(*map(int, (year, month, day, hour, minute, second, microsecond)), tzinfo=UTC)
    if sign == "0":
        return local
    if int(offset_hours) > 23 or int(offset_minutes) > 59:
        raise ValueError("not an offset")
    offset = timedelta(hours=int(offset_hours), minutes=int(offset_minutes))
    return local - offset if sign == "+" else local + offset


def _read_epoch(value):
    if isinstance(value, bool):
        raise TypeError("a boolean is not a number")
    number = float(value) if isinstance(value, str) else value
    unit = "milliseconds" if abs(number) >= MILLISECONDS_FROM else "seconds"
    return EPOCH + timedelta(**{unit: number})
