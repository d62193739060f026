"""What the OpenAPI document says is what the service does, as schemathesis sees it."""

import subprocess

import pytest
from service import AUTHENTICATION, BIN

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "allow_header_conformance",
    "unsupported_method",
]
KEY = f"Authentication: {AUTHENTICATION['Authentication']}"
SEED = ["--seed", "1"]


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--header", KEY, "--phases", "coverage,fuzzing", "--max-examples", "10", *SEED], id="with a key"),
        pytest.param(["--phases", "fuzzing", "--max-examples", "5", *SEED], id="without"),
        pytest.param(["--header", KEY, "--phases", "coverage,fuzzing", "--max-examples", "200"], marks=pytest.mark.full, id="long"),
    ],
)  # fmt: skip
def test_the_service_answers_as_it_is_described(running, tmp_path, arguments):
    paths = running.request("GET", "/openapi.json")[1]["paths"]
    operations = sum(len(methods) for path, methods in paths.items() if path != "/openapi.json")  # which it knows
    ended = subprocess.run(
        [BIN / "schemathesis", "run", f"http://127.0.0.1:{running.port}/openapi.json", "--checks", ",".join(CHECKS),
         "--continue-on-failure", "--request-timeout", "30", "--no-color", *arguments],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    print(ended.stdout)
    assert ended.returncode == 0
    assert f"Tested: {operations}" in ended.stdout
    assert running.query("SELECT count(*) FROM events WHERE NOT json_valid(payload)") == [(0,)]
