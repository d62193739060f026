"""Parse a client's time: ISO 8601 and the dates of mail and HTTP, as clients write them, or an epoch number."""

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from typing import Any, NamedTuple

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MIN_SENT_AT = datetime(1990, 1, 1, tzinfo=UTC)  # an earlier sentAt comes from a clock that was never set
MIN_CENTURY_19_YEAR = 50  # of a year of two digits, as in RFC 2822: 49 is 2049, 50 is 1950

# An epoch number tells its unit by its size. In seconds, 1e11 would be the year 5138; in milliseconds it is 1973.
MIN_MILLISECONDS, MIN_MICROSECONDS, MIN_NANOSECONDS = 10**11, 10**14, 10**17

_EPOCH_TEXT = re.compile(r"(?!\d{14}(?!\d))\d{9,21}(?:\.\d+)?", re.ASCII)  # 8 and 14 digits are a date

_COMMON_FORM = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:[0-5]\d)", re.ASCII)

_compile = partial(re.compile, flags=re.ASCII | re.IGNORECASE | re.VERBOSE)
_OFFSET = r"[+-]\d{2}(?::?\d{2})?"
_FRACTION = r"(?:[.,](?P<fraction>\d+))?"
_ISO_ZONE = rf"[ ]?(?P<zone>Z|{_OFFSET})?(?:[ ]?\[[^\[\]]{{1,64}}\]){{0,4}}"  # Java and RFC 9557 add names in brackets
_match_extended = _compile(rf"""
    (?P<year>\d{{4}})-(?P<month>\d{{1,2}})-(?P<day>\d{{1,2}})
    (?:[T ](?P<hour>\d{{1,2}}):(?P<minute>\d{{2}})(?::(?P<second>\d{{2}}){_FRACTION})?{_ISO_ZONE})?
""").fullmatch
_match_basic = _compile(rf"""
    (?P<year>\d{{4}})(?P<month>\d{{2}})(?P<day>\d{{2}})
    (?:[T ]?(?P<hour>\d{{2}})(?P<minute>\d{{2}})(?:(?P<second>\d{{2}}){_FRACTION})?{_ISO_ZONE})?
""").fullmatch

# RFC 2822, and the three forms of RFC 9110, section 5.6.7. The day's name is not compared with the date.
_DAY_NAME = r"(?:[a-z]{3,9},?[ ]{1,4})?"
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})"
_CLOCK = r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2}))?"
_match_mail = _compile(rf"""
    {_DAY_NAME}(?P<day>\d{{1,2}})[ -]{{1,4}}{_MONTH}[ -]{{1,4}}(?P<year>\d{{4}}|\d{{2}})[ ]{{1,4}}
    {_CLOCK}[ ]{{0,4}}(?P<zone>{_OFFSET}|[a-z]{{1,3}})?(?:[ ]{{0,4}}\([^()]{{0,64}}\))?
""").fullmatch
_match_asctime = _compile(rf"""
    {_DAY_NAME}{_MONTH}[ ]{{1,4}}(?P<day>\d{{1,2}})[ ]{{1,4}}{_CLOCK}[ ]{{1,4}}(?P<year>\d{{4}})
""").fullmatch

# RFC 2822, section 4.3, in hours
_ZONES = {"Z": 0, "UT": 0, "UTC": 0, "GMT": 0, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5}
_ZONES |= {"MST": -7, "MDT": -6, "PST": -8, "PDT": -7}


class Timestamp(NamedTuple):
    """A time as the client wrote it, and the same in UTC."""

    original: str | int | float
    utc: datetime


def parse_timestamp(value: Any) -> Timestamp:
    """Return the Timestamp that `value` stands for. Raise ValueError unless it is in the years 1 to 9999."""
    try:
        return Timestamp(value, _parse_text(value.strip()) if isinstance(value, str) else _parse_epoch(value))
    except (OverflowError, TypeError) as error:
        raise ValueError("not a time") from error


def parse_time_or_none(value: Any) -> datetime | None:
    """Return the time that `value` stands for in UTC, or None if it is absent or unreadable."""
    if value is not None:
        with suppress(ValueError):
            return parse_timestamp(value).utc
    return None


def parse_sent_at(value: Any) -> datetime | None:
    """Like `parse_time_or_none`, but return None for the time of a clock that was never set too."""
    sent_at = _parse_repeated_text(value) if isinstance(value, str) else parse_time_or_none(value)
    return sent_at if sent_at and sent_at >= MIN_SENT_AT else None


@lru_cache(maxsize=1)
def _parse_repeated_text(text: str) -> datetime | None:
    """Like `parse_time_or_none`. All items of a batch have the same sentAt, so it is read once."""
    return parse_time_or_none(text)


def _parse_text(text: str) -> datetime:
    if _COMMON_FORM.fullmatch(text):
        try:
            return datetime.fromisoformat(text).astimezone(UTC)  # in a fifth of the time of the tolerant patterns
        except ValueError:  # Python does not read second 60 or hour 24
            pass
    if _EPOCH_TEXT.fullmatch(text):
        return _parse_epoch(float(text) if "." in text else int(text))
    for match in (_match_extended, _match_basic, _match_mail, _match_asctime):
        if found := match(text):
            return _make_utc(**found.groupdict())
    raise ValueError("not a time")


def _parse_epoch(number: int | float) -> datetime:
    if isinstance(number, bool):
        raise TypeError("a boolean is not a number")
    size = abs(number)
    if size < MIN_MILLISECONDS:
        return EPOCH + timedelta(seconds=number)
    if size < MIN_MICROSECONDS:
        return EPOCH + timedelta(milliseconds=number)
    return EPOCH + timedelta(microseconds=number if size < MIN_NANOSECONDS else number // 1000)


def _make_utc(
    year: str,
    month: str,
    day: str,
    hour: str | None,
    minute: str | None,
    second: str | None,
    fraction: str | None = None,
    zone: str | None = None,
) -> datetime:
    """Return the time in UTC. 24:00:00 is the next day, and second 60 the next minute's second 0."""
    full_year = int(year) if len(year) == 4 else int(year) + (1900 if int(year) >= MIN_CENTURY_19_YEAR else 2000)
    month_number = int(month) if month.isdigit() else 1 + _MONTHS.index(month.lower())
    midnight = datetime(full_year, month_number, int(day), tzinfo=UTC)
    hours, minutes, seconds = int(hour or 0), int(minute or 0), int(second or 0)
    since_midnight = timedelta(
        hours=hours, minutes=minutes, seconds=seconds, microseconds=int((fraction or "")[:6].ljust(6, "0"))
    )
    if minutes > 59 or seconds > 60 or (hours > 23 and since_midnight != timedelta(days=1)):
        raise ValueError("not a time of day")
    return midnight + since_midnight - _parse_zone(zone or "Z")


def _parse_zone(zone: str) -> timedelta:
    """Return how far a zone is ahead of UTC. Raise ValueError if its name is unknown."""
    if zone[0] not in "+-":
        hours = _ZONES.get(zone.upper())
        if hours is None:
            raise ValueError("not a zone")
        return timedelta(hours=hours)
    hours, minutes = int(zone[1:3]), int(zone[3:].removeprefix(":") or 0)
    if hours > 23 or minutes > 59:
        raise ValueError("not an offset from UTC")
    ahead = timedelta(hours=hours, minutes=minutes)
    return ahead if zone[0] == "+" else -ahead
