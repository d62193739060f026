"""POST /v1/alias"""

from flask import Blueprint

from ingest.intake import accept
from schemas import CALLS

blueprint = Blueprint("alias", __name__)


@blueprint.post("/v1/alias")
@blueprint.post("/v1/a")
def alias():
    """Record that two ids are one user's."""
    return accept(CALLS["alias"])
