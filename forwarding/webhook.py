"""webhook+https://SECRET@host/path: one event per POST, signed if there is a secret.

`X-Signature: sha256=` carries the HMAC-SHA256 of the body in hexadecimal. `Idempotency-Key` is the messageId.
With `?expect=TEXT`, an answer acknowledges an event only if its body contains the text.
"""

import hmac
from collections.abc import Sequence
from urllib.parse import SplitResult, quote, unquote

from eventlog import StoredEvent

from .delivery import DeliveryRejected, Outcome, RetryLater
from .http import Poster, describe

_SAFE = "!#$%&'()*+,/:;=?@[]^`{|}~ "  # allowed in a header; other characters are percent-encoded


def from_url(parts: SplitResult, options: dict[str, str]) -> "Webhook":
    expected = options.pop("expect", "")
    return Webhook(unquote(parts.netloc.rpartition("@")[0]).strip(":"), expected, parts, options)


class Webhook(Poster):
    """Posts one event at a time."""

    max_events = 1
    max_bytes = 1

    def __init__(self, secret: str, expected: str, parts: SplitResult, options: dict[str, str]) -> None:
        super().__init__(parts, options)
        self._expected = expected
        self._secret = secret.encode()

    def deliver(self, events: Sequence[StoredEvent]) -> Outcome:
        for event in events:
            body = event.payload.encode()
            headers = {"Content-Type": "application/json", "Idempotency-Key": quote(event.message_id, safe=_SAFE)}
            if self._secret:
                headers["X-Signature"] = f"sha256={hmac.digest(self._secret, body, 'sha256').hex()}"
            answer = self.post(body, headers)
            if answer.status >= 300:
                raise DeliveryRejected(str(answer.status), describe(answer))
            if self._expected.encode() not in answer.body:
                raise RetryLater(f"An answer without {self._expected!r}: {describe(answer)}")
        return Outcome()
