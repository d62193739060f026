"""POST /v1/group"""

from flask import Blueprint, Response

from ingest.intake import accept
from schemas import CALLS

blueprint = Blueprint("group", __name__)


@blueprint.post("/v1/group")
@blueprint.post("/v1/g")
def group() -> Response:
    """Record that a user belongs to a group."""
    return accept(CALLS["group"])
