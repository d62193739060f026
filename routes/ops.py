"""What is asked of the service itself: GET /healthz, GET /readyz, GET /openapi.json."""

from flask import Blueprint, current_app

from intake import prove_ready
from openapi import describe

blueprint = Blueprint("ops", __name__)


@blueprint.get("/healthz")
def healthz():
    """Say that the process serves; never touches the disk."""
    return {"status": "ok"}


@blueprint.get("/readyz")
def readyz():
    """Say that an event would be stored now, proved by a write that leaves nothing; 503 and what is wrong if not."""
    prove_ready()
    return {"status": "ready"}


@blueprint.get("/openapi.json")
def openapi():
    """Describe the API in OpenAPI 3.1."""
    extensions = current_app.extensions
    if "openapi" not in extensions:
        extensions["openapi"] = describe(current_app)
    return extensions["openapi"]
