"""The schemas are plain marshmallow: `load` validates, normalizes and keeps the sender's order."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from marshmallow import ValidationError

import schemas

CALL = {"type": "Track", "userId": 1234, "event": "Added File", "timestamp": None, "properties": []}


def errors_of(schema, value):
    with pytest.raises(ValidationError) as refusal:
        schema.load(value)
    return refusal.value.messages


def test_load_returns_a_valid_call_normalized():
    assert schemas.Track().load(CALL) == {"type": "track", "userId": "1234", "event": "Added File", "properties": {}}


def test_load_keeps_unknown_fields_as_sent():
    unknown = {"plan": None, "empty": "", "list": [1]}
    assert schemas.Track().load(CALL | unknown).items() >= unknown.items()


def test_load_reports_every_error_as_a_code():
    value = {"event": " ", "properties": 1, "context": 2, "timestamp": "x"}
    assert errors_of(schemas.Track(), value) == {
        "userId": ["id_required"],
        "properties": ["properties_not_object"],
        "context": ["context_not_object"],
        "timestamp": ["timestamp_invalid"],
    }


@pytest.mark.parametrize("absent", [None, "", " "])
def test_a_blank_required_id_is_absent(absent):
    assert errors_of(schemas.Group(), {"userId": "1", "groupId": absent}) == {"groupId": ["group_id_required"]}


def test_an_invalid_id_is_not_missing_too():
    assert errors_of(schemas.Page(), {"userID": True}) == {"userId": ["id_not_string"]}


@pytest.mark.parametrize("value", [None, 1, "x", []])
def test_load_rejects_other_values_than_objects(value):
    assert errors_of(schemas.Track(), value) == {"_schema": ["event_not_object"]}


def test_load_accepts_many():
    assert len(schemas.Track().load([CALL, CALL], many=True)) == 2


def test_load_keeps_the_senders_order_in_every_process():
    names = ["zulu", "userId", *(f"unknown{number * 7 % 20}" for number in range(20)), "event", "alpha"]
    program = "import json, sys, schemas; print(json.dumps(schemas.Track().load(json.load(sys.stdin))))"
    for seed in ("1", "2"):
        loaded = subprocess.run(
            [sys.executable, "-c", program],
            input=json.dumps(dict.fromkeys(names, "x")),
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=Path(schemas.__file__).parent,
            capture_output=True, text=True, check=True, timeout=60,
        ).stdout  # fmt: skip
        assert list(json.loads(loaded)) == names
