"""kafka://broker,broker/topic?option=value: Apache Kafka, or what speaks its protocol; the options are librdkafka's.

The key is the userId or the anonymousId, so that a user's events are in one partition. They stay in order there,
whatever fails: a repeat is the whole batch, and what an earlier try still brings is a beginning of it, without a gap.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from time import monotonic
from urllib.parse import SplitResult

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from eventlog import StoredEvent

from .delivery import AtOnce, DeliveryRejected, RetryLater, Settled

WAIT = 10.0  # seconds for all of a batch to be acknowledged, before it counts as a failure
SLICE = 0.2  # seconds of that between two looks at whether it is to end

DEFAULTS: dict[str, str | int] = {
    "client.id": "tracklog",
    "compression.type": "lz4",
    "partitioner": "murmur2_random",  # that of Java's producers
    "reconnect.backoff.max.ms": 2000,
    "log_level": 3,  # errors
}
# What the guarantees rest on.
FIXED: dict[str, str | int] = {
    "acks": "all",
    "enable.idempotence": True,
    "enable.gapless.guarantee": True,  # nothing overtakes a message that was refused,
    "max.in.flight.requests.per.connection": 1,  # not even where the broker has not heard of the producer before,
    "delivery.timeout.ms": 0,  # nor one that has waited too long
    "queue.buffering.max.messages": 100_000,
    "queue.buffering.max.kbytes": 1_048_576,
}

# Errors that the event, or one beside it, is the cause of. All others are the cluster's, or a matter of settings.
REFUSALS = {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.INVALID_RECORD,
    KafkaError._INVALID_DIFFERENT_RECORD,
    KafkaError.INVALID_TIMESTAMP,
}


def open(parts: SplitResult, options: dict[str, str]) -> "Kafka":
    topic = parts.path.strip("/")
    if not topic or "/" in topic:
        raise ValueError("it names no topic, as in kafka://broker:9092/topic")
    if not parts.netloc or "@" in parts.netloc:
        raise ValueError("it needs brokers; a user is the options sasl.username and sasl.password")
    if taken := sorted(FIXED.keys() & options.keys()):
        raise ValueError(f"{', '.join(taken)} cannot be set")
    try:
        return Kafka(topic, DEFAULTS | options | {"bootstrap.servers": parts.netloc} | FIXED)
    except (KafkaException, TypeError) as error:
        raise ValueError(str(error)) from error


class Kafka(AtOnce):
    most_events = 2000
    most_bytes = 2_000_000

    def __init__(self, topic: str, settings: Mapping[str, object]) -> None:
        self._topic = topic
        self._settings: dict[str, object] = dict(settings) | {"logger": self}
        self._producer = Producer(self._settings)
        self._aborted = False
        self._trouble = ""  # what the producer last said of the cluster
        self._events: Sequence[StoredEvent] = ()  # under way
        self._failed: dict[int, KafkaError] = {}
        self._refused: dict[int, KafkaError] = {}

    def deliver(self, events: Sequence[StoredEvent]) -> Settled:
        if events != self._events:
            if self._events:
                self._reopen()
            self._produce(events)
        if left := self._wait():
            # The producer goes on with them, and knows which a broker has already; the next try is to wait for them.
            trouble = self._trouble or "no answer"
            raise RetryLater(f"{left} of {len(events)} events are not acknowledged after {WAIT:.0f} s: {trouble}")
        self._events = ()
        if self._failed:
            failed, trouble = list(self._failed.values()), self._trouble
            self._reopen()
            for error in failed:
                if error.code() in REFUSALS:
                    raise DeliveryRejected(error.name(), _text(error))
            raise RetryLater(trouble or _text(failed[0]))
        return Settled({index: (error.name(), _text(error)) for index, error in self._refused.items()})

    def abort(self) -> bool:
        self._aborted = True
        return False

    def close(self) -> None:
        self._producer.purge()
        del self._producer  # which ends it; its close would flush first, and raise what it hears of the purged

    def _reopen(self) -> None:
        """Drop what is under way; what a broker has got of it may still be stored, but nothing after it."""
        self.close()
        self._producer = Producer(self._settings)
        self._events = ()

    def _produce(self, events: Sequence[StoredEvent]) -> None:
        self._events = events
        self._trouble = ""
        self._failed, self._refused = {}, {}
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
                    self._reopen()  # before what comes next could overtake it
                    raise RetryLater(_text(error.args[0])) from error
                self._refused[index] = error.args[0]

    def _wait(self) -> int:
        """Wait for the reports of all that was produced; return how many are missing."""
        until = monotonic() + WAIT
        while (left := len(self._producer)) and (seconds := until - monotonic()) > 0 and not self._aborted:
            try:
                self._producer.poll(
                    min(seconds, SLICE)
                )  # and no flush, which does not bear a callback after a fatal error
            except KafkaException:
                self._producer.purge()  # fatal: what was refused is reported still, and nothing more is sent
        return left

    def log(self, _level: int, _form: str, *words: str) -> None:
        """Take what librdkafka says, as a logger does."""
        self._trouble = words[-1].partition("]: ")[2] or words[-1]


def _note(failed: dict[int, KafkaError], index: int, error: KafkaError | None, _message: Message) -> None:
    if error:
        failed[index] = error


def _text(error: KafkaError) -> str:
    return f"{error.name()}: {error.str()}"
