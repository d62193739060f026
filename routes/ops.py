"""What is asked of the process rather than of the log: GET /healthz."""

from flask import Blueprint

blueprint = Blueprint("ops", __name__)


@blueprint.get("/healthz")
def healthz():
    """Say that the process serves; never touches the disk."""
    return {"status": "ok"}
