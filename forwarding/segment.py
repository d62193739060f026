"""https://KEY@host/v1/batch: any service that speaks this API, another tracklog among them; `?gzip=true` to compress.

An event carries its messageId and both of its times, so that a tracklog stores it once and corrects no time twice.
"""

import gzip
from base64 import b64encode
from collections.abc import Sequence
from urllib.parse import SplitResult, unquote

from eventlog import StoredEvent

from .delivery import AtOnce, Settled
from .http import Poster, json_of, refusal


def open(parts: SplitResult, options: dict[str, str]) -> "Segment":
    key = unquote(parts.netloc.rpartition("@")[0]).rstrip(":")
    if not key:
        raise ValueError("it needs a key, as in https://KEY@host/v1/batch")
    return Segment(key, options.pop("gzip", "") == "true", Poster(parts, options))


class Segment(AtOnce):
    most_events = 1000  # as many as an answer lists rejections for
    most_bytes = 450_000  # of 500 KB, which services of this API take

    def __init__(self, key: str, compress: bool, poster: Poster) -> None:
        self._headers = {
            "Authorization": "Basic " + b64encode(f"{key}:".encode()).decode(),
            "Content-Type": "application/json",
        }
        if compress:
            self._headers["Content-Encoding"] = "gzip"
        self._compress = compress
        self._poster = poster

    def deliver(self, events: Sequence[StoredEvent]) -> Settled:
        body = ('{"batch":[' + ",".join(event.payload for event in events) + "]}").encode()
        answer = self._poster.post(gzip.compress(body, 6) if self._compress else body, self._headers)
        refused = _refused(json_of(answer).get("rejected"), len(events))
        if answer.status >= 300 and len(refused) < len(events):
            raise refusal(answer)
        return Settled(refused)

    def close(self) -> None:
        self._poster.close()


def _refused(rejected: object, number: int) -> dict[int, tuple[str, str]]:
    """Read the list `rejected` of an answer to a batch, by index; what is none has no such list."""
    refused = {}
    for each in rejected if isinstance(rejected, list) else []:
        if isinstance(each, dict) and each.get("index") in range(number):
            refused[each["index"]] = str(each.get("code", "rejected")), str(each.get("message", ""))
    return refused
