"""Deliver given events to a destination once more, whatever its position."""

import threading
from collections.abc import Sequence

from eventlog import DeadLetter, EventLog, NotPossible, StoredEvent

from .attempts import Attempts
from .open_destination import Interrupted, opened
from .splitting import GIVE_UP_SECONDS, Splitter


def redeliver(log: EventLog, name: str, events: Sequence[StoredEvent]) -> tuple[list[int], list[DeadLetter]]:
    """Deliver the events that the destination wants. Return the ids of those delivered, and the dead letters.

    The position stays, and the destination may be paused. Takes no lock: a forwarder may deliver to it at the same
    time, so events may arrive out of order. Raises NotPossible if it does not take them after a few attempts.
    """
    dead: list[DeadLetter] = []
    with opened(log, log.destinations.get(name), threading.Event()) as destination:
        splitter = Splitter(destination, Attempts(destination, destination.reload, once=True), GIVE_UP_SECONDS)
        wanted = [event for event in events if destination.wants(event)]
        size = destination.deliverer.max_events
        try:
            for first in range(0, len(wanted), size):
                batch = wanted[first : first + size]
                splitter.deliver(batch, lambda _last, _delivered, rejected: dead.extend(rejected))
        except Interrupted as interruption:
            raise NotPossible(f"{name} does not take events now: {interruption}") from interruption
    dead_ids = {letter.event.id for letter in dead}
    return [event.id for event in wanted if event.id not in dead_ids], dead
