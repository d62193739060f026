"""Describe the API in OpenAPI, from the schemas, the table of error codes and the URL map."""

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin

import schemas
from errors import CODES

INTRODUCTION = """\
200 means: committed to the log, on disk. Anything else means: send it again. Sent again with the same messageId, an \
event is stored once. A trailing slash makes no difference, nor does the Content-Type of a request, and its \
Content-Encoding may be gzip. Another path is answered with 404, another method with 405."""

BASIC = "Basic base64(SOURCE_ID:)"
KEYS = {
    "Authorization": {"type": "http", "scheme": "basic", "description": BASIC},
    "Authentication": {"type": "apiKey", "in": "header", "name": "Authentication", "description": BASIC},
    "writeKey": {"type": "apiKey", "in": "query", "name": "writeKey", "description": "SOURCE_ID"},
}
HEADER_OR_BODY = [{"Authorization": []}, {"Authentication": []}, {}]
HEADER_QUERY_OR_BODY = [{"writeKey": []}, *HEADER_OR_BODY]

STRING, OBJECT, COUNT, TRUE = {"type": "string"}, {"type": "object"}, {"type": "integer", "minimum": 0}, {"const": True}
TEXT, SCALAR = {"type": ["string", "null"]}, {"type": ["string", "number", "null"]}
# What each kind of field takes.
TYPES = {
    schemas.Id: SCALAR,
    schemas.Text: TEXT,
    schemas.EventName: TEXT,
    schemas.Object: {"type": ["object", "array", "null"], "maxItems": 0},
    schemas.Time: SCALAR | {"format": "date-time"},
    schemas.Type: TEXT,
    schemas.Items: {"type": ["array"], "minItems": 1},
}
# What a body may hold beside, for which it is never refused.
BESIDE = {
    "sentAt": {"description": "The sender's clock when it sent; ignored if it cannot be read."},
    "writeKey": {"description": "The Source ID, where no header names it; never stored."},
}
# What is answered where no event is taken.
PLAIN = {
    "client_metrics.client_metrics": {"success": TRUE},
    "ops.healthz": {"status": {"const": "ok"}},
    "ops.readyz": {"status": {"const": "ready"}},
    "ops.openapi": {"openapi": STRING, "info": OBJECT, "paths": OBJECT, "components": OBJECT},
}


def describe(app):
    """Return the OpenAPI document of the application, a dict."""
    plugin = MarshmallowPlugin()
    spec = APISpec("tracklog", "1", "3.1.0", plugins=[plugin], info={"description": INTRODUCTION})
    plugin.converter.add_attribute_function(_type)
    for name, scheme in KEYS.items():
        spec.components.security_scheme(name, scheme)
    for name, schema in (_bodies(plugin.converter) | _answers()).items():
        spec.components.schema(name, schema)
    for status in sorted({status for status, _ in CODES.values()}):
        spec.components.response(f"Error{status}", _refused(status))
    for rule in app.url_map.iter_rules():
        methods = {method.lower() for method in rule.methods - {"HEAD", "OPTIONS"}}
        if methods:
            operation = _operation(rule.endpoint, app.view_functions[rule.endpoint].__doc__)
            spec.path(rule.rule.replace("<type>", "{type}"), operations=dict.fromkeys(methods, operation))
    return spec.to_dict()


def _type(converter, field, **_):
    return TYPES[type(field)] | {"description": type(field).__doc__}


def _bodies(converter):
    calls = {_name(call): _body(converter, call) for call in schemas.CALLS.values()}
    batch = _body(converter, schemas.BATCH)
    batch["properties"]["batch"]["items"] = _ref("Item")
    return calls | {"Item": {"anyOf": [_ref(name) for name in calls], "required": ["type"]}, "Batch": batch}


def _body(converter, schema):
    body = converter.schema2jsonschema(schema) | {"required": sorted(schema.required), "additionalProperties": True}
    body["properties"] |= BESIDE
    for field in map(body["properties"].get, schema.required):
        field |= {"type": [type for type in field["type"] if type != "null"], "minLength": 1}
    if isinstance(schema, schemas.UserCall):
        body["anyOf"] = [{"required": ["userId"]}, {"required": ["anonymousId"]}]
    return body


