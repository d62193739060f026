"""POST /v1/m: the metrics that browser libraries report about themselves."""

from flask import Blueprint

blueprint = Blueprint("client_metrics", __name__)


@blueprint.post("/v1/m")
def client_metrics() -> dict[str, bool]:
    """Accept a browser library's own metrics and discard them."""
    return {"success": True}
