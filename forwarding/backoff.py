"""Compute how long to wait before the next attempt."""

import random

FIRST_SECONDS = 1.0
MAX_SECONDS = 300.0
MAX_RETRY_AFTER_SECONDS = 3600.0  # a destination that asks for more gets this


def delay(failures: int, retry_after: float | None = None) -> float:
    """Return the seconds to wait after this many failures in a row.

    They double with each failure, less up to half at random, but are at least `retry_after`.
    """
    longest = min(MAX_SECONDS, FIRST_SECONDS * 2.0 ** min(failures - 1, 20))
    return max(longest * random.uniform(0.5, 1), min(retry_after or 0.0, MAX_RETRY_AFTER_SECONDS))
