"""Write the service's log lines, each a JSON object."""

import json
import logging
import re
from dataclasses import asdict
from datetime import UTC, datetime
from time import monotonic
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import apsw

from config import VERSION, Config

# journald splits a line of 48 KB in two, and one character may take 12 bytes.
MAX_TEXT_CHARACTERS, MAX_TRACEBACK_CHARACTERS = 1000, 4000
SECONDS_PER_LINE = 60.0  # between two lines of one kind
MAX_KINDS = 1000  # remembered

_STANDARD_ATTRIBUTES = {*vars(logging.makeLogRecord({})), "message", "asctime"}
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

logger = logging.getLogger("tracklog")


class JsonFormatter(logging.Formatter):
    """Formats a record and its `extra` fields as one line of JSON.

    The line is ASCII, so that no text in it can end the line or control a terminal.
    """

    def format(self, record: logging.LogRecord) -> str:
        fields = {name: value for name, value in vars(record).items() if name not in _STANDARD_ATTRIBUTES}
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:23] + "Z",
            "level": record.levelname.lower(),
            "event": fields.pop("event", record.name),
            "message": record.getMessage(),
            "pid": record.process,
            **fields,
        }
        line = {name: _shorten(value) for name, value in line.items() if value is not None}
        if record.exc_info:
            traceback = self.formatException(record.exc_info).encode("ascii", "backslashreplace").decode()
            line["traceback"] = traceback[-MAX_TRACEBACK_CHARACTERS:]
        text = json.dumps(line, ensure_ascii=False, default=str)
        # Replace lone surrogates: many parsers reject a line that has one.
        return json.dumps(json.loads(text.encode("utf-8", "replace")))


class RateLimit(logging.Filter):
    """Rate-limits records that have a count: one per kind per minute, including the number suppressed since the last.

    A kind is an event, source, destination and code.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kinds: dict[tuple[str | None, ...], tuple[float, int]] = {}  # kind -> (next line at, suppressed)

    def filter(self, record: Any) -> bool:
        if not hasattr(record, "count"):
            return True
        kind = tuple(getattr(record, name, None) for name in ("event", "source", "destination", "code"))
        next_line_at, suppressed = self._kinds.get(kind, (0.0, 0))
        record.count += suppressed
        if monotonic() < next_line_at:
            self._kinds[kind] = next_line_at, record.count
            return False
        self._kinds.pop(kind, None)
        self._kinds[kind] = monotonic() + SECONDS_PER_LINE, 0
        if len(self._kinds) > MAX_KINDS:
            del self._kinds[next(iter(self._kinds))]  # the kind whose last line is the oldest
        return True


def write_lines(*handlers: logging.Handler) -> None:
    """Send all log records of this process to `handlers`, as JSON lines."""
    for handler in handlers:
        handler.setFormatter(JsonFormatter())
        handler.addFilter(RateLimit())
    logging.basicConfig(handlers=handlers, level=logging.WARNING, force=True)
    logger.setLevel(logging.INFO)
    logging.captureWarnings(True)


def start(settings: Config, workers: int | None = None, addresses: list[str] | None = None) -> None:
    """Log the start of a service; `addresses` are those that are bound, which may differ from the settings."""
    versions = {"version": VERSION, "sqlite": apsw.sqlite_lib_version()}
    fields = {"event": "start", **versions, "workers": workers, "addresses": addresses, "settings": asdict(settings)}
    logger.info("tracklog starts", extra=fields)


def stop() -> None:
    """Log that the service has stopped."""
    logger.info("tracklog has stopped", extra={"event": "stop"})


def log_rejection(code: str, environ: WSGIEnvironment, count: int = 1) -> None:
    """Log that a request was refused with this code, or `count` items of its batch."""
    fields = {"event": "rejected", "code": code, "count": count, **_identify(environ)}
    logger.warning("rejected: %s", code, extra=fields)


def log_internal_error(environ: WSGIEnvironment) -> None:
    """Log the exception that is being handled, with its traceback."""
    logger.exception("internal error", extra={"event": "internal_error", **_identify(environ)})


def log_request(to: logging.Logger, environ: WSGIEnvironment, status: int | None, size: int, seconds: float) -> None:
    """Log an answered request to the logger `to`; `size` is the answer's body in bytes."""
    method = environ.get("REQUEST_METHOD")
    measured = {"status": status, "seconds": seconds, "bytes": size}
    to.info("%s %s", method, status, extra={"event": "request", "method": method, **measured, **_identify(environ)})


def echo_request_id(environ: WSGIEnvironment, start_response: StartResponse) -> StartResponse:
    """Keep the request id that a proxy has set, if it is valid; return a `start_response` that sends it back."""
    request_id = valid_request_id(environ.get("HTTP_X_REQUEST_ID"))
    if request_id is None:
        return start_response
    environ["tracklog.request_id"] = request_id
    return lambda status, headers, *rest: start_response(status, [*headers, ("X-Request-ID", request_id)], *rest)


def valid_request_id(text: str | None) -> str | None:
    """Return a request id if it is short and has only letters, digits, `.`, `_` and `-`, else None."""
    return text if text and _REQUEST_ID.fullmatch(text) else None


def route_of(environ: WSGIEnvironment) -> str | None:
    """Return the rule of a request's route, or None if it has none. Unlike its path, a rule cannot contain a key."""
    request = environ.get("werkzeug.request")
    return request.url_rule.rule if request and request.url_rule else environ.get("tracklog.route")


def _identify(environ: WSGIEnvironment) -> dict[str, str | None]:
    """Return a request's source, the rule of its route and its id, each None if unknown. None can contain a key."""
    source, request_id = environ.get("tracklog.source"), environ.get("tracklog.request_id")
    return {"source": source, "route": route_of(environ), "request_id": request_id}


def _shorten(value: object) -> object:
    return value[:MAX_TEXT_CHARACTERS] if isinstance(value, str) else value
