"""Decide which events a destination gets."""

import json

from eventlog import Destination, StoredEvent


def is_wanted(event: StoredEvent, destination: Destination) -> bool:
    """Return True if the destination's types and sources, and the event's `integrations`, allow a delivery."""
    if destination.types and event.type not in destination.types:
        return False
    if destination.sources and event.source not in destination.sources:
        return False
    if '"integrations"' not in event.payload:
        return True
    integrations = json.loads(event.payload).get("integrations") or {}
    return bool(integrations.get(destination.name, integrations.get("All", True)))
