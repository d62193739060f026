"""Describe the API in OpenAPI, from the schemas, the table of error codes and the URL map."""

import re
from typing import Any

from flask import Flask
from marshmallow.fields import Field

import schemas
from errors import CODES

INTRODUCTION = """\
200 means that the event is on disk. After a 5xx or no answer, send it again: events with the same messageId are \
stored once. After a 400 or 401, correct it first. Neither a trailing slash nor the Content-Type makes a difference. \
The Content-Encoding may be gzip. An unknown path is answered with 404, a wrong method with 405."""

Spec = dict[Any, Any]  # a part of the document

BASIC = "Basic base64(SOURCE_ID:)"
KEYS = {
    "Authorization": {"type": "http", "scheme": "basic", "description": BASIC},
    "Authentication": {"type": "apiKey", "in": "header", "name": "Authentication", "description": BASIC},
    "writeKey": {"type": "apiKey", "in": "query", "name": "writeKey", "description": "SOURCE_ID"},
}
KEY_OR_BODY: list[Spec] = [*({name: []} for name in KEYS), {}]  # a body may hold the key

STRING: Spec = {"type": "string"}
OBJECT: Spec = {"type": "object"}
COUNT: Spec = {"type": "integer", "minimum": 0}
TRUE: Spec = {"const": True}
TEXT: Spec = {"type": ["string", "null"]}
SCALAR: Spec = {"type": ["string", "number", "null"]}
FIELD_TYPES: dict[type[Field[Any]], Spec] = {
    schemas.Id: SCALAR,
    schemas.Text: TEXT,
    schemas.EventName: SCALAR,
    schemas.Object: {"type": ["object", "array", "null"], "maxItems": 0},
    schemas.Time: SCALAR | {"format": "date-time"},
    schemas.Type: TEXT,
    schemas.Items: {"type": ["array"], "minItems": 1},
}
ERROR_HEADERS: dict[int, Spec] = {
    401: {"WWW-Authenticate": {"schema": STRING, "description": "Sent if there is no key, and never to a browser"}},
    503: {"Retry-After": {"schema": COUNT, "description": "seconds"}},
}
# Fields of every body; none of them can make it invalid.
COMMON_FIELDS = {
    "sentAt": {"description": "The sender's clock when it sent; ignored if it cannot be read or is before 1990."},
    "writeKey": {"description": "The Source ID, if neither a header nor the query has it; never stored."},
}


def describe(app: Flask) -> Spec:
    """Return the OpenAPI document of the application."""
    operations = _operations()
    paths: Spec = {}
    for rule in app.url_map.iter_rules():
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            summary = (app.view_functions[rule.endpoint].__doc__ or "").partition("\n")[0]
            operation = {"summary": summary, "tags": [rule.endpoint.partition(".")[0]]} | operations[rule.endpoint]
            paths[re.sub(r"<(?:path:)?(\w+)>", r"{\1}", rule.rule)] = {method.lower(): operation}
    components = {
        "securitySchemes": KEYS,
        "schemas": _bodies() | _answers(),
        "responses": {f"Error{status}": _error_response(status) for status, _ in CODES.values()},
    }
    info = {"title": "tracklog", "version": "1", "description": INTRODUCTION}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": components}


def _bodies() -> Spec:
    calls = {name.title(): _body(call) for name, call in schemas.CALLS.items()}
    batch = _body(schemas.BATCH)
    batch["properties"]["batch"]["items"] = _ref("Item")
    return calls | {"Item": {"anyOf": [_ref(name) for name in calls], "required": ["type"]}, "Batch": batch}


def _body(schema: Any) -> Spec:
    kinds = {name: type(field) for name, field in schema.fields.items()}
    fields = {name: FIELD_TYPES[kind] | {"description": kind.__doc__} for name, kind in kinds.items()}
    for name in schema.required:
        fields[name] |= {"type": [type for type in fields[name]["type"] if type != "null"], "minLength": 1}
    properties = fields | COMMON_FIELDS
    body = OBJECT | {"properties": properties, "required": sorted(schema.required), "additionalProperties": True}
    if isinstance(schema, schemas.UserCall):
        body["anyOf"] = [{"required": ["userId"]}, {"required": ["anonymousId"]}]
    return body


