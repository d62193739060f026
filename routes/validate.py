"""POST /v1/validate: check a call or a batch without storing it."""

from flask import Blueprint, Response

from ingest import intake

blueprint = Blueprint("validate", __name__)


@blueprint.post("/v1/validate")
def validate() -> Response:
    """Report every error of a call, which needs its type, or of a batch. Store nothing."""
    return intake.validate()
