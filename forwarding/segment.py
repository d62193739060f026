"""https://KEY@host/v1/batch: a service with this API, such as another tracklog. `?gzip=true` compresses.

Each event carries its messageId and both times, so a tracklog stores it once and does not correct its time again.
"""

import gzip
import json
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import wait
from functools import partial
from typing import Any
from urllib.parse import SplitResult, unquote
from zlib import crc32

from eventlog import StoredEvent

from .delivery import DeliveryRejected, Outcome, RetryLater
from .http import MAX_ERROR_CHARACTERS, Poster, describe
from .threads import run_in_thread

MAX_POST_EVENTS = 1000  # an answer lists at most as many rejections
MAX_POST_BYTES = 450_000  # services of this API take 500 KB
LANES = 8  # POSTs at the same time
POSTS_PER_LANE = 4  # in one delivery


def from_url(parts: SplitResult, options: dict[str, str], headers: Mapping[str, str] = {}) -> "Segment":
    key = unquote(parts.netloc.rpartition("@")[0]).rstrip(":")  # also in the form of curl's -u KEY:
    if not key:
        raise ValueError("it needs a key, as in https://KEY@host/v1/batch")
    compress = options.pop("gzip", "") == "true"
    return Segment(key, compress, parts, options, headers)


class Segment(Poster):
    """Posts over several lanes at a time. A user's events use one lane, which keeps their order."""

    max_events = LANES * POSTS_PER_LANE * MAX_POST_EVENTS
    max_bytes = LANES * POSTS_PER_LANE * MAX_POST_BYTES

    def __init__(
        self, key: str, compress: bool, parts: SplitResult, options: dict[str, str], headers: Mapping[str, str]
    ) -> None:
        super().__init__(parts, options, headers)
        self._headers["Authorization"] = "Basic " + b64encode(f"{key}:".encode()).decode()
        if compress:
            self._headers["Content-Encoding"] = "gzip"
        self._compress = compress
        # By event id: None, or code and message of a rejection. If one lane fails, the others are not repeated.
        self._outcomes: dict[int, tuple[str, str] | None] = {}
        self._is_working = False  # a POST of the last delivery succeeded

    def deliver(self, events: Sequence[StoredEvent]) -> Outcome:
        lanes: list[list[StoredEvent]] = [[] for _ in range(LANES)]
        for event in events:
            if event.id not in self._outcomes:
                lanes[crc32((event.user_id or event.anonymous_id or "").encode()) % LANES].append(event)
        busy = [lane for lane in lanes if lane]
        was_working, self._is_working = self._is_working, False
        if busy and not was_working:
            self._deliver_lane(busy.pop())  # alone, so that a destination in trouble gets one POST
        under_way = [run_in_thread(partial(self._deliver_lane, lane)) for lane in busy]
        wait(under_way)  # even if one fails: the next delivery must not overtake the others
        for lane in under_way:
            lane.result()
        outcomes = [self._outcomes.pop(event.id) for event in events]
        return Outcome({index: why for index, why in enumerate(outcomes) if why})

    def _deliver_lane(self, lane: Sequence[StoredEvent]) -> None:
        for batch in _batches(lane):
            rejected = self._post_batch([event.payload for event in batch])
            self._outcomes |= {event.id: rejected.get(index) for index, event in enumerate(batch)}
            self._is_working = True

    def _post_batch(self, payloads: Sequence[str]) -> dict[int, tuple[str, str]]:
        """Post a batch; return code and message of its rejected events, by index.

        If the list of rejections is too long to be read, post the two halves again. Their answers are shorter, and
        events that were stored are duplicates then.
        """
        body = ('{"batch":[' + ",".join(payloads) + "]}").encode()
        answer = self.post(gzip.compress(body, 6) if self._compress else body)
        if answer.is_cut and answer.body.lstrip().startswith(b"{") and len(payloads) > 1:
            middle = len(payloads) // 2
            first = self._post_batch(payloads[:middle])
            return first | {index + middle: why for index, why in self._post_batch(payloads[middle:]).items()}
        content = _read_object(answer.body)
        rejected = _read_rejected(content.get("rejected"), len(payloads))
        if answer.status >= 300 and len(rejected) < len(payloads):
            raise DeliveryRejected(str(answer.status), describe(answer))
        if answer.status < 300 and content.get("success") is not True:
            raise RetryLater(f"Not an answer of this API: {describe(answer)}")
        return rejected


def _batches(lane: Sequence[StoredEvent]) -> Iterator[list[StoredEvent]]:
    """Cut a lane into batches of one POST each."""
    batch: list[StoredEvent] = []
    size = 0
    for event in lane:
        length = len(event.payload.encode())
        if batch and (len(batch) == MAX_POST_EVENTS or size + length > MAX_POST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(event)
        size += length
    yield batch


def _read_object(body: bytes) -> dict[str, Any]:
    """Return an answer's JSON object, or an empty one if it is anything else."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _read_rejected(listed: object, number: int) -> dict[int, tuple[str, str]]:
    """Return code and message by index from an answer's `rejected`, ignoring all that has another form."""
    rejected = {}
    for each in listed if isinstance(listed, list) else []:
        if isinstance(each, dict) and each.get("index") in range(number):
            message = str(each.get("message", ""))[:MAX_ERROR_CHARACTERS]
            rejected[each["index"]] = str(each.get("code", "rejected"))[:MAX_ERROR_CHARACTERS], message
    return rejected
