"""Make messageIds for events that have none."""

import secrets
import time
from uuid import UUID

MAX_MESSAGE_ID_LENGTH = 255  # characters
MAX_TICKS_AHEAD = 4096 * 1000  # a second; if the clock is further behind, it was set back, and ids follow it

_last = 0  # the latest id's time, in ticks of 1/4096 ms


def make_message_id() -> UUID:
    """Return a UUID of version 7 that is larger than all before it in this process.

    The 12 bits after the milliseconds are a fraction of a millisecond (RFC 9562, section 6.2, method 3). If two ids
    have the same tick, the second gets the next tick, so that they have an order. The other 62 bits are random, from
    the system: workers share no state after a fork.
    """
    global _last
    now = time.time_ns() * 4096 // 1_000_000
    _last = now if now > _last or now < _last - MAX_TICKS_AHEAD else _last + 1
    milliseconds, fraction = divmod(_last, 4096)
    return UUID(int=milliseconds << 80 | 7 << 76 | fraction << 64 | 0b10 << 62 | secrets.randbits(62))
