"""Senders that close as soon as they have sent, such as PHP's socket consumers, lose no event."""

import fcntl
import json
import socket
import ssl
import struct
import termios
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from service import AUTHENTICATION, wait_until

POSTS = 600
LARGEST_PADDING = 20_000


def close(connection):
    connection.close()


def half_close(connection):
    """Close the sending side, as a client does that will not send more. TLS goes without its farewell."""
    connection.shutdown(socket.SHUT_WR)
    connection.close()


def wait_for_arrival(connection):
    """Wait until the other side's kernel has all bytes."""
    wait_until(lambda: fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0" * 4) == b"\0" * 4)


def reset(connection):
    """Abort the connection, once all bytes have arrived."""
    wait_for_arrival(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def say_farewell(connection):
    """Close as TLS prescribes, without waiting for the other side's farewell."""
    connection.settimeout(0)
    with suppress(ssl.SSLError):  # the farewell is sent; the other side's data is unread
        connection.unwrap()
    connection.close()


PLAIN_ENDINGS = [close, half_close, reset]
TLS_ENDINGS = [*PLAIN_ENDINGS, say_farewell]


def request(number, padding):
    body = json.dumps({"userId": "1", "event": "Posted", "messageId": str(number), "padding": "x" * padding})
    lines = ["POST /v1/track HTTP/1.1", "Host: x", f"Authentication: {AUTHENTICATION['Authentication']}"]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", body]).encode()


def connect(port, context):
    connection = socket.create_connection(("127.0.0.1", port), 30)
    return context.wrap_socket(connection, server_hostname="localhost") if context else connection


def send_and_leave(port, context, numbers, endings):
    """Post an event with each of the numbers and wait for no answer. The sizes go up to 20 KB."""

    def send(number):
        connection = connect(port, context)
        connection.sendall(request(number, 1 + number * 97 % LARGEST_PADDING))
        if context:  # closing resets the connection, since the server's session tickets are unread
            wait_for_arrival(connection)
        endings[number % len(endings)](connection)

    with ThreadPoolExecutor(8) as senders:
        list(senders.map(send, numbers))


def assert_stored(service, number):
    def count():
        return service.query("SELECT count(*) FROM events")[0][0]

    try:
        wait_until(lambda: count() >= number)
    finally:
        print(f"{count()} of {number} stored")
    assert count() == number


def test_600_posts_through_nginx_are_stored(nginx, service):
    context = ssl.create_default_context(cafile=nginx.folder / "certificate.pem")
    send_and_leave(nginx.port, None, range(POSTS // 2), PLAIN_ENDINGS)
    send_and_leave(nginx.tls_port, context, range(POSTS // 2, POSTS), TLS_ENDINGS)
    assert_stored(service, POSTS)


def test_posts_to_gunicorn_are_stored(running):
    send_and_leave(running.port, None, range(120), PLAIN_ENDINGS)
    assert_stored(running, 120)


@pytest.mark.parametrize("transport", ["plain", "tls"])
def test_a_client_that_closes_its_sending_side_gets_its_answer(nginx, transport):
    context = ssl.create_default_context(cafile=nginx.folder / "certificate.pem") if transport == "tls" else None
    with connect(nginx.tls_port if context else nginx.port, context) as connection:
        connection.sendall(request(1, LARGEST_PADDING))
        socket.socket.shutdown(connection, socket.SHUT_WR)
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


def test_a_client_that_leaves_before_its_body_is_complete_stores_nothing(nginx, service):
    for ending in PLAIN_ENDINGS:
        connection = connect(nginx.port, None)
        connection.sendall(request(1, 100)[:-1])
        ending(connection)
    send_and_leave(nginx.port, None, [2], [close])
    assert_stored(service, 1)
