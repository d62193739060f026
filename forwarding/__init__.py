"""Deliver the log's events to destinations, each in order and at its own pace. Knows the log, and nothing of Flask."""

from .delivery import Later, Refused, Settled
from .forwarder import Forwarder
from .runner import forward
from .urls import hide_secrets, kind_of, open_kind

__all__ = ["Forwarder", "Later", "Refused", "Settled", "forward", "hide_secrets", "kind_of", "open_kind"]
