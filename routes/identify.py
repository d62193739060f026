"""POST /v1/identify"""

from flask import Blueprint, Response

from ingest.intake import accept
from schemas import CALLS

blueprint = Blueprint("identify", __name__)


@blueprint.post("/v1/identify")
@blueprint.post("/v1/i")
def identify() -> Response:
    """Record who a user is."""
    return accept(CALLS["identify"])
