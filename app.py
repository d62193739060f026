"""The application factory: a table of contents."""

from flask import Flask

import errors
from commands import GROUPS
from config import Config
from eventlog import EventLog, Unavailable
from routes import BLUEPRINTS


class Tracklog(Flask):
    def create_url_adapter(self, request):
        """Match a request by its path and method alone: this service has one host, whatever name it is called by."""
        if request is None:
            return super().create_url_adapter(request)
        return self.url_map.bind("", path_info=request.path, default_method=request.method)


def create_app(config=None):
    """Return the WSGI application; touches no disk and starts no thread."""
    app = Tracklog("tracklog", static_folder=None)
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.json.sort_keys = False
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False  # no path is answered with a redirect

    app.extensions["config"] = config or Config.from_environment()
    app.extensions["eventlog"] = EventLog(app.extensions["config"].database)
    errors.register(app, Unavailable)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    for group in GROUPS:
        app.cli.add_command(group)
    return app
