"""Times as the log writes them."""

from datetime import UTC, datetime, timedelta


def now() -> str:
    """Return the time in ISO 8601, of UTC, to the millisecond, ending in Z."""
    return ago(timedelta())


def ago(span: timedelta) -> str:
    """Return the time that was so long ago, written as `now` does."""
    return iso(datetime.now(UTC) - span)


def iso(moment: datetime) -> str:
    """Return a time of UTC, written as `now` does."""
    return moment.isoformat(timespec="milliseconds")[:23] + "Z"


def age(at: str) -> float:
    """Return how long ago, in seconds, a time as `now` writes it was; 0 for one to come, as where a clock stepped."""
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds())
