"""Drive a Python library that has a Client: drive.py MODULE, and commands on standard input, one JSON object a line."""

import json
import os
import re
import sys
from datetime import datetime
from importlib import import_module

from requests.adapters import HTTPAdapter

MODULE = sys.argv[1]


def say(**words):
    print(json.dumps(words), flush=True)


def connect(url, key):
    """Return a client of the library that posts to `url`."""
    client_class = import_module(MODULE).Client
    options = {"on_error": lambda error, batch: say(failed=[event["messageId"] for event in batch])}
    if "host" in client_class.__init__.__code__.co_varnames:
        return client_class(key, host=url, **options)
    HTTPAdapter.send = lambda adapter, prepared, **options: send_elsewhere(url, adapter, prepared, **options)
    return client_class(key, **options)


def send_elsewhere(url, adapter, prepared, _send=HTTPAdapter.send, **options):
    """Send to `url` what the library would send to the one host that its source names."""
    prepared.url = url + prepared.path_url
    return _send(adapter, prepared, **options)


def make(client, call, **fields):
    """Make a call, whose fields have the API's names."""
    fields["timestamp"] = datetime.fromisoformat(fields["timestamp"])
    getattr(client, call)(**{re.sub("[A-Z]", r"_\g<0>", name).lower(): value for name, value in fields.items()})


client = None
for line in sys.stdin:
    match json.loads(line):
        case {"url": url, "key": key}:
            client = connect(url, key)
        case {"call": _} as command:
            make(client, **command)
        case {"flush": _}:
            client.flush()
            say(flushed=True)
os._exit(0)  # the threads of old clients would first wait for more to send
