import json

import apsw
import pytest
from factories import AUTHENTICATION, new_log, without_log_name

import eventlog
from app import create_app
from config import Config


@pytest.fixture
def path(tmp_path):
    """The path of a new log."""
    path = str(tmp_path / "tracklog.db")
    eventlog.create(path)
    return path


@pytest.fixture
def log(path):
    """A log on a real file, with the API's example source."""
    log = new_log(path)
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
def run(runner):
    """Return a function that runs a command, checks its exit code and returns its output without the log's name."""

    def run(*arguments, exit_code=0, stdin=None):
        result = runner.invoke(args=[str(each) for each in arguments], input=stdin)
        assert result.exit_code == exit_code, result.output
        return without_log_name(result.output)

    return run


@pytest.fixture
def post(client):
    """Return a function that posts as the example source, and returns the status and the JSON of the answer."""

    def post(url, body=b"", **headers):
        if not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        given = AUTHENTICATION | {name.replace("_", "-"): value for name, value in headers.items()}
        response = client.post(
            url, data=body, headers={name: value for name, value in given.items() if value is not None}
        )
        assert response.content_type == "application/json"
        return response.status_code, response.json

    return post


@pytest.fixture
def query(path):
    """Return a function that queries the log's file with SQLite alone."""

    def query(sql, *bindings):
        connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return connection.execute(sql, bindings).fetchall()
        finally:
            connection.close()

    return query


@pytest.fixture
def stored(query):
    """Return a function that returns the payloads of all events, oldest first."""
    return lambda: [json.loads(payload) for (payload,) in query("SELECT payload FROM events ORDER BY id")]
