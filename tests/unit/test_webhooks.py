"""A webhook's requests carry the headers of Standard Webhooks."""

import base64
import hashlib
import hmac
from urllib.parse import quote, unquote

import pytest
from factories import stored_event
from receiver import answer, receiving

from eventlog import NotPossible
from forwarding import RetryLater, open_deliverer

# From the tests of the specification's reference libraries.
KEY = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID, AT, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, '{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.fixture
def post(monkeypatch):
    """Return a function that posts an event with a secret, and returns the headers and the body of its requests."""
    monkeypatch.setattr("time.time", lambda: AT + 0.9)

    def post(secret, message_id=ID, body=BODY, statuses=(200,)):
        requests, statuses = [], list(statuses)

        def serve(connection, request):
            head, _, content = request.partition(b"\r\n\r\n")
            lines = [line.split(": ", 1) for line in head.decode("latin-1").split("\r\n")[1:]]
            requests.append(({name.lower(): value.strip() for name, value in lines}, content))
            connection.sendall(answer(statuses.pop(0)))

        with receiving(serve) as port:
            kind = open_deliverer(f"webhook+http://{quote(secret, safe='')}@127.0.0.1:{port}/in")
            while statuses:
                try:
                    kind.deliver([stored_event(1, payload=body)._replace(message_id=message_id)])
                except RetryLater:
                    monkeypatch.setattr("time.time", lambda: AT + 60.0)
            kind.close()
        return requests

    return post


@pytest.mark.parametrize("secret", [f"whsec_{KEY}", f"whsec_{KEY}=="])
def test_the_signature_is_that_of_the_reference_libraries(post, secret):
    ((headers, body),) = post(secret)
    assert body.decode() == BODY
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == (ID, str(AT))
    assert headers["webhook-signature"] == SIGNATURE


@pytest.mark.parametrize("secret", ["hush", f"whsec_{KEY}", "a/b+c:d@é"])
def test_the_older_signature_stays(post, secret):
    ((headers, body),) = post(secret)
    assert headers["x-signature"] == "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def test_a_plain_secret_is_the_key(post):
    ((headers, body),) = post("hush")
    digest = hmac.new(b"hush", f"{ID}.{AT}.".encode() + body, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()


def test_a_webhook_without_a_secret_is_not_signed(post):
    ((headers, _),) = post("")
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == (ID, str(AT))
    assert not {"webhook-signature", "x-signature"} & set(headers)


def test_a_retry_has_the_same_id_and_its_own_time(post):
    (first, _), (second, _) = post("hush", statuses=[503, 200])
    assert first["webhook-id"] == second["webhook-id"]
    assert [first["webhook-timestamp"], second["webhook-timestamp"]] == [str(AT), str(AT + 60)]
    assert first["webhook-signature"] != second["webhook-signature"]


@pytest.mark.parametrize(
    ("message_id", "sent"),
    [
        ("event 7", "event 7"),
        ("a.b", "a%2Eb"),
        ("100%", "100%25"),
        ("%C3%BC", "%25C3%25BC"),
        ("\u00fc", "%C3%BC"),
        (" a ", "%20a%20"),
        ("a\r\nHost: b", "a%0D%0AHost: b"),
        ("\u0085", "%C2%85"),
    ],
)
def test_each_message_id_has_one_webhook_id(post, message_id, sent):
    """A receiver sees it as it was signed, and a dot ends it in the signed text."""
    ((headers, body),) = post("hush", message_id)
    assert headers["webhook-id"] == sent
    assert unquote(sent) == unquote(headers["idempotency-key"]) == message_id
    digest = hmac.new(b"hush", f"{sent}.{AT}.".encode() + body, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()


@pytest.mark.parametrize("secret", ["whsec_", "whsec_=", "whsec_a", "whsec_a b", "whsec_ab*d", "whsec_hush-4711"])
def test_a_secret_in_another_form_is_refused(secret):
    with pytest.raises(NotPossible, match="must go on in base64") as failure:
        open_deliverer(f"webhook+https://{quote(secret, safe='')}@host/in")
    assert "hush" not in str(failure.value)
