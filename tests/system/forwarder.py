"""Run `flask forward`, and receive what it sends."""

import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from service import BIN, PROJECT


@contextmanager
def forwarder(service, *arguments):
    """Run `flask forward` and yield its process; at the end of the block, send it SIGTERM."""
    with open(service.folder / "forward.log", "a") as output:
        process = subprocess.Popen(
            [BIN / "flask", "forward", *arguments], cwd=PROJECT, env=service.environment, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


class Handler(BaseHTTPRequestHandler):
    """Answers each POST with what the server's `answer` returns."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = self.server.answer(self, body)
        if answer is None:
            self.close_connection = True
            return
        status, headers, content = answer
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextmanager
def answering(answer, port=0):
    """Serve `answer` on loopback and yield the port.

    `answer` gets the handler and the body. It returns status, headers and body, or None to close the connection.
    """
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.handle_error = lambda *_: None  # a killed forwarder leaves broken connections
    server.answer = answer
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def repeated(call):
    """Call a function again and again in a thread until the block ends."""
    is_over = threading.Event()

    def run():
        while not is_over.is_set():
            call()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(60)
        assert not thread.is_alive()
