import base64

import pytest
from service import SOURCE_ID, Service


@pytest.fixture
def service(tmp_path):
    """A tracklog with a log that knows the API's example source; not started yet."""
    service = Service(tmp_path)
    service.flask("sources", "add", "example", "--source-id", SOURCE_ID)
    yield service
    service.stop()


@pytest.fixture
def running(service):
    service.start()
    return service


@pytest.fixture
def basic():
    """Return the header that a client library sends for a source."""
    return lambda source_id: {"Authorization": "Basic " + base64.b64encode(f"{source_id}:".encode()).decode()}
