"""Write the log lines: one JSON object a line for each thing that an operator cares about."""

import json
import logging
import re
from dataclasses import asdict
from datetime import UTC, datetime
from time import monotonic

import apsw

from config import VERSION

# Characters of a text and of a traceback; journald breaks a line of 48 KB in two, and 12 bytes may stand for one.
LONGEST, LONGEST_TRACEBACK = 1000, 4000
MINUTE = 60.0  # seconds
MOST_KINDS = 1000

_OF_EVERY_RECORD = {*vars(logging.makeLogRecord({})), "message", "asctime"}
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

logger = logging.getLogger("tracklog")


class JsonLines(logging.Formatter):
    """A record and whatever it was given as `extra`, in ASCII: no text in it ends the line or moves a terminal."""

    def format(self, record):
        fields = {name: value for name, value in vars(record).items() if name not in _OF_EVERY_RECORD}
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:23] + "Z",
            "level": record.levelname.lower(),
            "event": fields.pop("event", record.name),
            "message": record.getMessage(),
            "pid": record.process,
            **fields,
        }
        line = {name: _shortened(value) for name, value in line.items() if value is not None}
        if record.exc_info:
            traceback = self.formatException(record.exc_info).encode("ascii", "backslashreplace").decode()
            line["traceback"] = traceback[-LONGEST_TRACEBACK:]
        text = json.dumps(line, ensure_ascii=False, default=str)
        # Written anew from sound UTF-8, since many parsers refuse a line with a lone surrogate.
        return json.dumps(json.loads(text.encode("utf-8", "replace")))


class OncePerMinute(logging.Filter):
    """Of records with a count, lets one of a kind through in a minute, which then counts those held back before it."""

    def __init__(self):
        super().__init__()
        self._kinds = {}  # kind -> when it may have a line again, and how many were held back

    def filter(self, record):
        if not hasattr(record, "count"):
            return True
        kind = tuple(getattr(record, name, None) for name in ("event", "source", "destination", "code"))
        due, held_back = self._kinds.get(kind, (0.0, 0))
        record.count += held_back
        if monotonic() < due:
            self._kinds[kind] = due, record.count
            return False
        self._kinds.pop(kind, None)
        self._kinds[kind] = monotonic() + MINUTE, 0
        if len(self._kinds) > MOST_KINDS:
            del self._kinds[next(iter(self._kinds))]  # whose line is the longest ago
        return True


def write_lines(*handlers):
    """Have all that is logged in this process written to these handlers, and there as JSON lines."""
    for handler in handlers:
        handler.setFormatter(JsonLines())
        handler.addFilter(OncePerMinute())
    logging.basicConfig(handlers=handlers, level=logging.WARNING, force=True)
    logger.setLevel(logging.INFO)
    logging.captureWarnings(True)


def start(settings, workers=None, addresses=None):
    """Log the start; `addresses` are the ones that are bound, which the settings may not name."""
    fields = {
        "event": "start",
        "version": VERSION,
        "sqlite": apsw.sqlite_lib_version(),
        "workers": workers,
        "addresses": addresses,
        "settings": asdict(settings),
    }
    logger.info("tracklog starts", extra=fields)


def stop():
    logger.info("tracklog has stopped", extra={"event": "stop"})


def rejected(code, environ, count=1):
    """Log that the request of a WSGI environment was refused, or `count` items of it."""
    source, path, request_id = _about(environ)
    fields = {
        "event": "rejected",
        "source": source,
        "code": code,
        "count": count,
        "path": path,
        "request_id": request_id,
    }
    logger.warning("rejected: %s", code, extra=fields)


def internal_error(environ):
    """Log the exception that is being handled."""
    _, path, request_id = _about(environ)
    logger.exception("internal error", extra={"event": "internal_error", "path": path, "request_id": request_id})


def request(to, environ, status, size, seconds):
    """Log a request to the logger `to`."""
    source, path, request_id = _about(environ)
    method = environ.get("REQUEST_METHOD")
    fields = {
        "event": "request",
        "method": method,
        "path": path,
        "status": status,
        "seconds": seconds,
        "bytes": size,
        "source": source,
        "request_id": request_id,
    }
    to.info("%s %s", method, status, extra=fields)


def echo_request_id(environ, start_response):
    """Note the id that a proxy gave to a request, if it is one; return what gives it back with the answer."""
    given = plain_id(environ.get("HTTP_X_REQUEST_ID"))
    if given is None:
        return start_response
    environ["tracklog.request_id"] = given
    return lambda status, headers, *rest: start_response(status, [*headers, ("X-Request-ID", given)], *rest)


def plain_id(given):
    """Return a request's id if it is short and plain, else None."""
    return given if given and _REQUEST_ID.fullmatch(given) else None


def _about(environ):
    """Return a request's source, path and id, as far as they are known: nothing in which a key may stand."""
    path = environ.get("PATH_INFO")
    path = path and path.encode("latin-1", "replace").decode("utf-8", "replace")
    return environ.get("tracklog.source"), path, environ.get("tracklog.request_id")


def _shortened(value):
    return value[:LONGEST] if isinstance(value, str) else value
