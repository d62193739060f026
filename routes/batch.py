"""POST /v1/batch: many calls in one request."""

from flask import Blueprint, Response

from ingest.intake import accept_batch

blueprint = Blueprint("batch", __name__)


@blueprint.post("/v1/batch")
@blueprint.post("/v1/b")
@blueprint.post("/v1/import")
@blueprint.post("/beacon/v1/batch")
def batch() -> Response:
    """Record many calls of any type: all valid ones, in one transaction."""
    return accept_batch()
