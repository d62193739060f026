"""POST /v1/batch: many calls of any type, judged one by one and stored in one transaction."""

from flask import Blueprint

from ingest.intake import accept_batch

blueprint = Blueprint("batch", __name__)


@blueprint.post("/v1/batch")
@blueprint.post("/v1/b")
@blueprint.post("/v1/import")
@blueprint.post("/beacon/v1/batch")
def batch():
    """Record many calls of any type: what is good of them, in one transaction."""
    return accept_batch()
