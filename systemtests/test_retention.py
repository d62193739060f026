"""Old events go while clients post, and nothing else does."""

import sqlite3
from contextlib import closing

from service import Clients


def test_a_prune_under_load_leaves_what_is_young_or_undelivered(running):
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
    assert pruned.stdout == "9000 events and 0 refused bodies are removed; 1000 events stay, which dead lacks\n"
    assert pruned.returncode == 1
    assert clients.refused == clients.failed == []
    ids = [id for (id,) in running.query("SELECT id FROM events ORDER BY id")]
    assert ids[:11_000] == list(range(9001, 20_001))
    assert len(ids) - 11_000 == len(clients.acknowledged)
    assert "The log is whole" in running.flask("events", "check").stdout
    running.flask("destinations", "remove", "dead", "--yes")
    pruned = running.flask("events", "prune", "--older-than", "30d")
    assert pruned.stdout == "1000 events and 0 refused bodies are removed\n"
