"""kafka://broker,broker/topic?option=value: Apache Kafka or a compatible broker. The options are librdkafka's.

The key is the userId or the anonymousId, so that a user's events are in one partition. Failures do not change their
order: a retry sends the whole batch, and an earlier attempt can only have stored the beginning of it, without a gap.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from time import monotonic
from urllib.parse import SplitResult

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from eventlog import StoredEvent

from .delivery import Deliverer, DeliveryRejected, Outcome, RetryLater

ACKNOWLEDGE_SECONDS = 10.0  # for a whole batch, before the attempt counts as failed
POLL_SECONDS = 0.2  # between two checks for `abort`

DEFAULTS: dict[str, str | int] = {
    "client.id": "tracklog",
    "compression.type": "lz4",
    "partitioner": "murmur2_random",  # as Java's producers
    "reconnect.backoff.max.ms": 2000,
    "log_level": 3,  # errors
}
# The guarantees depend on these.
FIXED: dict[str, str | int] = {
    "acks": "all",
    "enable.idempotence": True,
    "enable.gapless.guarantee": True,  # stop at the first rejected message, so that no later one overtakes it
    "max.in.flight.requests.per.connection": 1,  # the same before the broker knows the producer
    "delivery.timeout.ms": 0,  # never give a message up, which later ones would overtake
    "queue.buffering.max.messages": 100_000,
    "queue.buffering.max.kbytes": 1_048_576,
}

# Errors that an event of the batch causes. All others come from the cluster or its settings.
REJECTIONS = {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.INVALID_RECORD,
    KafkaError._INVALID_DIFFERENT_RECORD,
    KafkaError.INVALID_TIMESTAMP,
}


def from_url(parts: SplitResult, options: dict[str, str]) -> "Kafka":
    topic = parts.path.strip("/")
    if not topic or "/" in topic:
        raise ValueError("it names no topic, as in kafka://broker:9092/topic")
    if not parts.netloc or "@" in parts.netloc:
        raise ValueError("it needs brokers, and takes a user only as the options sasl.username and sasl.password")
    if taken := sorted(FIXED.keys() & options.keys()):
        raise ValueError(f"{', '.join(taken)} cannot be set")
    try:
        return Kafka(topic, DEFAULTS | options | {"bootstrap.servers": parts.netloc} | FIXED)
    except (KafkaException, TypeError) as error:
        raise ValueError(str(error)) from error


class Kafka(Deliverer):
    """Produces batches. An unacknowledged batch stays in the producer, and a retry only waits for it."""

    max_events = 2000
    max_bytes = 2_000_000

    def __init__(self, topic: str, settings: Mapping[str, object]) -> None:
        self._topic = topic
        self._settings: dict[str, object] = dict(settings) | {"logger": self}
        self._producer = Producer(self._settings)
        self._aborted = False
        self._trouble = ""  # librdkafka's last message about the cluster
        self._events: Sequence[StoredEvent] = ()  # in the producer
        self._failed: dict[int, KafkaError] = {}
        self._rejected: dict[int, KafkaError] = {}

    def deliver(self, events: Sequence[StoredEvent]) -> Outcome:
        if events != self._events:
            if self._events:
                self._reopen()
            self._produce(events)
        if left := self._wait():
            # The producer keeps trying, and knows which ones a broker has. So the next attempt only waits for them.
            trouble = self._trouble or "no answer"
            raise RetryLater(
                f"{left} of {len(events)} events are not acknowledged after {ACKNOWLEDGE_SECONDS:.0f} s: {trouble}"
            )
        self._events = ()
        if self._failed:
            failed, trouble = list(self._failed.values()), self._trouble
            self._reopen()
            for error in failed:
                if error.code() in REJECTIONS:
                    raise DeliveryRejected(error.name(), _text(error))
            raise RetryLater(trouble or _text(failed[0]))
        return Outcome({index: (error.name(), _text(error)) for index, error in self._rejected.items()})

    def abort(self) -> bool:
        self._aborted = True
        return False

    def close(self) -> None:
        self._producer.purge()
        del self._producer  # Producer.close() would flush first, and raise an error for the purged messages

    def _reopen(self) -> None:
        """Drop the batch in the producer. A broker may still store messages that it has received, but no later ones."""
        self.close()
        self._producer = Producer(self._settings)
        self._events = ()

    def _produce(self, events: Sequence[StoredEvent]) -> None:
        self._events = events
        self._trouble = ""
        self._failed, self._rejected = {}, {}
        for index, event in enumerate(events):
            try:
                self._producer.produce(
                    self._topic,
                    event.payload.encode(),
                    event.user_id or event.anonymous_id,
                    headers=[("type", event.type), ("source", event.source), ("messageId", event.message_id)],
                    on_delivery=partial(_note, self._failed, index),
                )
            except KafkaException as error:
                if error.args[0].code() != KafkaError.MSG_SIZE_TOO_LARGE:
                    self._reopen()  # so that no later event overtakes this one
                    raise RetryLater(_text(error.args[0])) from error
                self._rejected[index] = error.args[0]

    def _wait(self) -> int:
        """Wait until every message is acknowledged or has failed; return how many are not."""
        until = monotonic() + ACKNOWLEDGE_SECONDS
        while (left := len(self._producer)) and (seconds := until - monotonic()) > 0 and not self._aborted:
            try:
                # flush() cannot call back after a fatal error.
                self._producer.poll(min(seconds, POLL_SECONDS))
            except KafkaException:
                self._producer.purge()  # fatal: failed messages are still reported, and nothing more is sent
        return left

    def log(self, _level: int, _form: str, *words: str) -> None:
        """Keep the last message of librdkafka, which takes this object for a logger."""
        self._trouble = words[-1].partition("]: ")[2] or words[-1]


def _note(failed: dict[int, KafkaError], index: int, error: KafkaError | None, _message: Message) -> None:
    if error:
        failed[index] = error


def _text(error: KafkaError) -> str:
    return f"{error.name()}: {error.str()}"
