"""Write gunicorn's own log lines, and one per request if that is asked for, as JSON lines."""

from gunicorn import glogging

from telemetry import logs


class Logger(glogging.Logger):
    """Writes JSON lines: gunicorn's own, all others to the same place, and one for each request if that is asked."""

    def setup(self, cfg):
        super().setup(cfg)
        for handler in self.access_log.handlers:
            handler.setFormatter(logs.JsonLines())
        logs.write_lines(*self.error_log.handlers)

    def access(self, response, request, environ, took):
        if self.access_log_enabled:
            status = response.status and int(response.status[:3])
            logs.request(self.access_log, environ, status, response.sent, took.total_seconds())

    def warning(self, message, *arguments, **options):
        """Leave out what is one line for each request that is no HTTP: `write_error` counts those."""
        if not message.startswith("Invalid request from"):
            super().warning(message, *arguments, **options)

    def exception(self, message, *arguments, **options):
        """Leave out the query of a URL, where a key may stand."""
        super().exception(message, *(str(each).partition("?")[0] for each in arguments), **options)
