"""A real Kafka gets every event, each user's in order, although broker and forwarder are killed."""

import json
import random
from contextlib import ExitStack

import pytest
from broker import Broker, Topic
from forwarder import forwarder
from service import EVENT, wait_until

USERS = 50
EVENTS = 20_000


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    broker = Broker(tmp_path_factory.mktemp("kafka"))
    yield broker
    broker.kill()


def post_events(service, number):
    """Post events, half of them with only an anonymousId. The messageId is the event's number."""
    for start in range(0, number, 1000):
        batch = [
            {
                "type": "track",
                "messageId": str(n),
                "userId" if n % 2 else "anonymousId": f"user-{n % USERS}",
                "event": "Added File",
                "properties": {"fileType": "PDF"},
            }
            for n in range(start, start + 1000)
        ]
        status, answer = service.post("/v1/batch", {"batch": batch})
        assert (status, answer.get("rejected", [])) == (200, []), answer


def positions(service):
    return [position for (position,) in service.query("SELECT position FROM destinations")]


@pytest.mark.parametrize("kills", [4, pytest.param(7, marks=pytest.mark.full)])
def test_kills_of_broker_and_forwarder_lose_no_event(running, broker, kills):
    """Each user's events are in one partition, in order."""
    post_events(running, EVENTS)
    name = f"events-{kills}"
    broker.add_topic(name, 6)
    # With small requests, each kill interrupts a delivery.
    running.flask("destinations", "add", "kafka", f"kafka://{broker.address}/{name}?batch.num.messages=10")
    with Topic(broker.address, name) as topic, ExitStack() as forwarders:
        process = forwarders.enter_context(forwarder(running))
        for number, more in enumerate([700, 2500, 1500, 3300, 900, 2800, 400][:kills]):
            seen = topic.size()
            wait_until(lambda seen=seen, more=more: topic.size() > seen + more)
            assert positions(running) < [EVENTS]
            if number in (1, 4):
                broker.kill()
                broker.start()
                wait_until(topic.size)
            else:
                process.kill()
                process.wait()
                process = forwarders.enter_context(forwarder(running))
        wait_until(lambda: positions(running) == [EVENTS], 120)
        records = topic.read()
    values, numbers = {}, {}
    for record in records:
        event = json.loads(record.value)
        assert record.headers == {"type": "track", "source": "example", "messageId": event["messageId"]}
        assert record.key == event.get("userId", event.get("anonymousId"))
        if values.setdefault(event["messageId"], record.value) == record.value:
            numbers.setdefault(record.key, {}).setdefault(int(event["messageId"]))
    assert len(values) == EVENTS
    assert len(numbers) == USERS
    assert all(list(each) == sorted(each) for each in numbers.values())
    assert len({(record.key, record.partition) for record in records}) == USERS
    assert running.query("SELECT count(*) FROM dead_letters") == [(0,)]


def test_an_event_that_the_topic_rejects_becomes_a_dead_letter(running, broker):
    broker.add_topic("small", 1, max_message_bytes="5000")
    random.seed(1)
    for n in range(10):
        text = random.randbytes(8000 if n == 4 else 80).hex()
        event = EVENT | {"messageId": str(n), "properties": {"text": text}}
        assert running.post("/v1/track", event)[0] == 200
    running.flask("destinations", "add", "kafka", f"kafka://{broker.address}/small")
    ended = running.flask("forward", "--once", check=False)
    assert ended.returncode == 1
    assert "dead letters: 1" in ended.stderr
    assert "MSG_SIZE_TOO_LARGE" in running.flask("destinations", "dead", "kafka").stdout
    with Topic(broker.address, "small") as topic:
        arrived = dict.fromkeys(record.headers["messageId"] for record in topic.read())
    assert list(arrived) == [str(n) for n in range(10) if n != 4]
