"""The line of an export that holds one event."""

import json

from .reader import StoredEvent


def export_line(event: StoredEvent) -> str:
    """Return an event as a line of JSON without its line break: {"id", "source", "event"}.

    The payload is JSON already and is copied as it is stored, to the letter.
    """
    return f'{{"id":{event.id},"source":{json.dumps(event.source)},"event":{event.payload}}}'
