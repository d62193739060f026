"""POST /v1/validate: what would be refused of a call or a batch, and why; nothing is stored."""

from flask import Blueprint

from ingest import intake

blueprint = Blueprint("validate", __name__)


@blueprint.post("/v1/validate")
def validate():
    """Tell all that would be refused of a call, which needs its type, or of a batch; keep nothing."""
    return intake.validate()
