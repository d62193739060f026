"""From a request to the log to a receipt: the one path that all calls share."""

import json
import threading
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from time import monotonic

from flask import Response, current_app, request

from errors import ApiError
from eventlog import Unavailable
from ingest.auth import find_source, find_source_in
from ingest.body import Body
from ingest.checking import MAX_ERRORS, Checker, refuse_too_large, rejected
from ingest.client_address import Requester
from ingest.query import Query
from parsing import json_batch, json_text
from parsing.json_batch import ParsedValue
from parsing.json_values import OVERSIZED
from telemetry import logs

LISTED = 1000  # rejections in the answer to a batch; the log keeps them all
MAX_KEYLESS_BYTES = 512 * 1024  # of a body that is read for its key, by whoever sends it
LARGE_BYTES = 512 * 1024  # a larger body waits until this process has no other, since it may take 20 times its size
LARGE_WAIT = 20.0  # seconds

_large_body = threading.Lock()


def accept(schema):
    """Store the one event that this request brings; answer with its receipt once it is on disk, or raise ApiError."""
    with Arrival(Body()) as arrival:
        return _store(schema, arrival)


def accept_query(schema):
    """Do what `accept` does, with an event that stands in the URL's query."""
    with Arrival(Query(), key_in_query=True) as arrival:
        return _store(schema, arrival)


def _store(schema, arrival):
    try:
        text = arrival.read()
        refuse_too_large(text, arrival.settings.max_event_bytes)  # parsing it would hold up others, to no purpose
        value = json_text.parse(text)
        arrival.pace()
        event = arrival.checker(value).check_call(schema, ParsedValue(value, text))
    except ApiError as refusal:
        arrival.keep(refusal)
        raise
    (is_new,) = arrival.append([event])
    receipt = {"success": True, "messageId": event.message_id}
    return _answer(receipt if is_new else {**receipt, "duplicate": True})


def accept_batch():
    """Store what is good of this request's batch and keep what is not, in one transaction; answer with the receipt."""
    with Arrival(Body(), key_in_query=True) as arrival:
        return _store_batch(arrival)


def _store_batch(arrival):
    try:
        envelope = arrival.parse_batch()
        events, refusals = arrival.checker(envelope, _items_of(envelope)).check_batch(envelope)
    except ApiError as refusal:
        arrival.keep(refusal)
        raise
    kept = [arrival.rejected_item(item, refusal) for _, item, refusal in refusals]
    stored = sum(arrival.append(events, kept))
    for code, count in Counter(refusal.code for _, _, refusal in refusals).items():
        logs.rejected(code, arrival.request.environ, count)
    receipt = {
        "received": len(envelope["batch"]),
        "stored": stored,
        "duplicates": len(events) - stored,
        "rejected": [_rejection(*each, arrival.settings.max_message_id_length) for each in refusals[:LISTED]],
        "rejectedCount": len(refusals),
    }
    if not events:
        raise ApiError("empty_batch_result", **receipt)
    return _answer({"success": True, **receipt})


def validate():
    """Answer with what would be refused of this request's call or batch, and why; keep nothing of it."""
    with Arrival(Body(), key_in_query=True) as arrival:
        return _judge(arrival)


def _judge(arrival):
    try:
        value = arrival.parse_batch()
        checker = arrival.checker(value, _items_of(value))
        _, refusals = checker.check_body(value, arrival.text, MAX_ERRORS)
    except ApiError as refusal:
        if refusal.status == 401:
            raise
        refusals = [(None, None, refusal)]
    errors = (error for index, _, refusal in refusals for error in _errors_at(index, refusal))
    listed = list(islice(errors, MAX_ERRORS))
    return _answer({"success": True, "valid": not listed, "errors": listed})


def prove_ready():
    """Raise ApiError, with what is wrong, unless an event would be stored now."""
    extensions = current_app.extensions
    try:
        extensions["eventlog"].prove_writable(extensions["config"].min_free_bytes)
    except Unavailable as failure:
        raise ApiError("storage_unavailable", str(failure)) from failure
    extensions["trouble"].store()


class Receipt(Response):
    """A response that is whole as it stands: no header of it depends on the request, as werkzeug's might."""

    def __call__(self, environ, start_response):
        (content,) = self.response
        start_response(self.status, [*self.headers, ("Content-Length", str(len(content)))])
        return self.response


def _answer(receipt):
    return Receipt([json.dumps(receipt).encode() + b"\n"], content_type="application/json")


