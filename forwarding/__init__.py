"""Deliver the log's events to destinations, each in order and at its own pace. Needs the log, but not Flask."""

from .attempts import MAX_TRIES_ONCE
from .delivery import DeliveryRejected, Outcome, RetryLater
from .event_rules import EventRules
from .forwarder import Forwarder, Redelivered, redeliver
from .headers import parse as parse_headers
from .lock import discard as discard_lock
from .masking import KEY_VARIABLE
from .postgresql_deletion import write_deletion
from .runner import forward
from .secrets import redact_url
from .transforms import FOLDER_VARIABLE
from .urls import carries_one_source, check_url, create_tables, find_kind, open_deliverer
from .variables import PREFIX as SECRET_PREFIX

#: The forwarder's settings: environment variables without a default, with their meanings.
VARIABLES = {
    f"{SECRET_PREFIX}NAME": "a secret of a destination's URL or headers, written there as ${TRACKLOG_SECRET_NAME}",
    KEY_VARIABLE: "the key of masks",
    FOLDER_VARIABLE: "the folder of transforms; without it, no transform is allowed",
}

__all__ = [
    "MAX_TRIES_ONCE",
    "SECRET_PREFIX",
    "VARIABLES",
    "DeliveryRejected",
    "EventRules",
    "Forwarder",
    "Outcome",
    "Redelivered",
    "RetryLater",
    "carries_one_source",
    "check_url",
    "create_tables",
    "discard_lock",
    "find_kind",
    "forward",
    "open_deliverer",
    "parse_headers",
    "redact_url",
    "redeliver",
    "write_deletion",
]
