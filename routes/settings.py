"""GET /v1/projects/{source_id}/settings: the configuration that browser and mobile libraries fetch at their start."""

from typing import Any

from flask import Blueprint, Response, current_app, request

from errors import ApiError
from ingest.client_address import Client

blueprint = Blueprint("settings", __name__)


@blueprint.get("/v1/projects/<source_id>/settings")
@blueprint.get("/v1/projects/<path:source_id>/settings")  # a Source ID may contain slashes
def settings(source_id: str) -> dict[str, Any]:
    """Tell a client library to send its events to this service."""
    source = current_app.extensions["eventlog"].sources.find(source_id)
    if source is None or not source.enabled:
        raise ApiError("not_found", "No enabled source has this Source ID")
    environ = request.environ
    host = environ.get("HTTP_HOST") or f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"
    segment = {"apiKey": source_id, "apiHost": f"{host}/v1"}
    if Client(environ, current_app.extensions["config"]).scheme == "http":
        segment["protocol"] = "http"
    return {"integrations": {"Segment.io": segment}}


@blueprint.after_request
def forbid_caching(response: Response) -> Response:
    """Let nobody cache the answer: the key may be retired, and the answer depends on the host and the scheme."""
    response.headers["Cache-Control"] = "no-store"
    return response
