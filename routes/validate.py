"""POST /v1/validate: what would be refused of a call or a batch, and why; nothing is stored."""

from flask import Blueprint

import intake

blueprint = Blueprint("validate", __name__)


@blueprint.post("/v1/validate")
def validate():
    return intake.validate()
