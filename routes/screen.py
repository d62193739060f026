"""POST /v1/screen"""

from flask import Blueprint

from ingest.intake import accept
from schemas import CALLS

blueprint = Blueprint("screen", __name__)


@blueprint.post("/v1/screen")
@blueprint.post("/v1/s")
def screen():
    """Record a screen of an app that was viewed."""
    return accept(CALLS["screen"])
