"""Let browsers post from pages of other origins. The header names come from the Fetch standard (CORS protocol)."""

from flask import Flask, Response, request

API_PREFIXES = ("/v1/", "/beacon/")  # /healthz, /metrics and the like are not for web pages
MAX_AGE_SECONDS = 86_400  # how long a browser may cache the answer to a preflight


def register(app: Flask, allowed_origins: str) -> None:
    """Answer preflights on every route of the API, and add CORS headers to its answers.

    `allowed_origins` are separated by spaces; `*` allows any origin.
    """
    for rule in [rule for rule in app.url_map.iter_rules() if rule.rule.startswith(API_PREFIXES)]:
        app.add_url_rule(rule.rule, "preflight", answer_preflight, methods=["OPTIONS"])
    allowed = allowed_origins.split()

    @app.after_request
    def add_headers(response: Response) -> Response:
        origin = request.environ.get("HTTP_ORIGIN")
        if origin is not None and request.path.startswith(API_PREFIXES):
            response.headers["Vary"] = "Origin"
            if "*" in allowed or origin in allowed:
                response.headers["Access-Control-Allow-Origin"] = origin
                response.headers["Access-Control-Allow-Credentials"] = "true"
                response.headers["Access-Control-Expose-Headers"] = "Retry-After"
        return response


def answer_preflight(**_: str) -> Response:
    """Allow the API's methods and all the headers that the browser asks for."""
    response = Response(status=204)
    response.headers["Access-Control-Allow-Methods"] = "POST, GET, OPTIONS"
    response.headers["Access-Control-Allow-Headers"] = request.headers.get("Access-Control-Request-Headers", "")
    response.headers["Access-Control-Max-Age"] = str(MAX_AGE_SECONDS)
    return response
