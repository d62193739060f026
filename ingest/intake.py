"""The path that all calls share: from a request to the event log to a receipt."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from flask import Response

import schemas
from errors import ApiError
from ingest.body import Body
from ingest.checking import MAX_ERRORS, MAX_MESSAGE_ID_LENGTH, RejectedItem, check_size
from ingest.incoming import IncomingRequest
from ingest.query import Query
from parsing import json_text
from parsing.json_values import OVERSIZED
from telemetry import logs

MAX_REJECTIONS_IN_ANSWER = 1000  # the log keeps all rejections of a batch


def accept(schema: schemas.Call, *, in_query: bool = False) -> Response:
    """Store the request's one event, from its body or query. Answer with the receipt, or raise ApiError."""
    with IncomingRequest(Query() if in_query else Body()) as incoming:
        try:
            text = incoming.read_text()
            check_size(text, incoming.settings.max_event_bytes)  # before parsing, which would delay other requests
            item = json_text.parse(text)
            incoming.yield_control()
            incoming.authenticate_from_body(item.value)
            event = incoming.make_checker().check_call(schema, item)
        except ApiError as error:
            incoming.keep_rejected_body(error)
            raise
        (is_new,) = incoming.append([event])
        receipt = {"success": True, "messageId": event.message_id}
        return _answer(receipt if is_new else {**receipt, "duplicate": True})


def accept_batch() -> Response:
    """Store a batch, rejected items too, in one transaction. Answer with the receipt, or raise ApiError."""
    with IncomingRequest(Body()) as incoming:
        try:
            envelope = incoming.parse_batch(incoming.read_text())
            incoming.authenticate_from_body(envelope, _item_values(envelope))
            events, rejected = incoming.make_checker().check_batch(envelope)
        except ApiError as error:
            incoming.keep_rejected_body(error)
            raise
        rejections = [incoming.make_item_rejection(each.item, each.error) for each in rejected]
        stored = sum(incoming.append(events, rejections))
        for code, count in Counter(each.error.code for each in rejected).items():
            logs.log_rejection(code, incoming.request.environ, count)
        receipt: dict[str, Any] = {
            "received": len(envelope["batch"]),
            "stored": stored,
            "duplicates": len(events) - stored,
            "rejected": [_describe(each) for each in rejected[:MAX_REJECTIONS_IN_ANSWER]],
            "rejectedCount": len(rejected),
        }
        if not events:
            raise ApiError("empty_batch_result", **receipt)
        return _answer({"success": True, **receipt})


def validate() -> Response:
    """Answer with every error of the request's call or batch. Store nothing."""
    with IncomingRequest(Body()) as incoming:
        try:
            text = incoming.read_text()
            value = incoming.parse_batch(text)
            incoming.authenticate_from_body(value, _item_values(value))
            _, rejected = incoming.make_checker().check_body(value, text, MAX_ERRORS)
            found = (error for each in rejected for error in _errors_of(each.error, f"batch[{each.position}]"))
            errors = list(islice(found, MAX_ERRORS))
        except ApiError as error:
            if incoming.source is None or error.status == 401:
                raise
            errors = list(islice(_errors_of(error), MAX_ERRORS))
        return _answer({"success": True, "valid": not errors, "errors": errors})


class Receipt(Response):
    """A response that skips werkzeug's headers that depend on the request."""

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        body: list[bytes] = self.response  # type: ignore[assignment]  # as `_answer` made it
        start_response(self.status, [*self.headers, ("Content-Length", str(len(body[0])))])
        return body


def _answer(receipt: dict[str, Any]) -> Receipt:
    return Receipt([json.dumps(receipt).encode() + b"\n"], content_type="application/json")


def _item_values(envelope: Any) -> list[Any]:
    batch = envelope.get("batch") if isinstance(envelope, dict) else None
    return [item.value for item in batch if item.value is not OVERSIZED] if isinstance(batch, list) else []


def _errors_of(error: ApiError, item: str = "") -> Iterator[dict[str, str]]:
    """Yield the field errors of an ApiError, with their paths below `item`."""
    for each in error.errors or [{"field": "", "code": error.code, "message": error.message}]:
        yield {**each, "field": ".".join(filter(None, (item, each["field"])))}


def _describe(rejected: RejectedItem) -> dict[str, Any]:
    """Return a rejected item's element in the answer to its batch."""
    position, item, error = rejected
    message_id = item.value.get("messageId") if isinstance(item.value, dict) else None
    is_id = isinstance(message_id, (str, int)) and not isinstance(message_id, bool)
    return {
        "index": position,
        "messageId": str(message_id) if is_id and len(str(message_id)) <= MAX_MESSAGE_ID_LENGTH else None,
        "code": error.code,
        "message": error.message,
        "errors": error.errors,
    }
