"""Times as the log writes them."""

from datetime import UTC, datetime


def now() -> str:
    """Return the time in ISO 8601, of UTC, to the millisecond, ending in Z."""
    return datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
