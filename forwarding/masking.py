"""Mask fields of an event: replace their values by an HMAC."""

import hmac
import json
import os
from collections.abc import Sequence
from typing import Any

from eventlog import NotPossible

from .variables import value_of

KEY_VARIABLE = "TRACKLOG_SECRET_MASK"


class Mask:
    """Hides the fields at these paths, such as context.ip. Raises NotPossible if the environment has no key."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths
        self._key = os.fsencode(value_of(KEY_VARIABLE))
        if paths and not self._key:
            raise NotPossible(f"The environment has no {KEY_VARIABLE}, the key of the mask")

    def hide_fields(self, fields: dict[str, Any]) -> None:
        """Replace the values of all fields, in place."""
        for path in self._paths:
            self._hide_field(fields, path)

    def _hide_field(self, value: Any, path: str) -> None:
        """Replace the value at a path, also in the objects of a list, and if a name on the way has dots itself."""
        for each in value if isinstance(value, list) else ():
            self._hide_field(each, path)
        for name, inner in value.items() if isinstance(value, dict) else ():
            if name == path:
                value[name] = self._hide(inner)
            elif path.startswith(f"{name}."):
                self._hide_field(inner, path[len(name) + 1 :])

    def _hide(self, value: Any) -> Any:
        """Return the HMAC of a value, or the same object or list with those of all its values. Null stays null."""
        if isinstance(value, dict):
            return {name: self._hide(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._hide(inner) for inner in value]
        text = value if isinstance(value, str) else json.dumps(value)
        return None if value is None else hmac.digest(self._key, text.encode(), "sha256").hex()
