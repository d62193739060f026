"""Let browsers post from pages of other origins; where the words come from: the Fetch standard, CORS protocol."""

from flask import Response, request

API = ("/v1/", "/beacon/")  # what is asked of the service itself is for no page
MAX_AGE = 86_400  # seconds for which a browser need not ask again


def register(app, allowed_origins):
    """Answer preflights on every route of the API, and mark all of its answers."""
    for rule in [rule for rule in app.url_map.iter_rules() if rule.rule.startswith(API)]:
        app.add_url_rule(rule.rule, "preflight", preflight, methods=["OPTIONS"])
    allowed = allowed_origins.split()

    @app.after_request
    def mark(response):
        origin = request.environ.get("HTTP_ORIGIN")
        if origin is not None and request.path.startswith(API):
            response.headers["Vary"] = "Origin"
            if "*" in allowed or origin in allowed:
                response.headers["Access-Control-Allow-Origin"] = origin
                response.headers["Access-Control-Allow-Credentials"] = "true"
                response.headers["Access-Control-Expose-Headers"] = "Retry-After"
        return response


def preflight(**_):
    """Say what a page may send, which is whatever it asks for."""
    response = Response(status=204)
    response.headers["Access-Control-Allow-Methods"] = "POST, GET, OPTIONS"
    response.headers["Access-Control-Allow-Headers"] = request.headers.get("Access-Control-Request-Headers", "")
    response.headers["Access-Control-Max-Age"] = str(MAX_AGE)
    return response
