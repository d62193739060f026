"""Routes for operators: GET /healthz, GET /readyz, GET /metrics, GET /openapi.json."""

from flask import Blueprint, Response, current_app
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from errors import ApiError
from eventlog import Unavailable
from serving.openapi import describe

blueprint = Blueprint("ops", __name__)


@blueprint.get("/healthz")
def healthz() -> dict[str, str]:
    """Answer while the process serves. Never touches the disk."""
    return {"status": "ok"}


@blueprint.get("/readyz")
def readyz() -> dict[str, str]:
    """Prove with a test write that events can be stored now. Answer 503 with the reason if not."""
    extensions = current_app.extensions
    try:
        extensions["eventlog"].prove_writable(extensions["config"].min_free_bytes)
    except Unavailable as failure:
        extensions["metrics"].count_log_failure()
        raise ApiError("storage_unavailable", str(failure)) from failure
    extensions["trouble"].note_success()
    return {"status": "ready"}


@blueprint.get("/metrics")
def metrics() -> Response:
    """Return all metrics in Prometheus' text format."""
    text = generate_latest(current_app.extensions["metrics"])
    return Response(text, content_type=CONTENT_TYPE_PLAIN_0_0_4)


@blueprint.get("/openapi.json")
def openapi() -> dict[str, object]:
    """Return the description of the API in OpenAPI 3.1."""
    extensions = current_app.extensions
    if "openapi" not in extensions:
        extensions["openapi"] = describe(current_app)
    return extensions["openapi"]
