"""Describe the API in OpenAPI, from the schemas, the table of error codes and the URL map."""

from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from flask import Flask
from marshmallow import Schema
from marshmallow.fields import Field

import schemas
from errors import CODES

INTRODUCTION = """\
200 means: committed to the log, on disk. Anything else means: send it again. An event that is sent again with the \
same messageId is stored once. A trailing slash makes no difference, nor does the Content-Type of a request. Its \
Content-Encoding may be gzip. Unknown paths are answered with 404, wrong methods with 405."""

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
    plugin = MarshmallowPlugin()
    spec = APISpec("tracklog", "1", "3.1.0", plugins=[plugin], info={"description": INTRODUCTION})
    converter = plugin.converter
    assert converter is not None  # the line before has set it
    converter.add_attribute_function(_describe_field)
    for name, scheme in KEYS.items():
        spec.components.security_scheme(name, scheme)
    for name, schema in (_bodies(converter) | _answers()).items():
        spec.components.schema(name, schema)
    for status in sorted({status for status, _ in CODES.values()}):
        spec.components.response(f"Error{status}", _error_response(status))
    operations = _operations()
    for rule in app.url_map.iter_rules():
        methods = {method.lower() for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}}
        if methods:
            summary = (app.view_functions[rule.endpoint].__doc__ or "").partition("\n")[0]
            operation = {"summary": summary, "tags": [rule.endpoint.partition(".")[0]]} | operations[rule.endpoint]
            spec.path(rule.rule.replace("<type>", "{type}"), operations=dict.fromkeys(methods, operation))
    return spec.to_dict()


def _describe_field(converter: OpenAPIConverter, field: Field[Any], **_: object) -> Spec:
    return FIELD_TYPES[type(field)] | {"description": type(field).__doc__}


def _bodies(converter: OpenAPIConverter) -> Spec:
    calls = {_name(call): _body(converter, call) for call in schemas.CALLS.values()}
    batch = _body(converter, schemas.BATCH)
    batch["properties"]["batch"]["items"] = _ref("Item")
    return calls | {"Item": {"anyOf": [_ref(name) for name in calls], "required": ["type"]}, "Batch": batch}


def _body(converter: OpenAPIConverter, schema: Any) -> Spec:
    body: Spec = converter.schema2jsonschema(schema) | {
        "required": sorted(schema.required),
        "additionalProperties": True,
    }
    body["properties"] |= COMMON_FIELDS
    for field in map(body["properties"].get, schema.required):
        field |= {"type": [type for type in field["type"] if type != "null"], "minLength": 1}
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
    return _json("Refused: " + ", ".join(codes), schema) | {"headers": ERROR_HEADERS.get(status, {})}


def _operations() -> dict[str, Spec]:
    """Return the request and the answers of each endpoint."""
    calls = {f"{name}.{name}": _posted(_ref(_name(call)), "Receipt") for name, call in schemas.CALLS.items()}
    item_or_batch = {"anyOf": [_ref("Item"), _ref("Batch")]}
    text = {"description": "In Prometheus' text format", "content": {"text/plain": {"schema": STRING}}}
    document = {"openapi": STRING, "info": OBJECT, "paths": OBJECT, "components": OBJECT}
    return calls | {
        "batch.batch": _posted(_ref("Batch"), "BatchReceipt"),
        "validate.validate": _posted(item_or_batch, "Verdict"),
        "pixel.pixel": _pixel(),
        "client_metrics.client_metrics": _open(_partial(success=TRUE)),
        "ops.healthz": _open(_partial(status={"const": "ok"})),
        "ops.readyz": _open(_partial(status={"const": "ready"}), 503),
        "ops.metrics": {"security": [], "responses": _responses(STRING) | {200: text}},
        "ops.openapi": _open(_partial(**document)),
    }


def _posted(body: Spec, answer: str) -> Spec:
    """Return the operation of an endpoint that takes events; the answer is a schema's name."""
    body = {"required": True, "content": {"application/json": {"schema": body}}}
    return {"requestBody": body, "security": KEY_OR_BODY, "responses": _responses(_ref(answer), 401, 503)}


def _open(answer: Spec, *statuses: int) -> Spec:
    """Return the operation of an endpoint that needs no key."""
    return {"security": [], "responses": _responses(answer, *statuses)}


def _pixel() -> Spec:
    """Return the operation of the pixel. It answers with a picture, also if it refuses the event."""
    call = {"in": "path", "name": "type", "required": True, "schema": STRING | {"enum": list(schemas.CALLS)}}
    data = {"in": "query", "name": "data", "schema": STRING, "description": "base64 of the event's JSON"}
    flat = {"in": "query", "name": "fields", "schema": OBJECT | {"additionalProperties": STRING}}
    flat["description"] = "Or one parameter per field; dots lead into objects: properties.subject=Hello"
    picture: Spec = {"description": "The status tells the result", "content": {"image/gif": {}}}
    answers = dict.fromkeys((200, 401, 500, 503), picture) | {404: "Error404"}
    answers[400] = {"description": "Refused", "content": picture["content"] | _json("", _ref("Refusal"))["content"]}
    return {"parameters": [call, data, flat], "security": KEY_OR_BODY, "responses": answers}


def _responses(answer: Spec, *statuses: int) -> Spec:
    return {200: _json("Done", answer)} | {status: f"Error{status}" for status in (400, *statuses, 500)}


def _json(description: str, schema: Spec) -> Spec:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _partial(**properties: Spec) -> Spec:
    return OBJECT | {"properties": properties, "required": list(properties)}


def _object(optional: list[str] | None = None, /, **properties: Spec) -> Spec:
    required = [name for name in properties if name not in (optional or ())]
    return OBJECT | {"properties": properties, "required": required, "additionalProperties": False}


def _name(schema: Schema) -> str:
    return type(schema).__name__


def _ref(name: str) -> Spec:
    return {"$ref": f"#/components/schemas/{name}"}
