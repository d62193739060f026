"""POST /v1/track"""

from flask import Blueprint, Response

from ingest.intake import accept
from schemas import CALLS

blueprint = Blueprint("track", __name__)


@blueprint.post("/v1/track")
@blueprint.post("/v1/t")
def track() -> Response:
    """Record an action of a user."""
    return accept(CALLS["track"])
