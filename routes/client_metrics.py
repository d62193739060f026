"""POST /v1/m: what browser libraries count of themselves; nothing of it is kept."""

from flask import Blueprint

blueprint = Blueprint("client_metrics", __name__)


@blueprint.post("/v1/m")
def client_metrics():
    """Thank a browser library for its own metrics, and forget them."""
    return {"success": True}
