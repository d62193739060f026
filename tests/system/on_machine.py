"""Run in a machine, next to the service: `receive` is a destination with the API, `send` a few patient senders.

Needs nothing but Python's standard library.
"""

import base64
import http.client
import json
import signal
import ssl
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SENDERS = 4
PAUSE_SECONDS = 0.02


class Receiver(BaseHTTPRequestHandler):
    """Accept every batch, and append a line for each event to a file: the key and the event's messageId."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = base64.b64decode(self.headers["Authorization"].split()[1]).decode()
        with open("/root/received", "a") as file:
            file.writelines(f"{key} {event['messageId']}\n" for event in body["batch"])
        answer = b'{"success": true}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def receive(port):
    ThreadingHTTPServer(("127.0.0.1", int(port)), Receiver).serve_forever()


def send(host, source_id, report):
    """Post until SIGTERM, over TLS. Write the acknowledged messageIds and every failure to a file."""
    acknowledged, failures, stop = [], [], threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    context = ssl.create_default_context(cafile="/etc/ssl/tracklog/fullchain.pem")
    headers = {"Authorization": "Basic " + base64.b64encode(f"{source_id}:".encode()).decode()}

    def post():
        while not stop.is_set():
            event = {"userId": "1", "event": "Posted", "messageId": str(uuid.uuid4())}
            connection = http.client.HTTPSConnection(host, timeout=60, context=context)
            try:
                connection.request("POST", "/v1/track", json.dumps(event), headers)
                answer = connection.getresponse()
                text = answer.read().decode()
                (acknowledged if answer.status == 200 else failures).append(
                    event["messageId"] if answer.status == 200 else f"{answer.status} {text}"
                )
            except (OSError, http.client.HTTPException) as failure:
                failures.append(repr(failure))
            finally:
                connection.close()
            time.sleep(PAUSE_SECONDS)

    threads = [threading.Thread(target=post) for _ in range(SENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    Path(report).write_text(json.dumps({"acknowledged": acknowledged, "failures": failures}))


if __name__ == "__main__":
    {"receive": receive, "send": send}[sys.argv[1]](*sys.argv[2:])
