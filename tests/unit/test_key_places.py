"""The key may be in a header, in the query, or in the body, and the first place that has one decides."""

import base64
import json

import pytest

KEY = "ILoveData123"
EVENT = {"userId": "1", "event": "Added File"}
ITEM = EVENT | {"type": "track"}
CALLS = {
    "identify": {"userId": "1"},
    "track": EVENT,
    "page": {"userId": "1"},
    "screen": {"userId": "1"},
    "group": {"userId": "1", "groupId": "5"},
    "alias": {"userId": "1", "previousId": "0"},
}


def basic(text):
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.fixture
def send(client):
    """Post without a key but what is given. Return the status, and the code of a refusal."""

    def send(url, body, **headers):
        body = body if isinstance(body, (bytes, str)) else json.dumps(body)
        response = client.post(url, data=body, headers=headers)
        return response.status_code, response.json.get("code")

    return send


@pytest.fixture
def other(log):
    log.sources.add("other", "OtherKey")


def body_for(rule):
    name = rule.rpartition("/")[2]
    call = next((call for each, call in CALLS.items() if name in (each, each[0])), None)
    return call or {"batch": [ITEM]}


def test_the_query_names_the_source_on_every_route(app, send, query):
    rules = [rule.rule for rule in app.url_map.iter_rules() if "POST" in rule.methods and rule.rule != "/v1/m"]
    assert len(rules) >= 17
    for rule in rules:
        assert send(f"{rule}?writeKey={KEY}", body_for(rule)) == (200, None), rule
        assert send(f"{rule}?x=1&writeKey={KEY}&y", body_for(rule)) == (200, None), rule
        assert send(f"{rule}/?writeKey={KEY}", body_for(rule)) == (200, None), rule
        assert send(f"{rule}?writekey={KEY}", body_for(rule)) == (401, "missing_write_key"), rule
    assert query("SELECT count(*) FROM events") == [((len(rules) - 1) * 3,)]  # /v1/validate stores nothing
    assert query("SELECT count(*) FROM events WHERE payload LIKE '%ILove%'") == [(0,)]


@pytest.mark.parametrize("key", ["", "%20", "a%00b", "%0a", "a%E2%80%A8b"])
@pytest.mark.parametrize("url", ["/v1/track", "/v1/batch", "/v1/validate"])
def test_a_malformed_key_in_the_query_is_refused_and_not_skipped(send, url, key):
    body = body_for(url) | {"writeKey": KEY, "type": "track"}
    assert send(f"{url}?writeKey={key}", body) == (401, "invalid_authorization")


@pytest.mark.parametrize("key", ["Nobody", "%ff", "\xff", "%", "%C3%28", "ILoveData123%3A"])
def test_an_unknown_key_in_the_query_is_refused_and_not_skipped(send, key):
    assert send(f"/v1/track?writeKey={key}", EVENT | {"writeKey": KEY})[0] == 401


@pytest.mark.parametrize(
    "rest", ["%", "&&&=", "writeKe%79", "a=\xff", "%ff=%fe", "=" * 4000, "&" * 4000, "a=b;c", "?writeKey=ILoveData123"]
)
def test_an_odd_query_without_a_key_leads_to_the_body(send, rest):
    assert send(f"/v1/track?{rest}", EVENT | {"writeKey": KEY})[0] == (401 if rest == "writeKe%79" else 200)


OTHER_SCHEMES = [
    "Bearer SUxvdmVEYXRhMTIz",
    "bearer x.y.z",
    "Bearer",
    'Digest username="x", realm="y"',
    "Negotiate abcd==",
    "AWS4-HMAC-SHA256 Credential=x/y, SignedHeaders=host, Signature=z",
    "Token token=abc",
    "Basics SUxvdmVEYXRhMTIz",
    "Basic-ish SUxvdmVEYXRhMTIz",
    "SUxvdmVEYXRhMTIz",
    "Bearer \xe9",
    "Bearer x, Basic T3RoZXJLZXk=",
]


@pytest.mark.parametrize("value", OTHER_SCHEMES)
def test_another_scheme_in_authorization_leads_to_the_next_place(send, query, other, value):
    header = {"Authorization": value}
    assert send("/v1/track", EVENT, **header, Authentication=basic("ILoveData123:")) == (200, None)
    assert send(f"/v1/track?writeKey={KEY}", EVENT, **header) == (200, None)
    assert send("/v1/track", EVENT | {"writeKey": KEY}, **header) == (200, None)
    assert send("/v1/batch", {"secret": KEY, "batch": [ITEM]}, **header) == (200, None)
    assert send("/v1/batch", {"batch": [ITEM | {"writeKey": KEY}]}, **header) == (200, None)
    assert query("SELECT source, count(*) FROM events GROUP BY source") == [("example", 5)]
    assert send("/v1/track", EVENT, **header, Authentication="Basic ???") == (401, "invalid_authorization")
    assert send("/v1/track?writeKey=Nobody", EVENT | {"writeKey": KEY}, **header) == (401, "unknown_source")


