"""schemathesis finds no difference between the OpenAPI document and the service."""

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
WITH_KEY = ["--header", f"Authentication: {AUTHENTICATION['Authentication']}", "--phases", "coverage,fuzzing"]
SEED = ["--seed", "1"]


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([*WITH_KEY, "--max-examples", "10", *SEED], marks=pytest.mark.timeout(300), id="with a key"),
        pytest.param(["--phases", "fuzzing", "--max-examples", "5", *SEED], id="without"),
        pytest.param([*WITH_KEY, "--max-examples", "200"], marks=pytest.mark.full, id="long"),
    ],
)  # fmt: skip
def test_the_service_matches_its_openapi_document(running, tmp_path, arguments):
    paths = running.request("GET", "/openapi.json")[1]["paths"]
    operations = sum(len(methods) for path, methods in paths.items() if path != "/openapi.json")
    ended = subprocess.run(
        [BIN / "schemathesis", "run", f"http://127.0.0.1:{running.port}/openapi.json", "--checks", ",".join(CHECKS),
         "--continue-on-failure", "--request-timeout", "30", "--no-color", *arguments],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    print(ended.stdout)
    assert ended.returncode == 0
    assert f"Tested: {operations}" in ended.stdout
    assert running.query("SELECT count(*) FROM events WHERE NOT json_valid(payload)") == [(0,)]
