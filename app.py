"""The application factory: a table of contents."""

from flask import Flask

from commands import COMMANDS
from config import Config
from eventlog import EventLog, Unavailable
from routes import BLUEPRINTS
from serving import cors, error_handlers
from serving.lean_flask import LeanFlask
from telemetry.metrics import Metrics
from telemetry.storage_trouble import StorageTrouble


def create_app(config: Config | None = None) -> Flask:
    """Return the WSGI application. Touch no disk and start no thread."""
    config = config or Config.from_environment()
    app = LeanFlask("tracklog")
    app.extensions["config"] = config
    app.extensions["eventlog"] = EventLog(config.database, config.max_rejected_bytes)
    app.extensions["metrics"] = Metrics(app.extensions["eventlog"])
    app.extensions["trouble"] = StorageTrouble()
    error_handlers.register(app, Unavailable)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    cors.register(app, config.allowed_origins)
    for command in COMMANDS:
        app.cli.add_command(command)
    return app
