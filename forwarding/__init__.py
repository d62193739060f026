"""Deliver the log's events to destinations, each in order and at its own pace. Needs the log, but not Flask."""

from .delivery import DeliveryRejected, Outcome, RetryLater
from .event_rules import EventRules
from .forwarder import Forwarder, redeliver
from .lock import discard as discard_lock
from .runner import forward
from .secrets import redact_url
from .urls import carries_one_source, check_url, find_kind, open_deliverer

__all__ = [
    "DeliveryRejected",
    "EventRules",
    "Forwarder",
    "Outcome",
    "RetryLater",
    "carries_one_source",
    "check_url",
    "discard_lock",
    "find_kind",
    "forward",
    "open_deliverer",
    "redact_url",
    "redeliver",
]
