"""Find the source that is calling, by its key."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any

from flask import Request

from errors import ApiError
from eventlog.sources import Source, Sources


def find_source(request: Request, sources: Sources) -> Source | None:
    """Return the source that a header or the query names, or None if the key may be in the body.

    The first key that is present decides. An Authorization of another scheme than Basic is no key.
    Raises ApiError for a malformed or unknown key, and Unavailable.
    """
    environ = request.environ
    for name in ("HTTP_AUTHORIZATION", "HTTP_AUTHENTICATION"):
        header = environ.get(name)
        if header is not None:
            scheme, _, token = header.replace("\t", " ").strip().partition(" ")
            if scheme.lower() in ("basic", "") or name == "HTTP_AUTHENTICATION":
                return _look_up(_read_basic(scheme, token), sources)
    if environ.get("QUERY_STRING") and "writeKey" in request.args:
        return _look_up(request.args["writeKey"], sources)
    return None


def find_source_in_body(request: Request, value: Any, items: Sequence[Any], sources: Sources) -> Source:
    """Return the source that a body names at its top level or in all `items` of its batch. Raise as `find_source`.

    Libraries of 2012 to 2014 call the key `secret`. Others may use that name for something else, so a writeKey
    anywhere comes first.
    """
    for fields in (("writeKey",), ("writeKey", "secret")):
        keys = [_key_of(value, fields)]
        if items and keys == [None]:
            keys = [_key_of(item, fields) for item in items]
        if None not in keys:
            break
    else:
        raise ApiError("invalid_authorization" if "HTTP_AUTHORIZATION" in request.environ else "missing_write_key")
    source = _look_up(keys[0], sources)
    if not all(key == keys[0] or is_key_of(source, key, sources) for key in keys):
        raise ApiError("invalid_authorization", "All items of a batch must have keys of one source")
    return source


def is_key_of(source: Source, key: Any, sources: Sources) -> bool:
    """Return True if this is one of the source's keys, and not retired. Raise Unavailable."""
    found = sources.find(key) if isinstance(key, str) and key.isprintable() else None
    return found is not None and found.name == source.name


def _key_of(value: Any, fields: tuple[str, ...]) -> Any:
    """Return the first of the fields that is present, or None."""
    given = [value.get(field) for field in fields] if isinstance(value, dict) else []
    return next((key for key in given if key is not None), None)


def _read_basic(scheme: str, token: str) -> str:
    """Return the Source ID in `Basic base64(ID:)`. The API's own first examples have no colon."""
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