@pytest.mark.parametrize("value", OTHER_SCHEMES)
@pytest.mark.parametrize("url", ["/v1/track", "/v1/batch", "/v1/validate"])
def test_another_scheme_without_a_key_elsewhere_is_an_invalid_authorization(send, url, value):
    assert send(url, body_for(url), Authorization=value) == (401, "invalid_authorization")


@pytest.mark.parametrize("value", ["", " ", "Basic", "basic ", "Basic ???", "BASIC Og==", "Basic\tx", "Basic é"])
def test_a_malformed_basic_authorization_is_refused_and_not_skipped(send, value):
    places = {"Authorization": value.encode().decode("latin-1"), "Authentication": basic(KEY)}
    assert send(f"/v1/track?writeKey={KEY}", EVENT | {"writeKey": KEY}, **places) == (401, "invalid_authorization")


@pytest.mark.parametrize("value", ["", "Bearer SUxvdmVEYXRhMTIz", "Digest x", "SUxvdmVEYXRhMTIz", "Bearer"])
def test_a_malformed_authentication_is_refused_whatever_its_scheme(send, value):
    body = EVENT | {"writeKey": KEY}
    assert send(f"/v1/track?writeKey={KEY}", body, Authentication=value) == (401, "invalid_authorization")


def test_the_first_place_with_a_key_decides(send, query, other):
    places = [("Authorization", basic(KEY)), ("Authentication", basic(KEY)), ("query", KEY), ("body", KEY)]
    for number, (first, key) in enumerate(places):
        headers = {name: "Basic Tm9ib2R5" for name, _ in places[number + 1 :] if name.startswith("Auth")}
        if first.startswith("Auth"):
            headers[first] = key
        in_query = {"query": KEY}.get(first, "Nobody")
        url = "/v1/track" if first == "body" else f"/v1/track?writeKey={in_query}"
        written = KEY if first == "body" else "Nobody"
        assert send(url, EVENT | {"writeKey": written, "secret": "Nobody"}, **headers) == (200, None), first
    assert query("SELECT source, count(*) FROM events GROUP BY source") == [("example", 4)]


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("/v1/track", {"Authorization": "Basic Tm9ib2R5"}),
        ("/v1/track", {"Authentication": "Basic Tm9ib2R5"}),
        ("/v1/track", {"Authentication": "Bearer x"}),
        ("/v1/track?writeKey=Nobody", {}),
        ("/v1/batch?writeKey=", {"Authorization": "Bearer x"}),
    ],
)
def test_a_wrong_key_in_a_header_or_the_query_is_answered_before_the_body_is_read(app, url, headers):
    class Unread:
        def read(self, *_):
            raise AssertionError("the body was read")

    environ = {"wsgi.input": Unread(), "CONTENT_LENGTH": "10"}
    assert app.test_client().post(url, headers=headers, environ_overrides=environ).status_code == 401


