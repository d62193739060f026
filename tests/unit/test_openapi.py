"""The OpenAPI document is valid, and names all that there is."""

import openapi_spec_validator
import pytest

import errors
import schemas

ALL = [*schemas.CALLS.values(), schemas.BATCH]


@pytest.fixture
def document(client):
    """The document, as a client gets it."""
    return client.get("/openapi.json").json


def test_the_document_is_valid(document):
    openapi_spec_validator.validate(document)


def test_it_is_made_once(client, monkeypatch):
    first = client.get("/openapi.json").data
    monkeypatch.setattr("routes.ops.describe", None)
    assert client.get("/openapi.json").data == first


def test_every_route_is_described_with_its_methods(app, document):
    served = {}
    for rule in app.url_map.iter_rules():
        if rule.endpoint != "preflight":
            methods = {method.lower() for method in rule.methods - {"HEAD", "OPTIONS"}}
            served.setdefault(rule.rule.replace("<type>", "{type}"), set()).update(methods)
    assert {path: set(operations) for path, operations in document["paths"].items()} == served


def operations(document):
    return [(path, each) for path, methods in document["paths"].items() for each in methods.values()]


def test_every_operation_has_a_summary_and_its_shapes(document):
    for path, operation in operations(document):
        assert operation["summary"].endswith("."), path
        assert {"200", "400", "500"} <= set(operation["responses"]), path
        (content,) = operation["responses"]["200"]["content"].items()
        assert content[0] == "image/gif" or content[1]["schema"], path


def test_what_takes_events_says_how_to_authenticate_and_that_a_log_can_be_out_of_reach(document):
    for path, operation in operations(document):
        takes_events = path.startswith(("/v1/", "/beacon/")) and path != "/v1/m"
        assert ("401" in operation["responses"]) is takes_events, path
        assert ("503" in operation["responses"]) is (takes_events or path == "/readyz"), path
        keys = {name for names in operation["security"] for name in names}
        assert keys == ({"Authorization", "Authentication", "writeKey"} if takes_events else set()), path
        assert "requestBody" in operation or "parameters" in operation or not takes_events, path


@pytest.mark.parametrize("schema", ALL, ids=lambda schema: type(schema).__name__)
def test_every_field_of_a_schema_is_described_and_what_is_required_is(document, schema):
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


def test_every_reference_leads_somewhere(document):
    def references(value):
        if isinstance(value, dict):
            yield from [value["$ref"]] if "$ref" in value else []
            value = list(value.values())
        for each in value if isinstance(value, list) else []:
            yield from references(each)

    for reference in set(references(document)):
        _, _, kind, name = reference.split("/")
        assert name in document["components"][kind]
