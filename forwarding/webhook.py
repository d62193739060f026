"""webhook+https://SECRET@host/path: one event per POST, signed where there is a secret.

`X-Signature: sha256=` has the HMAC-SHA256 of the body in hexadecimal. `Idempotency-Key` is the messageId.
"""

import hmac
from collections.abc import Sequence
from urllib.parse import SplitResult, quote, unquote

from eventlog import StoredEvent

from .delivery import AtOnce, Settled
from .http import Poster, refusal

_SAFE = "!#$%&'()*+,/:;=?@[]^`{|}~ "  # what a header may have; the rest is percent-encoded


def open(parts: SplitResult, options: dict[str, str]) -> "Webhook":
    return Webhook(unquote(parts.netloc.rpartition("@")[0]).strip(":"), Poster(parts, options))


class Webhook(AtOnce):
    most_events = 1
    most_bytes = 1

    def __init__(self, secret: str, poster: Poster) -> None:
        self._secret = secret.encode()
        self._poster = poster

    def deliver(self, events: Sequence[StoredEvent]) -> Settled:
        for event in events:
            body = event.payload.encode()
            headers = {"Content-Type": "application/json", "Idempotency-Key": quote(event.message_id, safe=_SAFE)}
            if self._secret:
                headers["X-Signature"] = f"sha256={hmac.digest(self._secret, body, 'sha256').hex()}"
            answer = self._poster.post(body, headers)
            if answer.status >= 300:
                raise refusal(answer)
        return Settled()

    def abort(self) -> bool:
        self._poster.abort()
        return True

    def close(self) -> None:
        self._poster.close()
