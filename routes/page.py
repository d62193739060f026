"""POST /v1/page"""

from flask import Blueprint, Response

from ingest.intake import accept
from schemas import CALLS

blueprint = Blueprint("page", __name__)


@blueprint.post("/v1/page")
@blueprint.post("/v1/p")
def page() -> Response:
    """Record a page view."""
    return accept(CALLS["page"])
