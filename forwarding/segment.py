"""https://KEY@host/v1/batch: any service that speaks this API, another tracklog among them; `?gzip=true` to compress.

An event carries its messageId and both of its times, so that a tracklog stores it once and corrects no time twice.
"""

import gzip
from base64 import b64encode
from collections.abc import Iterator, Sequence
from concurrent.futures import wait
from functools import partial
from urllib.parse import SplitResult, unquote
from zlib import crc32

from eventlog import StoredEvent

from .delivery import AtOnce, Settled
from .http import MAX_ERROR_CHARACTERS, Poster, json_of, refusal
from .threads import start

MOST_EVENTS = 1000  # of a batch, as many as an answer lists rejections for
MOST_BYTES = 450_000  # of a batch, of the 500 KB that services of this API take
LANES = 8  # batches that are under way together
DEPTH = 4  # batches of each lane, before all lanes are waited for


def open(parts: SplitResult, options: dict[str, str]) -> "Segment":
    key = unquote(parts.netloc.rpartition("@")[0]).rstrip(":")  # as some write it, like curl's -u KEY:
    if not key:
        raise ValueError("it needs a key, as in https://KEY@host/v1/batch")
    return Segment(key, options.pop("gzip", "") == "true", Poster(parts, options))


class Segment(AtOnce):
    """Posts in a few lanes at a time; all that one user does goes by one lane, and so in order."""

    most_events = LANES * DEPTH * MOST_EVENTS
    most_bytes = LANES * DEPTH * MOST_BYTES

    def __init__(self, key: str, compress: bool, poster: Poster) -> None:
        self._headers = {
            "Authorization": "Basic " + b64encode(f"{key}:".encode()).decode(),
            "Content-Type": "application/json",
        }
        if compress:
            self._headers["Content-Encoding"] = "gzip"
        self._compress = compress
        self._poster = poster
        # What was taken, or why it was refused, by event: where one lane fails, the others need not go again.
        self._settled: dict[int, tuple[str, str] | None] = {}

    def deliver(self, events: Sequence[StoredEvent]) -> Settled:
        lanes: list[list[StoredEvent]] = [[] for _ in range(LANES)]
        for event in events:
            if event.id not in self._settled:
                lanes[crc32((event.user_id or event.anonymous_id or "").encode()) % LANES].append(event)
        under_way = [start(partial(self._deliver_lane, lane)) for lane in lanes if lane]
        wait(under_way)  # all of them, though one fails: what comes next must not overtake the others
        for lane in under_way:
            lane.result()
        outcomes = [self._settled.pop(event.id) for event in events]
        return Settled({index: why for index, why in enumerate(outcomes) if why})

    def abort(self) -> bool:
        self._poster.abort()
        return True

    def close(self) -> None:
        self._poster.close()

    def _deliver_lane(self, lane: Sequence[StoredEvent]) -> None:
        for batch in _batches(lane):
            refused = self._post([event.payload for event in batch])
            self._settled |= {event.id: refused.get(index) for index, event in enumerate(batch)}

    def _post(self, payloads: Sequence[str]) -> dict[int, tuple[str, str]]:
        """Post a batch; return which of it are refused, by index, and why.

        An answer that lists so many that it is not read to its end says nothing of the others. So the halves are posted
        again: what was taken is a duplicate then, and what was refused is listed in a shorter answer.
        """
        body = ('{"batch":[' + ",".join(payloads) + "]}").encode()
        answer = self._poster.post(gzip.compress(body, 6) if self._compress else body, self._headers)
        if answer.is_cut and answer.body.lstrip().startswith(b"{") and len(payloads) > 1:
            middle = len(payloads) // 2
            first = self._post(payloads[:middle])
            return first | {index + middle: why for index, why in self._post(payloads[middle:]).items()}
        refused = _refused(json_of(answer).get("rejected"), len(payloads))
        if answer.status >= 300 and len(refused) < len(payloads):
            raise refusal(answer)
        return refused


def _batches(lane: Sequence[StoredEvent]) -> Iterator[list[StoredEvent]]:
    """Cut a lane into batches that the destination takes."""
    batch: list[StoredEvent] = []
    size = 0
    for event in lane:
        length = len(event.payload.encode())
        if batch and (len(batch) == MOST_EVENTS or size + length > MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(event)
        size += length
    yield batch


def _refused(rejected: object, number: int) -> dict[int, tuple[str, str]]:
    """Read the list `rejected` of an answer to a batch, by index; what is none has no such list."""
    refused = {}
    for each in rejected if isinstance(rejected, list) else []:
        if isinstance(each, dict) and each.get("index") in range(number):
            message = str(each.get("message", ""))[:MAX_ERROR_CHARACTERS]
            refused[each["index"]] = str(each.get("code", "rejected"))[:MAX_ERROR_CHARACTERS], message
    return refused
