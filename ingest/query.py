"""Read an event from a URL's query, for senders that can only request an image."""

import json
from collections.abc import Callable
from typing import Any

from flask import Request

from ingest.body import Body, decode_base64

MAX_DOTS = 200  # in a field's name; an event may be nested as deeply


class Query(Body):
    """Stands in for a body: base64 of JSON in `data`, or flat fields whose dots lead into objects."""

    def read(
        self, request: Request, limit: int, yield_control: Callable[[], None], claim_size: Callable[[int], None]
    ) -> bytes:
        """Return the event's JSON text. Raise ApiError if `data` is not base64. A URL is shorter than any limit."""
        fields = request.args.to_dict()
        data = fields.get("data")
        if data is None:
            fields.pop("writeKey", None)
            self.content = json.dumps(_nest(fields)).encode()
        else:
            self.content = data.encode()  # kept if it cannot be decoded
            self.content = decode_base64(self.content, yield_control)
        return self.content


def _nest(fields: dict[str, str]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for name, text in fields.items():
        *steps, last = name.split(".", MAX_DOTS)
        inner = value
        for step in steps:
            if not isinstance(inner.get(step), dict):
                inner[step] = {}
            inner = inner[step]
        inner[last] = text
    return value