def _answers() -> Spec:
    codes = "\n".join(f"- `{code}`: {message}" for code, (_, message) in CODES.items())
    errors = {"type": "array", "maxItems": 100, "items": _ref("FieldError")}
    refusal = {"code": _ref("Code"), "message": STRING, "errors": errors}
    counts: Spec = dict.fromkeys(("received", "stored", "duplicates", "rejectedCount"), COUNT)
    counts["rejected"] = {"type": "array", "maxItems": 1000, "items": _ref("Rejected")}
    return {
        "Code": STRING | {"enum": list(CODES), "description": codes},
        "FieldError": _object(field=STRING, code=_ref("Code"), message=STRING),
        "Receipt": _object(["duplicate"], success=TRUE, messageId=STRING, duplicate=TRUE),
        "BatchReceipt": _object(success=TRUE, **counts),
        "Verdict": _object(success=TRUE, valid={"type": "boolean"}, errors=errors),
        "Rejected": _object(index=COUNT, messageId=TEXT, **refusal | {"errors": errors | {"maxItems": 10}}),
        "Refusal": _object(list(counts), success={"const": False}, **refusal, **counts),
    }


def _error_response(status: int) -> Spec:
    codes = [code for code, (each, _) in CODES.items() if each == status]
    schema = {"allOf": [_ref("Refusal"), {"properties": {"code": {"enum": codes}}}]}
    content = _json(schema)
    return {"description": "Refused: " + ", ".join(codes), "content": content, "headers": ERROR_HEADERS.get(status, {})}


def _operations() -> dict[str, Spec]:
    """Return the request and the answers of each endpoint."""
    calls = {f"{name}.{name}": _posted(_ref(name.title()), "Receipt") for name in schemas.CALLS}
    return calls | {
        "batch.batch": _posted(_ref("Batch"), "BatchReceipt"),
        "validate.validate": _posted({"anyOf": [_ref("Item"), _ref("Batch")]}, "Verdict"),
        "pixel.pixel": _pixel(),
        "client_metrics.client_metrics": _open(_json(_object(success=TRUE))),
        "settings.settings": _settings(),
        "ops.healthz": _open(_json(_object(status={"const": "ok"}))),
        "ops.readyz": _open(_json(_object(status={"const": "ready"})), 503),
        "ops.metrics": _open({"text/plain": {"schema": STRING}}),
        "ops.openapi": _open(_json(OBJECT)),
    }


def _posted(body: Spec, answer: str) -> Spec:
    """Return the operation of an endpoint that takes events. `answer` is the name of a schema."""
    request = {"required": True, "content": _json(body)}
    return {"requestBody": request, "security": KEY_OR_BODY, "responses": _responses(_json(_ref(answer)), 401, 503)}


def _open(answer: Spec, *statuses: int) -> Spec:
    """Return the operation of an endpoint that needs no key. `answer` maps a media type to a schema."""
    return {"security": [], "responses": _responses(answer, *statuses)}


def _pixel() -> Spec:
    """Return the operation of the pixel. It answers with a picture even if it refuses the event."""
    call = {"in": "path", "name": "type", "required": True, "schema": STRING | {"enum": list(schemas.CALLS)}}
    data = {"in": "query", "name": "data", "schema": STRING, "description": "base64 of the event's JSON"}
    flat = {"in": "query", "name": "fields", "schema": OBJECT | {"additionalProperties": STRING}}
    flat["description"] = "Or one parameter per field; dots lead into objects: properties.subject=Hello"
    picture: Spec = {"description": "The status tells the result", "content": {"image/gif": {}}}
    answers = dict.fromkeys((200, 401, 500, 503), picture) | {404: _ref("Error404", "responses")}
    answers[400] = {"description": "Refused", "content": picture["content"] | _json(_ref("Refusal"))}
    return {"parameters": [call, data, flat], "security": KEY_OR_BODY, "responses": answers}


def _settings() -> Spec:
    """Return the operation of the configuration that client libraries fetch."""
    source_id = {"in": "path", "name": "source_id", "required": True, "schema": STRING}
    segment = _object(["protocol"], apiKey=STRING, apiHost=STRING, protocol={"const": "http"})
    answer = _object(integrations=_object(**{"Segment.io": segment}))
    return {"parameters": [source_id], **_open(_json(answer), 404, 503)}


def _responses(answer: Spec, *statuses: int) -> Spec:
    errors = {status: _ref(f"Error{status}", "responses") for status in (400, *statuses, 500)}
    return {200: {"description": "Done", "content": answer}} | errors


def _json(schema: Spec) -> Spec:
    return {"application/json": {"schema": schema}}


def _object(optional: list[str] | None = None, /, **properties: Spec) -> Spec:
    required = [name for name in properties if name not in (optional or ())]
    return OBJECT | {"properties": properties, "required": required, "additionalProperties": False}


def _ref(name: str, kind: str = "schemas") -> Spec:
    return {"$ref": f"#/components/{kind}/{name}"}
