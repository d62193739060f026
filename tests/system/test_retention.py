"""Old events and all data of a person are deleted while clients post, and nothing else is."""

import random
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from service import Clients

PEOPLE = 50


def secrets(person):
    """Return what must not be left of a person: ids, also those known only from aliases and events, and a trait."""
    return [
        f"user-{person:02}-id",
        f"device-{person:02}-id",
        f"before-{person:02}-id",
        f"mail-{person:02}@host.example",
    ]


def event(person, chance):
    """Return a random event of a person. Some are larger than a page of SQLite."""
    user, device, before, mail = secrets(person)
    kind = chance.randrange(20)
    if kind == 0:
        return {"type": "alias", "userId": user, "previousId": before}
    if kind == 1:
        return {"type": "identify", "userId": user, "anonymousId": device, "traits": {"email": mail}}
    if kind == 2:
        return {"type": "track", "userId": user, "traits": mail}  # refused, since it lacks `event`
    ids = {"anonymousId": device} if kind < 8 else {"userId": before} if kind < 10 else {"userId": user}
    return {"type": "track", "event": "Posted", "properties": {"mail": mail * chance.choice([1, 1, 5, 20, 300])}, **ids}


def post_people(service, events):
    chance = random.Random(1)
    batches = [[event(chance.randrange(PEOPLE), chance) for _ in range(500)] for _ in range(events // 500)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda batch: service.post("/v1/batch", {"batch": batch}), batches))
    assert {status for status, _ in answers} == {200}


@pytest.mark.parametrize("number", [4, pytest.param(30, marks=pytest.mark.full)])
def test_forgetting_people_under_load_leaves_no_byte(running, number):
    """First 20 ids that aliases connect, so that many rows move to other pages. Then single people."""
    post_people(running, 20_000)
    (first, *rest), others = [secrets(person)[0] for person in range(30, PEOPLE)], range(30)
    running.post("/v1/batch", {"batch": [{"type": "alias", "userId": first, "previousId": each} for each in rest]})
    wal = Path(f"{running.database}-wal")
    with Clients(running.port, 8, per_connection=20) as clients:
        for people in [range(30, PEOPLE), *([person] for person in random.Random(2).sample(others, number))]:
            said = running.flask("events", "forget", secrets(people[0])[0], "--yes").stdout
            found = {f"user-{people[0]:02}-id", *said.splitlines()[0].replace(",", "").split()}
            content = running.database.read_bytes() + wal.read_bytes() + backup(running)
            for person in people:
                assert set(secrets(person)[:3]) <= found
                assert [secret for secret in secrets(person) if secret.encode() in content] == []
            clients.go_on(50)
    assert clients.refused == clients.failed == []
    assert clients.acknowledged_ids() <= running.message_ids()
    assert running.query("SELECT count(DISTINCT user_id) FROM events WHERE user_id LIKE 'user-%'") == [(30 - number,)]
    assert "The log is intact" in running.flask("events", "check").stdout


def backup(service):
    """Return the bytes of a backup."""
    copy = service.folder / "backup.db"
    service.flask("events", "backup", copy)
    content = copy.read_bytes()
    copy.unlink()
    return content


def test_a_prune_under_load_keeps_new_and_undelivered_events(running):
    for start in range(0, 20_000, 1000):
        batch = [{"type": "track", "userId": "1", "event": "Posted", "messageId": f"m{start + n}"} for n in range(1000)]
        assert running.post("/v1/batch", {"batch": batch})[1]["stored"] == 1000
    with closing(sqlite3.connect(running.database)) as other, other:
        other.execute("UPDATE events SET received_at = '2015-11-10T00:45:23.412Z' WHERE id <= 10000")
    running.flask("destinations", "add", "dead", "webhook+http://127.0.0.1:9", "--from", "9001")
    with Clients(running.port, 8, per_connection=20) as clients:
        clients.go_on()
        pruned = running.flask("events", "prune", "--older-than", "30d", check=False)
        clients.go_on()
    assert pruned.stdout.startswith(
        "Deleted 9000 events and 0 rejections; kept 1000 events that a destination has not received\n"
        "  dead has held 1000 of them since 20"
    )
    assert pruned.returncode == 1
    assert clients.refused == clients.failed == []
    ids = [id for (id,) in running.query("SELECT id FROM events ORDER BY id")]
    assert ids[:11_000] == list(range(9001, 20_001))
    assert len(ids) - 11_000 == len(clients.acknowledged)
    assert "The log is intact" in running.flask("events", "check").stdout
    running.flask("destinations", "remove", "dead", "--yes")
    pruned = running.flask("events", "prune", "--older-than", "30d")
    assert pruned.stdout == "Deleted 1000 events and 0 rejections\n"
