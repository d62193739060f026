"""Every error code that a client may be told, and the exception that carries one."""

from collections.abc import Iterable
from typing import Any

# What a client may be told, all of it: code -> (status, message). Codes are Segment's words where it has one.
CODES = {
    # Who is calling
    "missing_write_key": (401, "Say which source is calling: Authorization: Basic base64(SOURCE_ID:)"),
    "invalid_authorization": (401, "The key must be a Source ID, in a header as: Basic base64(SOURCE_ID:)"),
    "unknown_source": (401, "No source has this Source ID"),
    "source_disabled": (401, "This source has been disabled"),
    # The body
    "invalid_json": (400, "The body is not JSON"),
    "invalid_encoding": (400, "The body is not what its headers say"),
    "payload_too_large": (400, "The body is too large"),
    "bad_request": (400, "The request is not one that this API knows"),
    # A batch
    "batch_not_list": (400, "batch must be a list of events"),
    "empty_batch": (400, "batch is empty"),
    "batch_too_long": (400, "batch has too many items"),
    "empty_batch_result": (400, "No event of the batch could be accepted"),
    # An event
    "event_not_object": (400, "An event must be a JSON object"),
    "event_too_large": (400, "The event is too large"),
    "too_deep": (400, "Objects and lists may be nested 200 deep"),
    "invalid_number": (400, "NaN, Infinity and numbers too large for a double are not JSON"),
    "invalid_text": (400, "Text must be Unicode without lone surrogates"),
    # Its fields
    "id_required": (400, "userId or anonymousId is required; alias requires userId"),
    "id_not_string": (400, "An id must be a string or a number"),
    "id_invalid": (400, "An id must not contain a NUL"),
    "group_id_required": (400, "groupId is required"),
    "previous_id_required": (400, "previousId is required"),
    "message_id_not_string": (400, "messageId must be a string or a number"),
    "message_id_too_long": (400, "messageId is too long"),
    "unknown_type": (400, "type must be identify, track, page, screen, group or alias"),
    "type_mismatch": (400, "type contradicts the route"),
    "event_not_defined": (400, "event is required: the name of what was tracked"),
    "event_not_string": (400, "event must be a string"),
    "properties_not_object": (400, "properties must be an object"),
    "traits_not_object": (400, "traits must be an object"),
    "context_not_object": (400, "context must be an object"),
    "integrations_not_object": (400, "integrations must be an object"),
    "name_not_string": (400, "name must be a string"),
    "category_not_string": (400, "category must be a string"),
    "section_not_string": (400, "section must be a string"),
    "timestamp_invalid": (400, "A time must be ISO 8601 or an epoch number, in the years 1 to 9999"),
    # The service
    "not_found": (404, "There is nothing at this path"),
    "method_not_allowed": (405, "This path does not answer to this method"),
    "internal_error": (500, "The service failed; send it again"),
    "storage_unavailable": (503, "The event log cannot take this now; send it again"),
}  # fmt: skip


class ApiError(Exception):
    """Anything but success: a code, its message where the table's does not say enough, and the fields at fault."""

    def __init__(
        self, code: str, message: str | None = None, errors: Iterable[dict[str, str]] = (), **details: Any
    ) -> None:
        self.code = code
        self.status, default_message = CODES[code]
        self.message = message or default_message
        self.errors = list(errors)
        self.details = details  # what a batch's answer has beside

    def body(self) -> dict[str, Any]:
        return {
            "success": False,
            "code": self.code,
            "message": self.message,
            "errors": self.errors,
            **self.details,
        }


def field_error(field: str, code: str) -> dict[str, str]:
    """Name a field at fault, as it stands in an answer's list of errors."""
    return {"field": field, "code": code, "message": CODES[code][1]}
