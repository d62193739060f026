"""What is asked of the service itself: GET /healthz, GET /readyz, GET /metrics, GET /openapi.json."""

from flask import Blueprint, Response, current_app
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from ingest.intake import prove_ready
from serving.openapi import describe

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


@blueprint.get("/metrics")
def metrics():
    """Tell what has been counted, as Prometheus reads it."""
    text = generate_latest(current_app.extensions["metrics"])
    return Response(text, content_type=CONTENT_TYPE_PLAIN_0_0_4)


@blueprint.get("/openapi.json")
def openapi():
    """Describe the API in OpenAPI 3.1."""
    extensions = current_app.extensions
    if "openapi" not in extensions:
        extensions["openapi"] = describe(current_app)
    return extensions["openapi"]
