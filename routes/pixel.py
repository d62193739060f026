"""GET /v1/pixel/{type}: one event in the query string, answered with a transparent GIF."""

import base64

from flask import Blueprint, Response, request
from werkzeug.exceptions import MethodNotAllowed

from ingest.intake import accept
from schemas import CALLS, UNTYPED

TRANSPARENT_GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")

blueprint = Blueprint("pixel", __name__)


@blueprint.get("/v1/pixel/<type>")
def pixel(type: str) -> Response:
    """Record the event in the query string. The answer is a transparent GIF of one pixel."""
    if request.method == "HEAD":  # a link checker's request; no image was loaded
        raise MethodNotAllowed(["GET", "OPTIONS"])
    return accept(CALLS.get(type.lower(), UNTYPED), in_query=True)


@blueprint.after_request
def replace_body_with_gif(response: Response) -> Response:
    """Answer with the GIF in every case; only the status tells success from failure."""
    gif = Response(TRANSPARENT_GIF, response.status, content_type="image/gif")
    gif.headers["Cache-Control"] = "no-store"
    for name in ("Retry-After", "Allow"):
        if name in response.headers:
            gif.headers[name] = response.headers[name]
    return gif
