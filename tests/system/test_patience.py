"""No request delays others for long."""

import json
import socket
import threading
import time
from contextlib import ExitStack

from service import AUTHENTICATION, EVENT


def test_300_unfinished_requests_delay_no_other(running):
    lines = ["POST /v1/track HTTP/1.1", "Host: x", f"Authentication: {AUTHENTICATION['Authentication']}"]
    sent = "\r\n".join([*lines, "Content-Length: 100", "", "{"]).encode()
    with ExitStack() as stack:
        for _ in range(300):
            half = stack.enter_context(socket.create_connection(("127.0.0.1", running.port)))
            half.sendall(sent)
        for _ in range(20):
            assert running.post("/v1/track", EVENT)[0] == 200


def test_a_batch_of_8_mib_delays_no_other(service):
    """A single worker has to answer others while it works on the batch."""
    service.start("--workers", "1")
    item = {"type": "track", "userId": "1", "event": "Posted", "properties": {"text": "x" * 250}}
    batch = json.dumps({"batch": [item] * 25_000})
    assert 8_000_000 < len(batch) <= 8 * 1024 * 1024
    answers = []
    thread = threading.Thread(target=lambda: answers.append(service.post("/v1/batch", batch)))
    thread.start()
    waits = []
    with service.connection() as connection:
        while thread.is_alive():
            asked = time.monotonic()
            connection.request("GET", "/healthz")
            assert connection.getresponse().read()
            waits.append(time.monotonic() - asked)
    assert answers[0][0] == 200
    assert answers[0][1]["stored"] == 25_000
    said = f"{len(waits)} answers in {sum(waits):.1f} s, the longest after {max(waits) * 1000:.0f} ms"
    assert max(waits) < sum(waits) / 5, said
    print(said)
