"""What is asked of the service itself: GET /healthz, GET /readyz."""

from flask import Blueprint

from intake import prove_ready

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
