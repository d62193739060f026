"""Deliver the log's events to destinations, each in order and at its own pace. Knows the log, and nothing of Flask."""

from .delivery import DeliveryRejected, RetryLater, Settled
from .forwarder import Forwarder
from .lock import discard as discard_lock
from .runner import forward
from .secrets import hide_secrets
from .urls import carries_one_source, check_url, kind_of, open_kind

__all__ = [
    "DeliveryRejected",
    "Forwarder",
    "RetryLater",
    "Settled",
    "carries_one_source",
    "check_url",
    "discard_lock",
    "forward",
    "hide_secrets",
    "kind_of",
    "open_kind",
]
