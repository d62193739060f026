"""A destination that accepts and records every event."""

from forwarding import Outcome
from forwarding.delivery import Deliverer


class Recorder(Deliverer):
    max_events = 100
    max_bytes = 1_000_000

    def __init__(self):
        self.delivered = []

    def deliver(self, events):
        self.delivered += events
        return Outcome()

    def abort(self):
        return False

    def close(self):
        pass
