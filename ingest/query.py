"""Read an event from a URL's query, for senders that can only ask for a picture."""

import base64
import binascii
import json

from errors import ApiError

MAX_STEPS = 200  # into the objects of an event, which is as deep as it may be


class Query:
    """In the place of a body: base64 of JSON in `data`, or flat fields whose dots lead into objects."""

    is_cut = False

    def __init__(self):
        self.content = b""

    def read(self, request, limit, pause, admit):
        """Return the event's JSON text. Raise ApiError if `data` is not base64. A URL is shorter than any limit."""
        fields = request.args.to_dict()
        data = fields.get("data")
        if data is None:
            fields.pop("writeKey", None)
            self.content = json.dumps(_nested(fields)).encode()
        else:
            self.content = data.encode()  # to be kept, if it cannot be read
            self.content = _decode(data)
        return self.content


def _decode(data):
    """Read base64 as senders write it: in either alphabet, with or without its padding, its + turned into a blank."""
    standard = data.replace(" ", "+").replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ApiError("invalid_encoding", "data must be base64 of JSON") from error


def _nested(fields):
    value = {}
    for name, text in fields.items():
        *steps, last = name.split(".", MAX_STEPS)
        inner = value
        for step in steps:
            if not isinstance(inner.get(step), dict):
                inner[step] = {}
            inner = inner[step]
        inner[last] = text
    return value
