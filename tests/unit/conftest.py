import json

import pytest

import eventlog
from app import create_app
from config import Config

SOURCE_ID = "ILoveData123"


@pytest.fixture
def path(tmp_path):
    """The file of a new log."""
    path = str(tmp_path / "tracklog.db")
    eventlog.create(path)
    return path


@pytest.fixture
def log(path):
    """A log on a real file, with the API's example source."""
    log = eventlog.EventLog(path)
    log.sources.add("example", SOURCE_ID)
    yield log
    log.close()


@pytest.fixture
def settings(path):
    return Config(database=path)


@pytest.fixture
def app(log, settings):
    app = create_app(settings)
    yield app
    app.extensions["eventlog"].close()


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture
def runner(app):
    return app.test_cli_runner()


@pytest.fixture
def post(client):
    """Post as the example source, in the header of the API's own examples; answer with status and body."""

    def post(url, body=b"", **headers):
        if not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        given = {"Authentication": "Basic SUxvdmVEYXRhMTIz"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        response = client.post(
            url, data=body, headers={name: value for name, value in given.items() if value is not None}
        )
        assert response.content_type == "application/json"
        return response.status_code, response.json

    return post


@pytest.fixture
def query(path):
    """Ask the log's file past all of the project's code but SQLite."""
    import apsw

    def query(sql, *bindings):
        connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return connection.execute(sql, bindings).fetchall()
        finally:
            connection.close()

    return query


@pytest.fixture
def stored(query):
    """Return the payloads of all events, oldest first."""
    return lambda: [json.loads(payload) for (payload,) in query("SELECT payload FROM events ORDER BY id")]
