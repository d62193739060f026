"""The verifiers in docs/forward.md, as they stand, accept what the forwarder sends, and nothing else."""

import base64
import hashlib
import hmac
import http.client
import json
import os
import re
import socket
import subprocess
import time
from contextlib import contextmanager, suppress

import pytest
from forwarder import answering
from needs import need
from service import EVENT, PROJECT, free_port, wait_until

KEY = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SECRETS = {"base64": f"whsec_{KEY}", "plain": "a plain/secret+:@\u00e9"}


def example(language):
    """Return the page's verifier in a language."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", (PROJECT / "docs/forward.md").read_text(), re.M | re.S)
    (code,) = [block for block in blocks if "webhook-signature" in block or "webhook-{name}" in block]
    return code


@contextmanager
def in_python(_folder, secret):
    names = {}
    exec(example("python"), names)
    yield lambda headers, body: names["verify"](secret, {name.lower(): text for name, text in headers.items()}, body)


@contextmanager
def in_php(folder, secret):
    """Serve the page's script with PHP's own server. It answers 401 if it rejects a request."""
    need("php")
    script, port = folder / "receiver.php", free_port()
    script.write_text(example("php"))
    with open(folder / "php.log", "w") as output:
        command = ["php", "-n", "-S", f"127.0.0.1:{port}", script]
        server = subprocess.Popen(command, env=os.environ | {"WEBHOOK_SECRET": secret}, stdout=output, stderr=output)
    try:
        wait_until(lambda: connects(port), 10)

        def verify(headers, body):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("POST", "/in", body, headers)
            status = connection.getresponse().status
            connection.close()
            assert status in (200, 401), (folder / "php.log").read_text()
            return status == 200

        yield verify
        assert not re.findall("Warning|Notice|Deprecated|Fatal", (folder / "php.log").read_text())
    finally:
        server.terminate()
        server.wait(10)


def connects(port):
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True


languages = pytest.mark.parametrize(
    "verifier", [pytest.param(in_python, marks=pytest.mark.smoke), in_php], ids=["python", "php"]
)


@languages
@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_the_verifier_accepts_what_the_forwarder_sends(running, tmp_path, verifier, secret):
    requests = []

    def answer(handler, body):
        requests.append((dict(handler.headers), body))
        return 200, {}, b""

    ids = ["a", "b.c", " \u00fc\u2603%25 "]
    for id in ids:
        assert running.post("/v1/track", EVENT | {"messageId": id, "properties": {"text": "\u00e9 \u2028 ."}})[0] == 200
    with answering(answer) as port:
        running.environment["TRACKLOG_SECRET_HOOK"] = secret
        running.environment["TRACKLOG_SECRET_TOKEN"] = "token"
        url = f"webhook+http://${{TRACKLOG_SECRET_HOOK}}@127.0.0.1:{port}/in"
        token = "--header=Authorization: Bearer ${TRACKLOG_SECRET_TOKEN}"
        running.flask("destinations", "add", "hook", url, token)
        assert running.flask("forward", "--once").returncode == 0
    assert [json.loads(body)["messageId"] for _, body in requests] == ids
    assert {headers["Authorization"] for headers, _ in requests} == {"Bearer token"}
    with verifier(tmp_path, secret) as verify:
        assert [verify(headers, body) for headers, body in requests] == [True] * 3


BODY = b'{"type":"track"}'


def signed(id="1", at=0, body=BODY, key=None):
    """Return the headers of a request that was signed `at` seconds from now."""
    at = str(int(time.time()) + at)
    digest = hmac.new(base64.b64decode(KEY) if key is None else key, f"{id}.{at}.".encode() + body, hashlib.sha256)
    signature = base64.b64encode(digest.digest()).decode()
    return {"webhook-id": id, "webhook-timestamp": at, "webhook-signature": f"v1,{signature}"}


def change(**changes):
    """Return a function that makes a request with these headers changed."""
    names = {f"webhook-{name}": text for name, text in changes.items()}
    return lambda: (
        {name: text for name, text in (signed() | names).items() if text is not None},
        BODY,
    )


REQUESTS = {
    "as it is": (True, lambda: (signed(), BODY)),
    "names in capitals": (True, lambda: ({name.upper(): text for name, text in signed().items()}, BODY)),
    "a second signature": (
        True,
        lambda: (
            (headers := signed()) | {"webhook-signature": f"v1,AAAA v1a,BBBB {headers['webhook-signature']}"},
            BODY,
        ),
    ),
    "made four minutes ago": (True, lambda: (signed(at=-240), BODY)),
    "made six minutes ago": (False, lambda: (signed(at=-360), BODY)),
    "made in six minutes": (False, lambda: (signed(at=360), BODY)),
    "another body": (False, lambda: (signed(), BODY + b" ")),
    "another id": (False, change(id="2")),
    "no id": (False, change(id=None)),
    "another time": (False, lambda: (signed() | {"webhook-timestamp": str(int(time.time()) + 9)}, BODY)),
    "no time": (False, change(timestamp=None)),
    "no number as time": (False, change(timestamp="now")),
    "a long number as time": (False, change(timestamp="9" * 5000)),
    "a large number as time": (False, change(timestamp="9" * 400)),
    "no signature": (False, change(signature=None)),
    "an empty signature": (False, change(signature="")),
    "a signature without a version": (False, change(signature="AAAA")),
    "a signature that is not ASCII": (False, change(signature="v1,\u00e9")),
    "another version": (False, lambda: ({name: text.replace("v1,", "v1a,") for name, text in signed().items()}, BODY)),
    "another key": (False, lambda: (signed(key=b"other"), BODY)),
}


@languages
def test_the_verifier_rejects_all_else(tmp_path, verifier):
    with verifier(tmp_path, SECRETS["base64"]) as verify:
        found = {name: verify(*make()) for name, (_, make) in REQUESTS.items()}
    assert found == {name: is_genuine for name, (is_genuine, _) in REQUESTS.items()}


@languages
@pytest.mark.parametrize("secret", ["", "whsec_"])
def test_the_verifier_needs_a_secret(tmp_path, verifier, secret):
    """Anybody can sign with an empty key."""
    with verifier(tmp_path, secret) as verify:
        assert verify(signed(key=b""), BODY) is False
