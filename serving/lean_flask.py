"""Provide a Flask without the parts that this API does not use, which is faster."""

from functools import cached_property
from time import monotonic
from typing import Any, NamedTuple
from wsgiref.types import StartResponse, WSGIEnvironment

from flask import Flask, Request, Response, request
from werkzeug.routing import Rule

from telemetry import logs


class LeanFlask(Flask):
    """A Flask without redirects and host matching, which counts requests in `extensions["metrics"]`.

    A route without variables is found by one dict lookup instead of werkzeug's search.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name, static_folder=None)
        self.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
        self.json.sort_keys = False  # type: ignore[attr-defined]
        self.url_map.strict_slashes = False
        self.url_map.merge_slashes = False

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        environ["tracklog.began"] = monotonic()
        return self.wsgi_app(environ, logs.echo_request_id(environ, start_response))

    def create_url_adapter(self, request: Request | None) -> Any:
        if request is None:
            return super().create_url_adapter(request)
        plain = self._plain_routes.get((request.method, request.path))
        return plain or self.url_map.bind("", path_info=request.path, default_method=request.method)

    def ensure_sync(self, func: Any) -> Any:
        """Return the function unchanged: Flask would check at each request whether it is a coroutine."""
        return func

    @cached_property
    def _plain_routes(self) -> dict[tuple[str, str], "PlainRoute"]:
        rules = [rule for rule in self.url_map.iter_rules() if not rule.arguments]
        return {(method, rule.rule): PlainRoute(rule) for rule in rules for method in rule.methods or ()}

    def finalize_request(self, result: Any, from_error_handler: bool = False) -> Response:
        response = super().finalize_request(result, from_error_handler)
        environ = request.environ
        seconds = monotonic() - environ["tracklog.began"]
        environ["tracklog.route"] = route = logs.route_of(environ)  # for the access log: Flask removes its request
        self.extensions["metrics"].count_request(route, response.status_code, seconds)
        return response


class PlainRoute(NamedTuple):
    """A URL adapter, as Flask uses one, for a single rule without variables."""

    rule: Rule

    def match(self, return_rule: bool) -> tuple[Rule, dict[str, Any]]:
        """Return the rule and its arguments, of which there are none."""
        return self.rule, {}
