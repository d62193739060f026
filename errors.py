"""Define every error of the API: its code, its HTTP status and its message."""

from collections.abc import Iterable
from typing import Any

# code -> (status, message). Codes are Segment's published names where one exists.
CODES = {
    # Authentication
    "missing_write_key": (401, "No Source ID was sent; send Authorization: Basic base64(SOURCE_ID:)"),
    "invalid_authorization": (401, "The key is malformed; send Authorization: Basic base64(SOURCE_ID:)"),
    "unknown_source": (401, "No source has this Source ID"),
    "source_disabled": (401, "This source is disabled"),
    # The body
    "invalid_json": (400, "The body is not JSON"),
    "invalid_encoding": (400, "The body does not match its headers"),
    "payload_too_large": (400, "The body is too large"),
    "bad_request": (400, "The request is not valid for this API"),
    # A batch
    "batch_not_list": (400, "batch must be a list of events"),
    "empty_batch": (400, "batch is empty"),
    "batch_too_long": (400, "batch has too many items"),
    "empty_batch_result": (400, "Every event of the batch was rejected"),
    # An event
    "event_not_object": (400, 'An event must be a JSON object; send several to /v1/batch, as {"batch": [...]}'),
    "event_too_large": (400, "The event is too large"),
    "too_deep": (400, "Objects and lists must not be nested deeper than 200 levels"),
    "invalid_number": (400, "NaN, Infinity and numbers beyond the range of a double are not valid JSON"),
    "invalid_text": (400, "An id must be valid Unicode, without lone surrogates"),
    # An event's fields
    "id_required": (400, "userId or anonymousId is required; alias requires userId"),
    "id_not_string": (400, "An id must be a string or a number"),
    "id_invalid": (400, "An id must not contain a NUL character"),
    "group_id_required": (400, "groupId is required"),
    "previous_id_required": (400, "previousId is required"),
    "message_id_not_string": (400, "messageId must be a string or a number"),
    "message_id_too_long": (400, "messageId is too long"),
    "unknown_type": (400, "type must be identify, track, page, screen, group or alias"),
    "type_mismatch": (400, "type does not match the route"),
    "event_not_defined": (400, "event is required: the name of the tracked action"),
    "event_not_string": (400, "event must be a string or a number"),
    "properties_not_object": (400, "properties must be an object"),
    "traits_not_object": (400, "traits must be an object"),
    "context_not_object": (400, "context must be an object"),
    "integrations_not_object": (400, "integrations must be an object"),
    "name_not_string": (400, "name must be a string"),
    "category_not_string": (400, "category must be a string"),
    "section_not_string": (400, "section must be a string"),
    "timestamp_invalid": (400, "A time must be ISO 8601, an HTTP date or an epoch number, within the years 1 to 9999"),
    # The service
    "not_found": (404, "No such path"),
    "method_not_allowed": (405, "This path does not accept this method"),
    "internal_error": (500, "Internal error; send the request again"),
    "storage_unavailable": (503, "The event log cannot be written now; send the request again"),
}  # fmt: skip


class Overloaded(Exception):
    """Raised if the service cannot take a request now, although the log can be used. The request is not kept."""


class ApiError(Exception):
    """An answer other than success. The message defaults to the code's text in CODES."""

    def __init__(self, code: str, message: str = "", errors: Iterable[dict[str, str]] = (), **details: Any) -> None:
        self.code = code
        self.status, default_message = CODES[code]
        self.message = message or default_message
        self.errors = list(errors)
        self.details = details  # further members of the answer to a batch

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    def body(self) -> dict[str, Any]:
        """Return the JSON object that a client receives."""
        return {"success": False, "code": self.code, "message": self.message, "errors": self.errors, **self.details}


def field_error(field: str, code: str) -> dict[str, str]:
    """Return the entry of an answer's `errors` for an invalid field."""
    return {"field": field, "code": code, "message": CODES[code][1]}
