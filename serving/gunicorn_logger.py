"""Write gunicorn's log records, and optionally one per request, as JSON lines."""

from datetime import timedelta
from typing import Any
from wsgiref.types import WSGIEnvironment

from gunicorn import glogging
from gunicorn.config import Config
from gunicorn.http.wsgi import Response

from telemetry import logs


class Logger(glogging.Logger):  # type: ignore[misc, unused-ignore]
    """Sends all log records of the process to gunicorn's handlers, as JSON lines."""

    def setup(self, cfg: Config) -> None:
        super().setup(cfg)
        for handler in self.access_log.handlers:
            handler.setFormatter(logs.JsonFormatter())
        logs.write_lines(*self.error_log.handlers)

    def access(self, resp: Response, req: object, environ: WSGIEnvironment, request_time: timedelta) -> None:
        """Log a request, if the access log is on."""
        if self.access_log_enabled:
            status = resp.status and int(resp.status[:3])
            logs.log_request(self.access_log, environ, status, resp.sent, request_time.total_seconds())

    def warning(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Drop the line that gunicorn writes for each malformed request: `write_error` logs and rate-limits those."""
        if not msg.startswith("Invalid request from"):
            super().warning(msg, *args, **kwargs)

    def exception(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Drop the method and the URL, which may contain a key."""
        super().exception(msg.partition(" %s")[0], **kwargs)
