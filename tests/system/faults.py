"""Put a service under load and compare its log with the answers, for the tests of faults."""

import os
import re
import signal

from service import Clients, posted, wait_until

MAX_SECONDS_TO_503 = 5


def load(service, number, event=posted):
    """Return clients that put every worker under load."""
    return Clients(service.port, number, event, per_connection=20)


def check_counts(service):
    """Compare the counts with the rows, and check the file's integrity."""
    assert service.query("PRAGMA integrity_check") == [("ok",)]
    counted = dict(service.query("SELECT outcome, sum(count) FROM counts GROUP BY outcome"))
    ((events,),) = service.query("SELECT count(*) FROM events")
    ((rejected,),) = service.query("SELECT coalesce(sum(times_seen), 0) FROM rejected")
    assert (counted.get("stored", 0), counted.get("rejected", 0)) == (events, rejected)
    sums = re.search(
        r"(\d+) received = (\d+) stored \+ (\d+) duplicates \+ (\d+) rejected", service.flask("events", "stats").stdout
    )
    received, *parts = map(int, sums.groups())
    assert parts == [events, counted.get("duplicate", 0), rejected]
    assert received == sum(parts)


def send_again(service, *clients):
    """Send the events without a 200 or 400 again, as clients do."""
    ids = [answer.message_id for each in clients for answer in each.refused if answer.status == 503]
    ids += [message_id for each in clients for message_id in each.failed]
    batch = [{"type": "track", "userId": "1", "event": "Again", "messageId": message_id} for message_id in ids]
    status, receipt = service.post("/v1/batch", {"batch": batch}) if batch else (200, {"received": 0})
    assert (status, receipt["received"]) == (200, len(ids))


def kill(pid):
    os.kill(pid, signal.SIGKILL)


def kill_worker(service):
    """Kill a worker and wait for its replacement."""
    victim, *others = wait_until(service.workers)
    kill(victim)
    wait_until(lambda: set(service.workers()) - {victim, *others})


def many(number):
    """Return a batch of `number` track events."""
    return {"batch": [posted("batch", count) | {"type": "track"} for count in range(number)]}


def large(client, count):
    return posted(client, count) | {"properties": {"text": f"{client}-{count} " * 1500}}


def reason(service):
    """Return the reason in the first storage_trouble line."""
    return service.lines("storage_trouble")[0]["reason"]
