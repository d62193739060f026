"""Kafka gets each user's events in order and names those that it rejects, in librdkafka's mock cluster."""

import json
import threading
from contextlib import contextmanager

import pytest
from broker import Topic
from confluent_kafka import Producer
from factories import event, stored_event
from service import wait_until

import eventlog
from forwarding import Forwarder, Outcome, RetryLater, kafka, open_deliverer


@contextmanager
def cluster(**settings):
    """Run three brokers, which live as long as their client."""
    with Producer({"test.mock.num.brokers": 3} | settings) as owner:
        brokers = owner.list_topics(timeout=10).brokers.values()
        yield ",".join(f"{broker.host}:{broker.port}" for broker in brokers)


@pytest.fixture(scope="module")
def brokers():
    with cluster() as brokers:
        yield brokers


@pytest.fixture(scope="module")
def slow_brokers():
    """Brokers that answer slowly."""
    with cluster(**{"test.mock.broker.rtt": 50}) as brokers:
        yield brokers


@pytest.fixture
def open_topic():
    """Return a function that opens a topic, and closes it after the test."""
    opened = []

    def open(url):
        opened.append(open_deliverer(url))
        return opened[-1]

    yield open
    for kind in opened:
        kind.close()


def events(*numbers, text=""):
    """Return events of three users, one of them anonymous."""
    made = []
    for number in numbers:
        user, anonymous = (None, "0") if number % 3 == 0 else (str(number % 3), None)
        payload = json.dumps({"messageId": str(number), "text": text})
        made.append(stored_event(number, user_id=user, anonymous_id=anonymous, payload=payload))
    return made


def numbers(records, key):
    return [int(record.headers["messageId"]) for record in records if record.key == key]


def read(brokers, name):
    with Topic(brokers, name) as topic:
        return topic.read()


def is_delivered(kind, events):
    try:
        return kind.deliver(events) == Outcome()
    except RetryLater:
        return False


def test_a_user_is_the_key_and_the_event_the_value(brokers, open_topic):
    assert open_topic(f"kafka://{brokers}/plain").deliver(events(*range(1, 31))) == Outcome()
    records = read(brokers, "plain")
    for record in records:
        number = json.loads(record.value)["messageId"]
        assert record.headers == {"type": "track", "source": "example", "messageId": number}
        assert record.key == str(int(number) % 3)
    for key in "012":
        assert numbers(records, key) == [n for n in range(1, 31) if str(n % 3) == key]


def test_a_log_is_forwarded_once_and_in_order(brokers, log):
    log.append([event(n, user_id=str(n % 3)) for n in range(1, 5001)])
    log.destinations.add("kafka", f"kafka://{brokers}/whole", (), (), 0)
    assert Forwarder(log, "kafka", stop=threading.Event(), once=True).run() is True
    records = read(brokers, "whole")
    assert len(records) == 5000
    assert all(numbers(records, key) == sorted(numbers(records, key)) for key in "012")


def test_an_event_above_the_message_limit_is_rejected_alone(brokers, open_topic):
    kind = open_topic(f"kafka://{brokers}/limited?message.max.bytes=2000")
    settled = kind.deliver([*events(1), *events(2, text="x" * 2000), *events(3)])
    assert list(settled.rejected) == [1]
    assert settled.rejected[1][0] == "MSG_SIZE_TOO_LARGE"
    assert sorted(record.headers["messageId"] for record in read(brokers, "limited")) == ["1", "3"]


def test_a_late_acknowledgement_is_awaited_without_a_resend(slow_brokers, open_topic, monkeypatch):
    monkeypatch.setattr(kafka, "ACKNOWLEDGE_SECONDS", 0.01)
    kind = open_topic(f"kafka://{slow_brokers}/slow")
    for batch in (events(1, 2, 3), events(4, 5, 6)):
        assert not is_delivered(kind, batch)
        wait_until(lambda batch=batch: is_delivered(kind, batch))
    assert len(read(slow_brokers, "slow")) == 6


def test_a_batch_follows_one_that_is_unacknowledged(slow_brokers, open_topic, monkeypatch):
    monkeypatch.setattr(kafka, "ACKNOWLEDGE_SECONDS", 0.01)
    kind = open_topic(f"kafka://{slow_brokers}/changed")
    wait_until(lambda: is_delivered(kind, events(1, 4)))
    assert not is_delivered(kind, events(7, 10))
    wait_until(lambda: is_delivered(kind, events(7, 10, 13)))
    found = numbers(read(slow_brokers, "changed"), "1")
    assert list(dict.fromkeys(found)) == [1, 4, 7, 10, 13]


def test_unreachable_brokers_are_retried_with_the_reason(open_topic, monkeypatch):
    monkeypatch.setattr(kafka, "ACKNOWLEDGE_SECONDS", 0.5)
    with pytest.raises(RetryLater, match=r"2 of 2 events are not acknowledged.*Connection refused"):
        open_topic("kafka://127.0.0.1:1/topic").deliver(events(1, 2))


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("kafka://127.0.0.1:1", "it names no topic"),
        ("kafka://127.0.0.1:1/a/b", "it names no topic"),
        ("kafka:///topic", "it needs brokers"),
        ("kafka://somebody:hush@127.0.0.1:1/topic", "sasl.username"),
        ("kafka://127.0.0.1:1/topic?acks=1", "acks cannot be set"),
        ("kafka://127.0.0.1:1/topic?enable.idempotence=false", "enable.idempotence cannot be set"),
        ("kafka://127.0.0.1:1/topic?linger=1", "No such configuration property"),
        ("kafka://127.0.0.1:1/topic?linger.ms=soon", "Invalid value"),
        ("kafka://127.0.0.1:1/topic?security.protocol=ssl&ssl.ca.location=/nowhere", "ssl.ca.location"),
        ("kafka://127.0.0.1:1/topic?on_delivery=1", "callable"),
    ],
)
def test_an_invalid_url_is_rejected_with_a_reason(url, sentence):
    with pytest.raises(eventlog.NotPossible, match=sentence):
        open_deliverer(url)


def test_a_guarantee_cannot_be_weakened_by_an_alias(open_topic, monkeypatch):
    monkeypatch.setattr(kafka, "ACKNOWLEDGE_SECONDS", 0.5)
    with pytest.raises(RetryLater, match="2 of 2 events are not acknowledged"):
        open_topic("kafka://127.0.0.1:1/topic?message.timeout.ms=10").deliver(events(1, 2))
