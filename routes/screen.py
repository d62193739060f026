"""POST /v1/screen"""

from flask import Blueprint, Response

from ingest.intake import accept
from schemas import CALLS

blueprint = Blueprint("screen", __name__)


@blueprint.post("/v1/screen")
@blueprint.post("/v1/s")
def screen() -> Response:
    """Record a screen view in an app."""
    return accept(CALLS["screen"])
