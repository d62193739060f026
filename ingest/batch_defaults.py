"""Merge what a batch says once into each of its items: context, integrations, sentAt."""

import json
from typing import Any

from parsing.timestamps import parse_sent_at


class BatchDefaults:
    """The defaults of a batch. `size` is how many bytes they add to each item."""

    def __init__(self, context: Any = None, integrations: Any = None, sent_at: Any = None) -> None:
        given = {"context": context, "integrations": integrations}
        self.objects = {name: default for name, default in given.items() if default}
        self.sent_at = sent_at if parse_sent_at(sent_at) else None
        added = self.objects if self.sent_at is None else {**self.objects, "sentAt": self.sent_at}
        self.size = json_size(json.dumps(added, ensure_ascii=False)) if added else 0

    def merge_into(self, value: dict[str, Any]) -> dict[str, Any]:
        """Return an item's value with the defaults for what it lacks."""
        for name, default in self.objects.items():
            own = value.get(name)
            if own is None or own == []:
                value = {**value, name: default}
            elif isinstance(own, dict):
                value = {**value, name: {**default, **own}}
        if self.sent_at is not None and not parse_sent_at(value.get("sentAt")):
            value = {**value, "sentAt": self.sent_at}
        return value


def json_size(text: str) -> int:
    """Return the size of a JSON text in bytes."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


NO_DEFAULTS = BatchDefaults()
