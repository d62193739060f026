"""One request on its way in: its source, its body, and what is stored for it."""

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Self

from flask import Request, current_app, request

from config import Config
from errors import ApiError, Overloaded
from eventlog import Event, EventLog, Rejection
from eventlog.sources import Source
from ingest.auth import find_source, find_source_in_body
from ingest.body import Body
from ingest.checking import Checker, make_rejection
from ingest.client_address import Client
from ingest.stamping import Stamper, make_message_id
from parsing import json_batch, json_text
from parsing.json_text import ParsedValue

MAX_KEYLESS_BYTES = 512 * 1024  # of a body that anyone can send, and that must be read for its key
LARGE_BODY_BYTES = 512 * 1024  # larger bodies are read one at a time in a process: each may need 20 times its size
LARGE_BODY_WAIT_SECONDS = 20.0

_large_body = threading.Lock()


class Yielder:
    """Lets the other requests of the process run. Call it often: it sleeps for 1 ms after each 10 ms of work."""

    WORK_SECONDS = 0.01
    SLEEP_SECONDS = 0.001  # sleep(0) would not let gevent look at its sockets

    def __init__(self) -> None:
        self._until = monotonic() + self.WORK_SECONDS

    def __call__(self) -> None:
        if monotonic() > self._until:
            time.sleep(self.SLEEP_SECONDS)
            self._until = monotonic() + self.WORK_SECONDS


class IncomingRequest:
    """The current request. `received_at` is in UTC. `source` is None until the key is known."""

    def __init__(self, body: Body) -> None:
        self.received_at = datetime.now(UTC)
        self.request: Request = request._get_current_object()  # type: ignore[attr-defined]  # of the proxy
        extensions = current_app.extensions
        self.settings: Config = extensions["config"]
        self.yield_control = Yielder()
        self._log: EventLog = extensions["eventlog"]
        self._trouble = extensions["trouble"]
        self._body = body
        self._is_large = False
        self._set_source(find_source(self.request, self._log.sources))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_large:
            _large_body.release()

    def read_text(self) -> str:
        """Read the body and return its text. Raise ApiError if it is invalid or the source is disabled."""
        if self.source and not self.source.enabled:
            with suppress(ApiError):  # the raw body is kept, but not parsed
                self._read_body()
            raise ApiError("source_disabled")
        text = json_text.decode(self._read_body())
        self.yield_control()
        return text

    def parse_batch(self, text: str) -> Any:
        """Return the value of the body's text, the items of its batch as ParsedValues."""
        limits = self.settings
        return json_batch.parse_batch(text, limits.max_batch_events, limits.max_event_bytes, self.yield_control)

    def authenticate_from_body(self, value: Any, items: Sequence[Any] = ()) -> None:
        """Find the source by the key in the body's value or in `items`, unless the request named one before."""
        if self.source is None:
            self._set_source(source := find_source_in_body(self.request, value, items, self._log.sources))
            if not source.enabled:
                raise ApiError("source_disabled")

    def make_checker(self) -> Checker:
        """Return a checker for the events of this request, whose source is known."""
        assert self.source
        client = Client(self.request.environ, self.settings)
        stamper = Stamper(self.source, self._log.sources, self.received_at, client, make_message_id)
        return Checker(self.settings, stamper, self.yield_control)

    def append(self, events: Sequence[Event], rejections: Sequence[Rejection] = ()) -> list[bool]:
        """Append to the event log, or raise Unavailable. Return whether each event is new."""
        are_new = self._log.append(events, rejections)
        self._trouble.note_success()
        return are_new

    def keep_rejected_body(self, error: ApiError) -> None:
        """Store the rejected body, if its source is known."""
        if self.source:
            self.append([], [self._make_rejection(error, self._body.content, self._body.is_cut)])

    def make_item_rejection(self, item: ParsedValue, error: ApiError) -> Rejection:
        """Return what the log keeps of a rejected batch item."""
        self.yield_control()
        return self._make_rejection(error, json_text.escape_non_ascii(item.text, self.yield_control))

    def _make_rejection(self, error: ApiError, content: bytes, is_cut: bool = False) -> Rejection:
        assert self.source
        return make_rejection(self.source.name, self.received_at, self.request.path.rstrip("/"), error, content, is_cut)

    def _set_source(self, source: Source | None) -> None:
        self.source = source
        if source:
            self.request.environ["tracklog.source"] = source.name  # for log lines

    def _read_body(self) -> bytes:
        max_bytes = self.settings.max_body_bytes
        limit = max_bytes if self.source else min(max_bytes, MAX_KEYLESS_BYTES)
        try:
            return self._body.read(self.request, limit, self.yield_control, self._claim_size)
        except ApiError as error:
            if error.code != "payload_too_large" or limit == max_bytes:
                raise
            message = f"A body of more than {MAX_KEYLESS_BYTES} bytes needs its key in a header or the query"
            raise ApiError("missing_write_key", message) from None

    def _claim_size(self, size: int) -> None:
        """Let the body grow to `size` bytes. A large one first waits until no other is read, or raises Overloaded."""
        if size > LARGE_BODY_BYTES and not self._is_large:
            if not _large_body.acquire(timeout=LARGE_BODY_WAIT_SECONDS):
                raise Overloaded("Too many large bodies are sent at once; send the request again")
            self._is_large = True
        self.yield_control()
