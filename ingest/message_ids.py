"""Make messageIds for events that come without one."""

import secrets
import time
from uuid import UUID

MAX_TICKS_AHEAD = 4096 * 1000  # a second; a clock that is further behind was set back, and is followed

_last = 0  # the latest id's time, in ticks of 1/4096 ms


def make_message_id():
    """Return a UUID of version 7 that is larger than all before it in this process.

    Its 12 bits after the milliseconds are a fraction of one (RFC 9562, section 6.2, method 3). Two ids of one tick
    would have no order, so the second gets the next tick. The other 62 bits are random, from the system: workers
    share no state after a fork.
    """
    global _last
    now = time.time_ns() * 4096 // 1_000_000
    _last = now if now > _last or now < _last - MAX_TICKS_AHEAD else _last + 1
    milliseconds, fraction = divmod(_last, 4096)
    return UUID(int=milliseconds << 80 | 7 << 76 | fraction << 64 | 0b10 << 62 | secrets.randbits(62))