def _answers():
    codes = "\n".join(f"- `{code}`: {message}" for code, (_, message) in CODES.items())
    errors = {"type": "array", "maxItems": 100, "items": _ref("FieldError")}
    refusal = {"code": _ref("Code"), "message": STRING, "errors": errors}
    judged = dict.fromkeys(("received", "stored", "duplicates", "rejectedCount"), COUNT)
    judged["rejected"] = {"type": "array", "maxItems": 1000, "items": _ref("Rejected")}
    return {
        "Code": STRING | {"enum": list(CODES), "description": codes},
        "FieldError": _object(field=STRING, code=_ref("Code"), message=STRING),
        "Receipt": _object(["duplicate"], success=TRUE, messageId=STRING, duplicate=TRUE),
        "BatchReceipt": _object(success=TRUE, **judged),
        "Verdict": _object(success=TRUE, valid={"type": "boolean"}, errors=errors),
        "Rejected": _object(index=COUNT, messageId=TEXT, **refusal | {"errors": errors | {"maxItems": 10}}),
        "Refusal": _object(judged, success={"const": False}, **refusal, **judged),
    }


def _refused(status):
    codes = [code for code, (each, _) in CODES.items() if each == status]
    schema = {"allOf": [_ref("Refusal"), {"properties": {"code": {"enum": codes}}}]}
    headers = {"Retry-After": {"schema": COUNT, "description": "seconds"}} if status == 503 else {}
    return _json("Refused: " + ", ".join(codes), schema) | {"headers": headers}


def _operation(endpoint, doc):
    """Return what is sent to a view, and what it answers."""
    blueprint = endpoint.partition(".")[0]
    operation = {"summary": doc.partition("\n")[0], "tags": [blueprint]}
    if blueprint in schemas.CALLS:
        return operation | _posted(_ref(_name(schemas.CALLS[blueprint])), "Receipt", HEADER_OR_BODY)
    if blueprint == "batch":
        return operation | _posted(_ref("Batch"), "BatchReceipt", HEADER_QUERY_OR_BODY)
    if blueprint == "validate":
        return operation | _posted({"anyOf": [_ref("Item"), _ref("Batch")]}, "Verdict", HEADER_QUERY_OR_BODY)
    if blueprint == "pixel":
        return operation | _pixel()
    if endpoint == "ops.metrics":
        text = {"description": "In Prometheus' text format", "content": {"text/plain": {"schema": STRING}}}
        return operation | {"security": [], "responses": _responses(STRING) | {200: text}}
    answer = OBJECT | {"properties": PLAIN[endpoint], "required": list(PLAIN[endpoint])}
    statuses = [503] if endpoint == "ops.readyz" else []
    return operation | {"security": [], "responses": _responses(answer, *statuses)}


def _posted(body, answer, keys):
    body = {"required": True, "content": {"application/json": {"schema": body}}}
    return {"requestBody": body, "security": keys, "responses": _responses(_ref(answer), 401, 503)}


def _pixel():
    """Return the same for the pixel, whose every answer is a picture but those to what never reaches it."""
    call = {"in": "path", "name": "type", "required": True, "schema": STRING | {"enum": list(schemas.CALLS)}}
    data = {"in": "query", "name": "data", "schema": STRING, "description": "base64 of the event's JSON"}
    flat = {"in": "query", "name": "fields", "schema": OBJECT | {"additionalProperties": STRING}}
    flat["description"] = "Or each field a parameter, whose dots lead into objects: properties.subject=Hello"
    picture = {"description": "The status tells", "content": {"image/gif": {}}}
    answers = dict.fromkeys((200, 401, 500, 503), picture) | {404: "Error404"}
    answers[400] = {"description": "Refused", "content": picture["content"] | _json("", _ref("Refusal"))["content"]}
    return {"parameters": [call, data, flat], "security": HEADER_QUERY_OR_BODY, "responses": answers}


def _responses(answer, *statuses):
    return {200: _json("Done", answer)} | {status: f"Error{status}" for status in (400, *statuses, 500)}


def _json(description, schema):
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _object(optional=(), /, **properties):
    required = [name for name in properties if name not in optional]
    return OBJECT | {"properties": properties, "required": required, "additionalProperties": False}


def _name(schema):
    return type(schema).__name__


def _ref(name):
    return {"$ref": f"#/components/schemas/{name}"}
