"""Parse a client's time: ISO 8601 in all the forms that clients write, or an epoch number."""

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MIN_MILLISECONDS = 1e11  # an epoch number from here on is in milliseconds (1973); in seconds it would be the year 5138

# Clients write one-digit months and days, a blank for the T, any fraction, and any offset or none.
_ISO_8601 = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})"
    r"(?:[Tt ](\d{2}):(\d{2})(?::(\d{2})(?:[.,](\d+))?)?"
    r"(?:[Zz]|([+-])(\d{2}):?(\d{2})?)?)?",
    re.ASCII,
)
_EPOCH_TEXT = re.compile(r"\d{9,20}(\.\d+)?", re.ASCII)


class Timestamp(NamedTuple):
    """A time as the client wrote it, and the same in UTC."""

    original: str | int | float
    utc: datetime


def parse_timestamp(value: Any) -> Timestamp:
    """Return the Timestamp that `value` stands for. Raise ValueError unless it is in the years 1 to 9999."""
    try:
        if isinstance(value, str) and not _EPOCH_TEXT.fullmatch(value):
            return Timestamp(value, _parse_iso_8601(value))
        return Timestamp(value, _parse_epoch(value))
    except (OverflowError, TypeError) as error:
        raise ValueError("not a time") from error


def parse_time_or_none(value: Any) -> datetime | None:
    """Return the time that `value` stands for in UTC, or None if it is absent or unreadable."""
    if value is not None:
        with suppress(ValueError):
            return parse_timestamp(value).utc
    return None


def _parse_iso_8601(text: str) -> datetime:
    found = _ISO_8601.fullmatch(text)
    if not found:
        raise ValueError("not ISO 8601")
    *parts, fraction, sign, offset_hours, offset_minutes = found.groups("0")
    year, month, day, hour, minute, second = map(int, parts)
    local = datetime(year, month, day, hour, minute, second, int(fraction[:6].ljust(6, "0")), tzinfo=UTC)
    if sign == "0":
        return local
    if int(offset_hours) > 23 or int(offset_minutes) > 59:
        raise ValueError("not an offset from UTC")
    offset = timedelta(hours=int(offset_hours), minutes=int(offset_minutes))
    return local - offset if sign == "+" else local + offset


def _parse_epoch(value: str | int | float) -> datetime:
    if isinstance(value, bool):
        raise TypeError("a boolean is not a number")
    number = float(value) if isinstance(value, str) else value
    unit = "milliseconds" if abs(number) >= MIN_MILLISECONDS else "seconds"
    return EPOCH + timedelta(**{unit: number})
