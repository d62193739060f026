"""Libraries of 2012 to 2014: what they post, and one of them as it is, where there is a Python 2.7."""

import http.client
import json
import os
import subprocess

import pytest
from library import CLIENTS
from service import PROJECT, SOURCE_ID

PYTHON = os.environ.get("PYTHON2", "python2.7")
INSTALL = f"{PYTHON} -m pip install --target tests/system/clients/python2 -r tests/system/clients/python2.txt"


@pytest.fixture
def run(service):
    """Return a function that makes the library send to a port with a key. It returns the library's own counts."""
    try:
        has_python = subprocess.run([PYTHON, "-c", ""], capture_output=True).returncode == 0
    except OSError:
        has_python = False
    if not has_python or not (CLIENTS / "python2").is_dir():
        pytest.skip(f"analytics-python 0.4.4 in Python 2.7; {INSTALL}")  # Debian has no Python 2.7, so in CI too

    def run(port, secret):
        command = [PYTHON, CLIENTS / "analytics_python.py", f"http://127.0.0.1:{port}", secret]
        environment = os.environ | {"PYTHONPATH": str(CLIENTS / "python2"), "NO_PROXY": "127.0.0.1"}
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    return run


@pytest.mark.parametrize("behind", ["running", "nginx"])
def test_analytics_python_0_4_4_is_stored_under_the_present_names(request, service, run, behind):
    port = request.getfixturevalue(behind).port
    assert run(port, SOURCE_ID) == {"successful": 3, "failed": 0}
    rows = service.query("SELECT payload FROM events ORDER BY id")
    alias, track, identify = (json.loads(payload) for (payload,) in rows)  # it sends the newest first
    assert (alias["type"], alias["previousId"], alias["userId"]) == ("alias", "1234", "5678")
    assert (track["type"], track["event"], track["context"]["ip"]) == ("track", "Added File", "192.0.2.7")
    assert track["properties"] == {"fileType": "PDF", "sizes": [1, 2.5]}
    assert (identify["type"], identify["traits"]) == ("identify", {"name": "Arthur Dent", "hasTowel": True})
    for event in (alias, track, identify):
        assert not {"secret", "action", "requestId", "from", "to"} & event.keys()
        assert event["context"]["library"] == "analytics-python"
        assert event["timestamp"][:19] == event["originalTimestamp"][:19]
    assert service.query("SELECT count(*) FROM events WHERE payload LIKE '%ILove%'") == [(0,)]


def test_analytics_python_0_4_4_reports_a_wrong_key_as_failed(running, run):
    assert run(running.port, "Nobody") == {"successful": 0, "failed": 3}
    assert running.query("SELECT count(*) FROM rejected") == [(0,)]


LIBRARIES = json.loads((PROJECT / "tests" / "old_libraries.json").read_text())


def post(port, path, body, headers):
    """Post as JSON. Return the status and the parsed answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", path, json.dumps(body), headers)
    response = connection.getresponse()
    answer = response.status, json.loads(response.read())
    connection.close()
    return answer


@pytest.mark.parametrize("behind", ["running", "nginx"])
def test_what_libraries_of_2012_to_2014_post_is_stored(request, service, behind):
    port = request.getfixturevalue(behind).port
    for name, library in LIBRARIES.items():
        status, receipt = post(port, "/v1/import", library["posts"], {"Content-Type": "application/json"})
        assert (status, receipt["stored"], receipt["rejected"]) == (200, len(library["stored"]), []), name
    rows = service.query("SELECT payload FROM events ORDER BY id")
    sent = [event for library in LIBRARIES.values() for event in library["stored"]]
    for (payload,), event in zip(rows, sent, strict=True):
        assert json.loads(payload).items() >= event.items()
        assert SOURCE_ID not in payload


@pytest.mark.parametrize("behind", ["running", "nginx"])
def test_a_key_is_found_in_every_place(request, service, basic, behind):
    port = request.getfixturevalue(behind).port
    event = {"userId": "1", "event": "e"}
    bearer = {"Authorization": "Bearer x"}
    for path, fields, headers in [
        ("/v1/track", {}, basic(SOURCE_ID)),
        ("/v1/track", {}, bearer | {"Authentication": basic(SOURCE_ID)["Authorization"]}),
        (f"/v1/track?writeKey={SOURCE_ID}", {}, bearer),
        (f"/v1/t/?x&writeKey={SOURCE_ID}", {}, {}),
        ("/v1/track", {"writeKey": SOURCE_ID}, bearer),
        ("/v1/track", {"secret": SOURCE_ID}, {}),
    ]:
        assert post(port, path, event | fields, headers)[0] == 200, (path, fields, headers)
    assert post(port, "/v1/track", event, bearer)[1]["code"] == "invalid_authorization"
    assert service.query("SELECT count(*) FROM events") == [(6,)]
