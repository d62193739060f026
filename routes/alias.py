"""POST /v1/alias"""

from flask import Blueprint, Response

from ingest.intake import accept
from schemas import CALLS

blueprint = Blueprint("alias", __name__)


@blueprint.post("/v1/alias")
@blueprint.post("/v1/a")
def alias() -> Response:
    """Record that two ids belong to one user."""
    return accept(CALLS["alias"])
