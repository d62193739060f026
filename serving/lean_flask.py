"""A Flask without what this API does not use: sessions, host matching, search for routes without variables."""

from functools import cached_property
from time import monotonic
from typing import NamedTuple

from flask import Flask, request
from flask.sessions import NullSession, SessionInterface
from werkzeug.routing import Rule

from telemetry import logs


class LeanFlask(Flask):
    """Match most paths by one look-up, redirect none, and count every request in `extensions["metrics"]`."""

    def __init__(self, name):
        super().__init__(name, static_folder=None)
        self.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
        self.json.sort_keys = False
        self.session_interface = NoSessions()
        self.url_map.strict_slashes = False
        self.url_map.merge_slashes = False

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
