"""Destinations that misbehave, on loopback."""

import socket
import threading
import time
from contextlib import contextmanager, suppress


@contextmanager
def receiving(serve, reads=True, listens=True):
    """Call `serve` with the connected socket and the bytes of each request. Yield the port.

    Unless it `reads`, call `serve` once for each connection, without a request. Unless it `listens`, refuse connections.
    """
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    if listens:
        listening.listen()
    connections = []

    def converse(connection):
        with connection, suppress(OSError):
            if not reads:
                serve(connection, b"")
                return
            while request := _request(connection):
                serve(connection, request)

    def accept():
        with suppress(OSError):
            while True:
                connections.append(listening.accept()[0])
                threading.Thread(target=converse, args=(connections[-1],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listening.getsockname()[1]
    finally:
        for each in (listening, *connections):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextmanager
def black_hole():
    """Yield a port on which connecting never succeeds or fails, as behind a firewall that drops packets."""
    with socket.socket() as listening, socket.socket() as first, socket.socket() as second:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for each in (first, second):  # they fill the queue of connections to accept
            each.setblocking(False)
            each.connect_ex(listening.getsockname())
        time.sleep(0.1)
        yield listening.getsockname()[1]


def answer(status, body=b"", *headers):
    """Return the bytes of an answer."""
    lines = [f"HTTP/1.1 {status} Status", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _request(connection):
    head = b""
    while b"\r\n\r\n" not in head:
        if not (read := connection.recv(65536)):
            return b""
        head += read
    head, _, body = head.partition(b"\r\n\r\n")
    (length,) = (
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
    )
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body
