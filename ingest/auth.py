"""Which source is calling?"""

import base64
import binascii

from errors import ApiError


def find_source(request, sources, *, in_query=False):
    """Return the source that the request's header names, or its query, or None where it may stand in the body.

    The query counts only on routes for senders that cannot set a header. Raises ApiError for a key that is
    malformed or belongs to nobody, and the log's Unavailable.
    """
    for header in ("HTTP_AUTHORIZATION", "HTTP_AUTHENTICATION"):
        given = request.environ.get(header)
        if given is not None:
            return _known(_read_basic(given), sources)
    if in_query and "writeKey" in request.args:
        return _known(request.args["writeKey"], sources)
    return None


def find_source_in(value, items, sources):
    """Return the source that a body names at its top level, or in every one of the values `items` of its batch."""
    keys = [_key_of(value)]
    if items and keys == [None]:
        keys = [_key_of(item) for item in items]
    if None in keys:
        raise ApiError("missing_write_key")
    if any(key != keys[0] for key in keys):
        raise ApiError("invalid_authorization", "The items of a batch must have the same writeKey")
    return _known(keys[0], sources)


def _key_of(value):
    return value.get("writeKey") if isinstance(value, dict) else None


def _read_basic(header):
    """Return the id in `Basic base64(ID:)`; the API's own first examples have no colon, and are taken too."""
    scheme, _, token = header.strip().partition(" ")
    try:
        if scheme.lower() == "basic":
            return base64.b64decode(token.strip(), validate=True).decode().partition(":")[0]
    except (binascii.Error, ValueError):
        pass
    raise ApiError("invalid_authorization")


def _known(source_id, sources):
    if not isinstance(source_id, str) or not source_id.strip() or not source_id.isprintable():
        raise ApiError("invalid_authorization")
    source = sources.find(source_id)
    if source is None:
        raise ApiError("unknown_source")
    return source
