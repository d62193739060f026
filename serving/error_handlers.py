"""Turn every exception of a request into an answer in JSON."""

import json

from flask import Response, current_app, request
from werkzeug.exceptions import HTTPException

from errors import ApiError
from telemetry import logs

RETRY_AFTER = 5  # seconds, the answer to how long a client should wait out a storage trouble


def answer(refused):
    """Return the response that tells a client so."""
    response = Response(json.dumps(refused.body()) + "\n", refused.status, content_type="application/json")
    if refused.status == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER)
    return response


def register(app, unavailable):
    """Answer with JSON whatever goes wrong in `app`; `unavailable` is what a log raises that cannot be used now."""

    @app.errorhandler(ApiError)
    def refuse(refused):
        if refused.status < 500:
            logs.rejected(refused.code, request.environ)
        return answer(refused)

    @app.errorhandler(unavailable)
    def log_unavailable(failure):
        current_app.extensions["trouble"].note_failure(failure, request.environ.get("tracklog.request_id"))
        return answer(ApiError("storage_unavailable"))

    @app.errorhandler(HTTPException)
    def http_error(error):
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.code, "bad_request")
        logs.rejected(code, request.environ)
        response = answer(ApiError(code))
        if getattr(error, "valid_methods", None):
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
        return response

    @app.errorhandler(Exception)
    def internal_error(error):
        logs.internal_error(request.environ)
        return answer(ApiError("internal_error"))
