"""Times as the log writes them: ISO 8601 in UTC, with milliseconds and Z."""

from datetime import UTC, datetime, timedelta


def now() -> str:
    """Return the present time."""
    return ago(timedelta())


def ago(span: timedelta) -> str:
    """Return the time that was `span` ago."""
    return iso(datetime.now(UTC) - span)


def iso(moment: datetime) -> str:
    """Return a datetime in UTC as the log writes it."""
    return moment.isoformat(timespec="milliseconds")[:23] + "Z"


def age(at: str) -> float:
    """Return how many seconds ago a time was, or 0 if a clock stepped back since."""
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds())
