"""The OpenAPI document is valid and complete."""

import re

import openapi_spec_validator
import pytest

import errors
import schemas

ALL = [*schemas.CALLS.values(), schemas.BATCH]


@pytest.fixture
def document(client):
    """The document that a client gets."""
    return client.get("/openapi.json").json


def test_the_document_is_valid(document):
    openapi_spec_validator.validate(document)


def test_the_document_is_made_once(client, monkeypatch):
    first = client.get("/openapi.json").data
    monkeypatch.setattr("routes.ops.describe", None)
    assert client.get("/openapi.json").data == first


def test_every_route_is_described_with_its_methods(app, document):
    served = {}
    for rule in app.url_map.iter_rules():
        if rule.endpoint != "preflight":
            methods = {method.lower() for method in rule.methods - {"HEAD", "OPTIONS"}}
            served.setdefault(re.sub(r"<(?:path:)?(\w+)>", r"{\1}", rule.rule), set()).update(methods)
    assert {path: set(operations) for path, operations in document["paths"].items()} == served


def operations(document):
    return [(path, each) for path, methods in document["paths"].items() for each in methods.values()]


def test_every_operation_has_a_summary_and_its_shapes(document):
    for path, operation in operations(document):
        assert operation["summary"].endswith("."), path
        assert {"200", "400", "500"} <= set(operation["responses"]), path
        (content,) = operation["responses"]["200"]["content"].items()
        assert content[0] == "image/gif" or content[1]["schema"], path


def test_every_route_for_events_has_keys_401_and_503(document):
    for path, operation in operations(document):
        takes_events = path.startswith(("/v1/", "/beacon/")) and operation["tags"] not in (
            ["client_metrics"],
            ["settings"],
        )
        assert ("401" in operation["responses"]) is takes_events, path
        assert ("503" in operation["responses"]) is (
            takes_events or operation["tags"] == ["settings"] or path == "/readyz"
        ), path
        keys = {name for names in operation["security"] for name in names}
        assert keys == ({"Authorization", "Authentication", "writeKey"} if takes_events else set()), path
        assert "requestBody" in operation or "parameters" in operation or not takes_events, path


@pytest.mark.parametrize("schema", ALL, ids=lambda schema: type(schema).__name__)
def test_every_field_of_a_schema_is_described(document, schema):
    described = document["components"]["schemas"][type(schema).__name__]
    assert set(described["properties"]) == set(schema.fields) | {"sentAt", "writeKey"}
    assert all(each["description"] for each in described["properties"].values())
    assert set(described["required"]) == set(schema.required)


def test_every_code_is_in_the_table_and_at_its_status(document):
    code = document["components"]["schemas"]["Code"]
    assert code["enum"] == list(errors.CODES)
    for name, (status, message) in errors.CODES.items():
        assert message in code["description"]
        assert name in document["components"]["responses"][f"Error{status}"]["description"]


def test_a_batch_is_a_list_of_any_calls(document):
    described = document["components"]["schemas"]
    assert described["Batch"]["properties"]["batch"]["items"] == {"$ref": "#/components/schemas/Item"}
    assert [each["$ref"].rpartition("/")[2].lower() for each in described["Item"]["anyOf"]] == list(schemas.CALLS)


def test_every_reference_has_a_target(document):
    def references(value):
        if isinstance(value, dict):
            yield from [value["$ref"]] if "$ref" in value else []
            value = list(value.values())
        for each in value if isinstance(value, list) else []:
            yield from references(each)

    for reference in set(references(document)):
        _, _, kind, name = reference.split("/")
        assert name in document["components"][kind]
