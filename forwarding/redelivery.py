"""Deliver given events to a destination once more, whatever its position."""

import threading
from collections.abc import Sequence
from typing import NamedTuple

from eventlog import DeadLetter, EventLog, NotPossible, StoredEvent

from .attempts import Attempts
from .filters import is_wanted
from .open_destination import Interrupted, opened
from .splitting import GIVE_UP_SECONDS, Splitter


class Redelivered(NamedTuple):
    """The outcome: ids of the events delivered, and the events that were rejected."""

    delivered: list[int]
    dead: list[DeadLetter]


def redeliver(log: EventLog, name: str, events: Sequence[StoredEvent]) -> Redelivered:
    """Deliver those of the events that the destination wants. Its position stays, and it may be paused.

    Takes no lock: a forwarder may deliver to the same destination at the same time, so events may arrive out of order.
    Raises NotPossible if the destination does not take them after a few attempts.
    """
    delivered: list[int] = []
    dead: list[DeadLetter] = []
    row = log.destinations.get(name)
    wanted = [event for event in events if is_wanted(event, row)]
    with opened(log, row, threading.Event()) as destination:
        splitter = Splitter(destination, Attempts(destination, destination.reload, once=True), GIVE_UP_SECONDS)
        size = destination.deliverer.max_events
        try:
            for first in range(0, len(wanted), size):
                batch = wanted[first : first + size]
                splitter.deliver(batch, lambda _last, _delivered, rejected: dead.extend(rejected))
                delivered += sorted({event.id for event in batch} - {letter.event.id for letter in dead})
        except Interrupted as interruption:
            raise NotPossible(f"{name} does not take events now: {interruption}") from interruption
    return Redelivered(delivered, dead)
