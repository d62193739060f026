"""Answer every exception of a request in JSON."""

import json
from wsgiref.types import WSGIEnvironment

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException

from errors import ApiError, Overloaded
from telemetry import logs

RETRY_AFTER_SECONDS = 5  # after which a client should send again when the log is unavailable
BROWSER_HEADERS = ("HTTP_ORIGIN", "HTTP_SEC_FETCH_MODE", "HTTP_REFERER")


def answer(error: ApiError) -> Response:
    """Return the response for an error."""
    response = Response(json.dumps(error.body()) + "\n", error.status, content_type="application/json")
    if error.status == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def register(app: Flask, unavailable: type[Exception]) -> None:
    """Handle all exceptions of `app`. The log raises `unavailable` when it cannot be used."""

    @app.errorhandler(ApiError)
    def answer_api_error(error: ApiError) -> Response:
        may_challenge = _may_challenge(request.environ)
        if may_challenge and error.status == 400 and "tracklog.source" not in request.environ:
            error = ApiError("missing_write_key")  # the body could not be read; with a key it will be kept
        if error.status < 500:
            logs.log_rejection(error.code, request.environ)
        response = answer(error)
        if may_challenge and error.code == "missing_write_key":
            response.headers["WWW-Authenticate"] = 'Basic realm="tracklog"'
        return response

    @app.errorhandler(Overloaded)
    def answer_overloaded(error: Overloaded) -> Response:
        return answer(ApiError("storage_unavailable", str(error)))

    @app.errorhandler(unavailable)
    def answer_unavailable(failure: Exception) -> Response:
        current_app.extensions["metrics"].count_log_failure()
        current_app.extensions["trouble"].note_failure(failure, request.environ.get("tracklog.request_id"))
        return answer(ApiError("storage_unavailable"))

    @app.errorhandler(HTTPException)
    def answer_http_error(error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.code or 400, "bad_request")
        logs.log_rejection(code, request.environ)
        response = answer(ApiError(code))
        if methods := getattr(error, "valid_methods", None):
            response.headers["Allow"] = ", ".join(sorted(methods))
        return response

    @app.errorhandler(Exception)
    def answer_internal_error(error: Exception) -> Response:
        logs.log_internal_error(request.environ)
        return answer(ApiError("internal_error"))


def _may_challenge(environ: WSGIEnvironment) -> bool:
    """Return True if a request may be answered with a challenge. A browser would ask its user for a password."""
    return (
        environ["REQUEST_METHOD"] == "POST"
        and not any(header in environ for header in BROWSER_HEADERS)
        and not environ.get("HTTP_USER_AGENT", "").startswith("Mozilla/")
    )
