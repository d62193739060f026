"""POST /v1/track"""

from flask import Blueprint

from ingest.intake import accept
from schemas import CALLS

blueprint = Blueprint("track", __name__)


@blueprint.post("/v1/track")
@blueprint.post("/v1/t")
def track():
    """Record what a user did."""
    return accept(CALLS["track"])