def _items_of(envelope):
    batch = envelope.get("batch") if isinstance(envelope, dict) else None
    return [item.value for item in batch if item.value is not OVERSIZED] if isinstance(batch, list) else []


def _errors_at(index, refusal):
    """Return a refusal as field errors, of the item at `index` if it is one of a batch."""
    item = "" if index is None else f"batch[{index}]"
    for error in refusal.errors or [{"field": "", "code": refusal.code, "message": refusal.message}]:
        yield {**error, "field": ".".join(filter(None, (item, error["field"])))}


def _rejection(index, item, refusal, longest_id):
    """Return a refused item's place in the answer to its batch."""
    message_id = item.value.get("messageId") if isinstance(item.value, dict) else None
    is_id = isinstance(message_id, (str, int)) and not isinstance(message_id, bool)
    return {
        "index": index,
        "messageId": str(message_id) if is_id and len(str(message_id)) <= longest_id else None,
        "code": refusal.code,
        "message": refusal.message,
        "errors": refusal.errors,
    }


class Arrival:
    """A request on its way in: when it came, from which source, and with which body."""

    def __init__(self, body, *, key_in_query=False):
        self.at = datetime.now(UTC)
        self.request = request._get_current_object()
        extensions = current_app.extensions
        self.log = extensions["eventlog"]
        self.settings = extensions["config"]
        self.body = body
        self.pace = Pace()
        self._is_large = False
        self._trouble = extensions["trouble"]
        self._came_from(find_source(self.request, self.log.sources, in_query=key_in_query))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._is_large:
            _large_body.release()

    def read(self):
        """Return the body's text."""
        if self.source and not self.source.enabled:
            with suppress(ApiError):  # it is kept as far as it can be read, but not looked at
                self._read_body()
            raise ApiError("source_disabled")
        self.text = json_text.decode(self._read_body())
        self.pace()
        return self.text

    def parse_batch(self):
        """Return the body's value, the items of its batch one by one."""
        limits = self.settings
        return json_batch.parse_batch(self.read(), limits.max_batch_events, limits.max_event_bytes, self.pace)

    def checker(self, value, items=()):
        """Return the checker for this source's events; where no header has named the source, the body's value does."""
        if self.source is None:
            self._came_from(find_source_in(value, items, self.log.sources))
            if not self.source.enabled:
                raise ApiError("source_disabled")
        requester = Requester(self.request.environ, self.settings)
        return Checker(self.settings, self.source.name, self.at, requester, self.pace)

    def append(self, events, rejected=()):
        """Do what the log's `append` does."""
        stored = self.log.append(events, rejected)
        self._trouble.store()
        return stored

    def keep(self, refusal):
        """Keep the body that was refused, if its source is known."""
        if self.source:
            self.append([], [self._rejected(refusal, self.body.content, self.body.is_cut)])

    def rejected_item(self, item, refusal):
        """Return what the log keeps of a refused item of a batch."""
        self.pace()
        return self._rejected(refusal, json_text.escape_non_ascii(item.text, self.pace))

    def _came_from(self, source):
        self.source = source
        if source:
            self.request.environ["tracklog.source"] = source.name

    def _rejected(self, refusal, content, is_cut=False):
        return rejected(self.source.name, self.at, self.request.path.rstrip("/"), refusal, content, is_cut)

    def _read_body(self):
        limit = self.settings.max_body_bytes
        if self.source:
            return self.body.read(self.request, limit, self.pace, self._admit)
        try:
            return self.body.read(self.request, min(limit, MAX_KEYLESS_BYTES), self.pace, self._admit)
        except ApiError as refusal:
            if refusal.code != "payload_too_large" or limit <= MAX_KEYLESS_BYTES:
                raise
            message = (
                f"A larger body needs its key in a header or the query: without, it may have {MAX_KEYLESS_BYTES} bytes"
            )
            raise ApiError("missing_write_key", message) from None

    def _admit(self, size):
        """Let a body grow to `size` bytes: a large one when it is its turn."""
        if size > LARGE_BYTES and not self._is_large:
            if not _large_body.acquire(timeout=LARGE_WAIT):
                raise Unavailable("too many large bodies at once")
            self._is_large = True
        self.pace()


class Pace:
    """Called often in a long piece of work, it lets the other requests of the process go on every few milliseconds."""

    SLICE = 0.01  # seconds
    NAP = 0.001  # seconds; sleep(0) would not let gevent look at its sockets

    def __init__(self):
        self._until = monotonic() + self.SLICE

    def __call__(self):
        if monotonic() > self._until:
            time.sleep(self.NAP)
            self._until = monotonic() + self.SLICE
