"""webhook+https://SECRET@host/path: one event per POST, signed if there is a secret.

The headers are those of Standard Webhooks, with the messageId as `webhook-id`. `X-Signature: sha256=` is the
HMAC-SHA256 of the body alone in hexadecimal, and `Idempotency-Key` is the messageId. With `?expect=TEXT`, an answer
acknowledges an event only if its body contains the text.
"""

import hmac
import time
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from urllib.parse import SplitResult, quote, unquote

from eventlog import StoredEvent

from .delivery import DeliveryRejected, Outcome, RetryLater
from .http import Poster, describe

_SAFE = "!#$&'()*+,/:;=?@[]^`{|}~ "  # allowed in a header; other characters are percent-encoded
_KEY_PREFIX = "whsec_"  # of a secret in base64


def from_url(parts: SplitResult, options: dict[str, str], headers: Mapping[str, str] = {}) -> "Webhook":
    expected = options.pop("expect", "")
    return Webhook(unquote(parts.netloc.rpartition("@")[0]).strip(":"), expected, parts, options, headers)


class Webhook(Poster):
    """Posts one event at a time."""

    max_events = 1
    max_bytes = 1

    def __init__(
        self, secret: str, expected: str, parts: SplitResult, options: dict[str, str], headers: Mapping[str, str]
    ) -> None:
        self._secret, self._key = secret.encode(), _decode_key(secret)
        self._expected = expected
        super().__init__(parts, options, headers)

    def deliver(self, events: Sequence[StoredEvent]) -> Outcome:
        for event in events:
            body = event.payload.encode()
            answer = self.post(body, self._headers_of(event.message_id, body))
            if answer.status >= 300:
                raise DeliveryRejected(str(answer.status), describe(answer))
            if self._expected.encode() not in answer.body:
                raise RetryLater(f"An answer without {self._expected!r}: {describe(answer)}")
        return Outcome()

    def _headers_of(self, message_id: str, body: bytes) -> dict[str, str]:
        """Return the headers that identify and sign a request. Each attempt has its own time."""
        key = quote(message_id, safe=_SAFE)
        if key != key.strip(" "):  # receivers would strip it
            key = key.replace(" ", "%20")
        id, at = key.replace(".", "%2E"), str(int(time.time()))  # a dot ends the id in the signed text
        headers = {"Idempotency-Key": key, "webhook-id": id, "webhook-timestamp": at}
        if self._secret:
            signature = hmac.digest(self._key, f"{id}.{at}.".encode() + body, "sha256")
            headers["webhook-signature"] = f"v1,{b64encode(signature).decode()}"
            headers["X-Signature"] = f"sha256={hmac.digest(self._secret, body, 'sha256').hex()}"
        return headers


def _decode_key(secret: str) -> bytes:
    """Return the key of a secret in the form of Standard Webhooks, or another secret as bytes."""
    if not secret.startswith(_KEY_PREFIX):
        return secret.encode()
    text = secret.removeprefix(_KEY_PREFIX).rstrip("=")
    with suppress(ValueError):
        if key := b64decode(text + "=" * (-len(text) % 4), validate=True):
            return key
    raise ValueError(f"a secret that begins with {_KEY_PREFIX} must go on in base64")