@pytest.mark.parametrize(
    ("envelope", "items", "source"),
    [
        ({"writeKey": KEY}, [{}], "example"),
        ({"secret": KEY}, [{}], "example"),
        ({}, [{"secret": KEY}] * 2, "example"),
        ({"secret": KEY}, [{"secret": KEY}] * 2, "example"),  # as analytics-php does
        ({"writeKey": KEY, "secret": "OtherKey"}, [{}], "example"),
        ({"writeKey": None, "secret": KEY}, [{}], "example"),
        ({"writeKey": KEY}, [{"writeKey": "OtherKey"}, {"secret": "OtherKey"}], "example"),
        ({"secret": "OtherKey"}, [{"writeKey": KEY}] * 2, "example"),
        ({"secret": "hush"}, [{"writeKey": KEY, "secret": "hush"}] * 2, "example"),
        ({"secret": KEY}, [{"writeKey": "OtherKey"}, {}], "example"),
        ({}, [{"writeKey": KEY, "secret": "OtherKey"}], "example"),
        ({}, [{"writeKey": KEY}, {"secret": KEY}], "example"),
        ({}, [{"writeKey": None, "secret": KEY}, {"writeKey": KEY, "secret": "hush"}], "example"),
        ({}, [{"writeKey": KEY}, {"secret": "OtherKey"}], "invalid_authorization"),
        ({}, [{"secret": KEY}, {"secret": "OtherKey"}], "invalid_authorization"),
        ({}, [{"secret": KEY}, {}], "missing_write_key"),
        ({}, [{"writeKey": KEY}, {}], "missing_write_key"),
        ({}, [{"secret": KEY}, 5], "missing_write_key"),
        ({"secret": None}, [{"secret": None}], "missing_write_key"),
        ({"secret": "Nobody"}, [{}], "unknown_source"),
        ({"writeKey": "Nobody", "secret": KEY}, [{}], "unknown_source"),
        ({"writeKey": "", "secret": KEY}, [{}], "invalid_authorization"),
        ({"writeKey": 5, "secret": KEY}, [{}], "invalid_authorization"),
        ({"secret": ""}, [{}], "invalid_authorization"),
        ({"secret": {"a": 1}}, [{"secret": KEY}], "invalid_authorization"),
        ({}, [{"secret": ["x"]}], "invalid_authorization"),
    ],
)
@pytest.mark.parametrize("url", ["/v1/batch", "/v1/import", "/v1/b", "/beacon/v1/batch", "/v1/validate"])
def test_a_batch_has_its_key_at_the_top_or_in_every_item(send, query, other, url, envelope, items, source):
    batch = [ITEM | item if isinstance(item, dict) else item for item in items]
    status, code = send(url, envelope | {"batch": batch})
    if source == "example":
        stored = 0 if url == "/v1/validate" else len(items)
        assert (status, code) == (200, None)
        assert query("SELECT count(*) FROM events WHERE source = 'example'") == [(stored,)]
        assert query("SELECT count(*) FROM events WHERE payload LIKE '%ILove%'") == [(0,)]
    else:
        assert (status, code) == (401, source)
        assert query("SELECT count(*) FROM rejected") == [(0,)]


def test_a_single_call_may_have_its_key_in_secret(send, stored):
    for name, call in CALLS.items():
        assert send(f"/v1/{name}", call | {"secret": KEY}) == (200, None)
        assert send("/v1/validate", call | {"secret": KEY, "type": name}) == (200, None)
    assert len(stored()) == len(CALLS)
    assert not any("secret" in event for event in stored())


@pytest.mark.parametrize("secret", ["hush", "", 5, None, {"a": 1}, ["ILoveData123"], "OtherKey", "ILoveData123 ", " "])
@pytest.mark.parametrize("place", ["header", "query", "body"])
def test_a_modern_senders_secret_is_stored_as_it_is(client, stored, other, place, secret):
    headers = {"Authorization": basic(KEY)} if place == "header" else {}
    url = f"?writeKey={KEY}" if place == "query" else ""
    event = ITEM | {"secret": secret} | ({"writeKey": KEY} if place == "body" else {})
    for path, body in (("/v1/track", event), ("/v1/batch", {"batch": [event]})):
        assert client.post(path + url, json=body, headers=headers).status_code == 200
    assert [event["secret"] for event in stored()] == [secret] * 2


@pytest.mark.parametrize("place", ["header", "query", "body"])
def test_a_secret_that_is_the_sources_key_is_never_stored(client, query, place):
    headers = {"Authorization": basic(KEY)} if place == "header" else {}
    url = f"?writeKey={KEY}" if place == "query" else ""
    event = ITEM | {"secret": KEY} | ({"writeKey": KEY} if place == "body" else {})
    for path, body in (("/v1/track", event), ("/v1/batch", {"batch": [event, event]})):
        assert client.post(path + url, json=body, headers=headers).status_code == 200
    assert query("SELECT count(*) FROM events") == [(3,)]
    assert query("SELECT count(*) FROM events WHERE payload LIKE '%ILove%'") == [(0,)]


def test_a_pixel_may_have_its_key_in_secret_and_does_not_store_it(client, stored):
    assert client.get(f"/v1/pixel/page?userId=1&secret={KEY}").status_code == 200
    (event,) = stored()
    assert "secret" not in event


def test_a_replayed_item_loses_its_key(send, runner, stored, tmp_path):
    send("/v1/import", {"secret": KEY, "batch": [{"secret": KEY, "action": "track", "userId": "1"}]})
    fixed = tmp_path / "fixed.json"
    fixed.write_text(json.dumps({"secret": KEY, "action": "track", "event": "e", "userId": "1"}))
    assert runner.invoke(args=["rejected", "replay", "1", "--body", str(fixed)]).exit_code == 0
    (event,) = stored()
    assert "secret" not in event
