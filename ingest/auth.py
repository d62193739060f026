"""Find the source that is calling, by its key."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any

from flask import Request

from errors import ApiError
from eventlog.sources import Source, Sources


def find_source(request: Request, sources: Sources, *, in_query: bool = False) -> Source | None:
    """Return the source that a header or the query names, or None if the key may be in the body.

    The first key that is present decides. The query counts only on routes for senders that cannot set a header.
    Raises ApiError for a malformed or unknown key, and Unavailable.
    """
    for header in ("HTTP_AUTHORIZATION", "HTTP_AUTHENTICATION"):
        given = request.environ.get(header)
        if given is not None:
            return _look_up(_read_basic(given), sources)
    if in_query and "writeKey" in request.args:
        return _look_up(request.args["writeKey"], sources)
    return None


def find_source_in_body(value: Any, items: Sequence[Any], sources: Sources) -> Source:
    """Return the source that a body names at its top level or in all `items` of its batch. Raise as `find_source`."""
    keys = [_key_of(value)]
    if items and keys == [None]:
        keys = [_key_of(item) for item in items]
    if None in keys:
        raise ApiError("missing_write_key")
    source = _look_up(keys[0], sources)
    if not all(key == keys[0] or is_key_of(source, key, sources) for key in keys):
        raise ApiError("invalid_authorization", "All items of a batch must have keys of one source")
    return source


def is_key_of(source: Source, key: Any, sources: Sources) -> bool:
    """Return True if this is a key of the source that is in use. Raise Unavailable."""
    found = sources.find(key) if isinstance(key, str) and key.isprintable() else None
    return found is not None and found.name == source.name


def _key_of(value: Any) -> Any:
    return value.get("writeKey") if isinstance(value, dict) else None


def _read_basic(header: str) -> str:
    """Return the Source ID in `Basic base64(ID:)`. The API's own first examples have no colon."""
    scheme, _, token = header.strip().partition(" ")
    try:
        if scheme.lower() == "basic":
            return base64.b64decode(token.strip(), validate=True).decode().partition(":")[0]
    except (binascii.Error, ValueError):
        pass
    raise ApiError("invalid_authorization")


def _look_up(source_id: Any, sources: Sources) -> Source:
    if not isinstance(source_id, str) or not source_id.strip() or not source_id.isprintable():
        raise ApiError("invalid_authorization")
    source = sources.find(source_id)
    if source is None:
        raise ApiError("unknown_source")
    return source
