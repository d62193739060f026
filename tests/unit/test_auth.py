"""Find out which source is calling."""

import base64
import json

import pytest
from factories import TRACK


def token(text):
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


@pytest.mark.parametrize(
    "value",
    [
        "Basic SUxvdmVEYXRhMTIz",  # as on the API's own page, without a colon
        f"Basic {token('ILoveData123:')}",
        f"Basic {token('ILoveData123:password')}",
        "basic SUxvdmVEYXRhMTIz",
        "BASIC   SUxvdmVEYXRhMTIz  ",
    ],
)
@pytest.mark.parametrize("header", ["Authorization", "Authentication"])
def test_both_headers_are_read_in_every_spelling(post, header, value):
    assert post("/v1/track", TRACK, **{"Authentication": None, header: value})[0] == 200


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Basic",
        "Basic ",
        "Bearer SUxvdmVEYXRhMTIz",  # which in Authorization leads to the next place
        "SUxvdmVEYXRhMTIz",
        "Basic SUxvdmVEYXRhMTI",  # cut
        "Basic SUxv dmVEYXRhMTIz",
        "Basic SUxvdmVEYXRhMTIz,Basic SUxvdmVEYXRhMTIz",
        "Basic \xe9\xe9\xe9\xe9",
        f"Basic {token(':password')}",
        f"Basic {token('  :')}",
        f"Basic {token(b'caf' + bytes([0xE9]) + b':')}",
        f"Basic {token('ILove' + chr(0) + 'Data123')}",
    ],
)
def test_a_malformed_header_is_rejected_and_not_skipped(post, value):
    status, answer = post("/v1/track", TRACK | {"writeKey": "ILoveData123"}, Authentication=value)
    assert (status, answer["code"]) == (401, "invalid_authorization")


def test_only_the_scheme_is_removed_from_the_header(post, log):
    """A client once lost its id's first letters to lstrip("Basic ")."""
    log.sources.add("letters", "Basic source")
    assert post("/v1/track", TRACK, Authentication=f"Basic {token('Basic source')}")[0] == 200


def test_the_key_is_taken_from_the_first_place_that_has_one(post, log, query):
    """Authorization comes before Authentication, and both come before the body."""
    log.sources.add("other", "Other")
    post("/v1/track", TRACK | {"writeKey": "Nobody"}, Authorization=f"Basic {token('Other:')}")
    post("/v1/track", TRACK | {"writeKey": "Nobody"})
    assert query("SELECT source FROM events ORDER BY id") == [("other",), ("example",)]
    status, answer = post("/v1/track", TRACK, Authorization="Basic ???")
    assert (status, answer["code"]) == (401, "invalid_authorization")


def test_a_write_key_in_the_body_is_read_and_not_stored(post, query):
    assert post("/v1/track", TRACK | {"writeKey": "ILoveData123"}, Authentication=None)[0] == 200
    batch = {"writeKey": "ILoveData123", "batch": [TRACK | {"type": "track", "writeKey": "ILoveData123"}]}
    assert post("/v1/batch", batch, Authentication=None)[0] == 200
    items = {"batch": [TRACK | {"type": "track", "writeKey": "ILoveData123"}] * 2}
    assert post("/v1/batch", items, Authentication=None)[1]["stored"] == 2
    assert query("SELECT count(*) FROM events WHERE payload LIKE '%ILoveData123%'") == [(0,)]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({**TRACK, "writeKey": None}, "missing_write_key"),
        ({**TRACK, "writeKey": ""}, "invalid_authorization"),
        ({**TRACK, "writeKey": 5}, "invalid_authorization"),
        ({**TRACK, "writeKey": "\ud800"}, "invalid_authorization"),
        ({**TRACK, "writeKey": "Nobody"}, "unknown_source"),
        ([], "missing_write_key"),
        ("text", "missing_write_key"),
        ({"batch": [{"writeKey": "ILoveData123"}]}, "missing_write_key"),  # only items of a batch may have it
    ],
)
def test_a_body_without_a_valid_key_is_rejected(post, body, code):
    status, answer = post("/v1/track", json.dumps(body), Authentication=None)
    assert (status, answer["code"]) == (401, code)


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        (["ILoveData123", None], "missing_write_key"),
        (["ILoveData123", "Other"], "invalid_authorization"),
        ([], "missing_write_key"),
    ],
)
def test_the_items_of_a_batch_must_agree_on_the_key(post, keys, code):
    batch = [TRACK | {"type": "track", "writeKey": key} for key in keys]
    status, answer = post("/v1/batch", {"batch": batch}, Authentication=None)
    assert (status, answer["code"]) == (401, code)
