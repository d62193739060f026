"""How long to wait before the next try."""

import random

FIRST = 1.0  # seconds
LONGEST = 300.0  # seconds
LONGEST_ASKED = 3600.0  # seconds that a destination's own word is taken for


def delay(failures: int, retry_after: float | None = None) -> float:
    """Return seconds: doubled with each failure in a row, up to half of it off at random, no less than asked for."""
    longest = min(LONGEST, FIRST * 2.0 ** min(failures - 1, 20))
    return max(longest * random.uniform(0.5, 1), min(retry_after or 0.0, LONGEST_ASKED))
