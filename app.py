"""The application factory: a table of contents."""

from functools import cached_property
from time import monotonic
from typing import NamedTuple

from flask import Flask, request
from flask.sessions import NullSession, SessionInterface
from werkzeug.routing import Rule

import cors
import errors
import logs
from commands import COMMANDS
from config import Config
from eventlog import EventLog, Unavailable
from metrics import Metrics
from routes import BLUEPRINTS


class Tracklog(Flask):
    """A Flask without sessions and hosts, which counts its requests, and matches most paths by one look-up."""

    def __call__(self, environ, start_response):
        return self.wsgi_app(environ, logs.take_request_id(environ, start_response))

    def create_url_adapter(self, request):
        if request is None:
            return super().create_url_adapter(request)
        request.began = monotonic()
        plain = self._plain_routes.get((request.method, request.path))
        return plain or self.url_map.bind("", path_info=request.path, default_method=request.method)

    @cached_property
    def _plain_routes(self):
        rules = [rule for rule in self.url_map.iter_rules() if not rule.arguments]
        return {(method, rule.rule): PlainRoute(rule) for rule in rules for method in rule.methods}

    def ensure_sync(self, function):
        """Return the function as it is: none here is a coroutine, which Flask would look for at every request."""
        return function

    def finalize_request(self, result, from_error_handler=False):
        response = super().finalize_request(result, from_error_handler)
        self.extensions["metrics"].count_request(request._get_current_object(), response.status_code)
        return response


class PlainRoute(NamedTuple):
    """What Flask asks of a URL adapter, for a rule without variable parts."""

    rule: Rule

    def match(self, return_rule):
        return self.rule, {}


class NoSessions(SessionInterface):
    session = NullSession()

    def open_session(self, app, request):
        return self.session


def create_app(config=None):
    """Return the WSGI application; touches no disk and starts no thread."""
    app = Tracklog("tracklog", static_folder=None)
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.json.sort_keys = False
    app.session_interface = NoSessions()
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False  # no path is answered with a redirect

    config = config or Config.from_environment()
    app.extensions["config"] = config
    app.extensions["eventlog"] = EventLog(config.database, config.max_rejected_bytes)
    app.extensions["metrics"] = Metrics(app.extensions["eventlog"])
    app.extensions["trouble"] = logs.StorageTrouble()
    errors.register(app, Unavailable)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    cors.register(app, config.allowed_origins)
    for command in COMMANDS:
        app.cli.add_command(command)
    return app
