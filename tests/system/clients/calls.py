"""The calls that the two Python drivers make, and the lines that report each result."""

import json
import sys
import threading
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

MOMENT = datetime(2015, 11, 10, 0, 45, 23, 412000, tzinfo=UTC)
OPTIONS = {
    "user_id": "1234",
    "anonymous_id": "a-1234",
    "context": {"ip": "192.0.2.7", "locale": "en", "app": {"name": "tours", "build": 17}},
    "timestamp": MOMENT,
    "integrations": {"All": True, "Mailing": False},
}

# The library's method and its arguments, by the name of the call.
CALLS = {
    "identify": ("identify", OPTIONS | {"traits": {"name": "Arthur Dent", "email": "arthur@example.com"}}),
    "track": ("track", OPTIONS | {"event": "Added File", "properties": {"fileType": "PDF", "sizes": [1, 2.5]}}),
    "page": ("page", OPTIONS | {"category": "Blog", "name": "Questions", "properties": {"url": "http://example.com/"}}),
    "screen": ("screen", OPTIONS | {"category": "Settings", "name": "Sound", "properties": {"volume": 11}}),
    "group": ("group", OPTIONS | {"group_id": "5678", "traits": {"name": "The Hitchhikers", "employees": 42}}),
    "alias": ("alias", {"previous_id": "1234", "user_id": "5678", "timestamp": MOMENT}),
}


def nested(depth):
    value = {}
    for _ in range(depth):
        value = {"in": value}
    return value


PROPERTIES = {
    "null": None,
    "NaN": float("nan"),
    "Infinity": float("inf"),
    "2**70": 2**70,
    "a small float": 5e-324,
    "a Decimal": Decimal("9.99"),
    "a lone surrogate": "\ud800",
    "an emoji": "\U0001f418",
    "a NUL": "a\0b",
    "a datetime": MOMENT,
    "a date": date(2015, 11, 10),
    "a tuple": (1, "two", None),
    "bytes": b"a file",
    "an object": object(),
    "odd keys": {"": 1, "a.b": 2, "$": 3, "writeKey": 4, "__proto__": 5},
    "150 levels": nested(150),
    "250 levels": nested(250),
    "30 KB": "x" * 30_000,
    "600 KB": "x" * 600_000,
}
IDS = {
    "a number": 1234,
    "0": 0,
    "a float": 12.5,
    "2**70": 2**70,
    "true": True,
    "NaN": float("nan"),
    "blank": " ",
    "a list": [1],
    "a NUL": "a\0b",
    "a lone surrogate": "\udfff",
    "600 characters": "x" * 600,
}
TIMESTAMPS = {
    "the epoch": datetime.fromtimestamp(0, UTC),
    "without a zone": datetime(2015, 11, 10, 0, 45, 23),
    "with microseconds": MOMENT.replace(microsecond=412345),
    "in India": MOMENT.astimezone(timezone(timedelta(hours=5, minutes=30))),
    "in the year 1": datetime(1, 1, 1, tzinfo=UTC),
    "in the year 9999": datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
    "an epoch number": 1447116323,
    "a text": "2015-11-10T00:45:23Z",
}
EVENTS = {"empty": "", "null": None, "a number": 7, "a lone surrogate": "\ud800", "a NUL": "a\0b"}


def vary(kind, values, call):
    for name, value in values.items():
        CALLS[f"{kind}: {name}"] = call(value)


vary("property", PROPERTIES, lambda odd: ("track", {"user_id": "1", "event": "Odd", "properties": {"odd": odd}}))
vary("trait", PROPERTIES, lambda odd: ("identify", {"user_id": "1", "traits": {"odd": odd}}))
vary("userId", IDS, lambda id: ("page", {"user_id": id}))
vary("anonymousId", IDS, lambda id: ("screen", {"anonymous_id": id}))
vary("groupId", IDS, lambda id: ("group", {"user_id": "1", "group_id": id}))
vary("previousId", IDS, lambda id: ("alias", {"user_id": "1", "previous_id": id}))
vary("timestamp", TIMESTAMPS, lambda moment: ("track", {"user_id": "1", "event": "Odd", "timestamp": moment}))
vary("event", EVENTS, lambda name: ("track", {"user_id": "1", "event": name}))
for number in range(100):
    CALLS[f"40 KB, {number}"] = ("track", {"user_id": "1", "event": "Large", "properties": {"text": "x" * 40_000}})
for number in range(250):
    CALLS[f"small, {number}"] = ("track", {"user_id": "1", "event": f"Event {number}"})


saying = threading.Lock()


def say(**words):
    """Print one line of JSON, in ASCII, which can hold a lone surrogate. A lock keeps threads apart."""
    with saying:
        print(json.dumps(words), flush=True)


def say_answer(response, *_, **__):
    """Report the answer of the server; a response hook of requests."""
    say(answer=response.status_code, url=response.url, body=response.request.body)


def say_failure(error, batch):
    """Report the events that the library gave up; its on_error."""
    say(failed=[event["messageId"] for event in batch], why=str(error))


def make(client, names):
    """Make the named calls, or every one, and wait until the library has finished them."""
    for name in CALLS if names == ["every"] else names:
        method, arguments = CALLS[name]
        try:
            _, event = getattr(client, method)(**arguments)
        except Exception as error:
            say(barred=name, why=str(error)[:200])
        else:
            say(made=name, messageId=event["messageId"])
    client.flush()
    client.join()
    say(done=True)


def arguments():
    """Return the URL, the write key and the names of the calls to make."""
    url, write_key, *names = sys.argv[1:]
    return url, write_key, names
