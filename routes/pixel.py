"""GET /v1/pixel/{type}: one event in the query, answered with a picture of one transparent pixel."""

import base64

from flask import Blueprint, Response, request
from werkzeug.exceptions import MethodNotAllowed

from ingest.intake import accept_query
from schemas import CALLS, UNTYPED

PICTURE = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")

blueprint = Blueprint("pixel", __name__)


@blueprint.get("/v1/pixel/<type>")
def pixel(type):
    """Record the one event that stands in the query; answer with a picture of one transparent pixel."""
    if request.method == "HEAD":  # from those who check links; nobody has seen the picture
        raise MethodNotAllowed(["GET", "OPTIONS"])
    return accept_query(CALLS.get(type.lower(), UNTYPED))


@blueprint.after_request
def draw(response):
    """Send the picture whatever is answered; the status tells."""
    picture = Response(PICTURE, response.status, content_type="image/gif")
    picture.headers["Cache-Control"] = "no-store"
    for name in ("Retry-After", "Allow"):
        if name in response.headers:
            picture.headers[name] = response.headers[name]
    return picture
