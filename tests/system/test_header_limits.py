"""A request line of 8,190 bytes and headers of 64 KiB in all, cookies included, are accepted, and larger ones refused."""

import http.client
import json
import socket
import threading
from contextlib import ExitStack, suppress

import pytest
from needs import need
from nginx import Nginx
from service import AUTHENTICATION, wait_until
from wire import converse

KEY = b"Host: x\r\nAuthentication: %b\r\nConnection: close\r\n" % AUTHENTICATION["Authentication"].encode()
BODY = b'{"userId": "1", "event": "Posted"}'
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
KIB = 1024
LIMIT = 64 * KIB


def post(*headers, target=b"/v1/track"):
    return b"POST %b HTTP/1.1\r\n%b%b%b\r\n%b" % (target, KEY, LENGTH, b"".join(headers), BODY)


def fill(name, size):
    """Return a header with a name that makes the headers of the request `size` bytes long."""
    return b"%b: %b\r\n" % (name, b"x" * (size - len(KEY + LENGTH) - len(name) - 4))


SITE = b"Cookie: " + b"; ".join(b"_ga_%d=GA1.2.%030d" % (each, each) for each in range(200)) + b"\r\n"
LINE = 8190 - len(b"POST  HTTP/1.1")

CASES = {
    "9 KB of cookies": (post(SITE), "ok"),
    "three headers with cookies": (post(SITE * 3), "ok"),
    "one cookie of all the bytes": (post(fill(b"Cookie", LIMIT)), "ok"),
    "one other header of all the bytes": (post(fill(b"X-Trace", LIMIT)), "ok"),
    "one header of 16 KiB": (post(fill(b"Referer", 16 * KIB)), "ok"),
    "900 headers": (post(*(b"X-%d: %b\r\n" % (each, b"x" * 60) for each in range(900))), "ok"),
    "two halves": (post(fill(b"A", LIMIT // 2), b"B: " + b"x" * (LIMIT // 2 - 5) + b"\r\n"), "ok"),
    "a full line and full headers": (post(fill(b"X-Trace", LIMIT), target=b"/v1/track?".ljust(LINE, b"x")), "ok"),
    "a full line and full cookies": (post(fill(b"Cookie", LIMIT), target=b"/v1/track?".ljust(LINE, b"x")), "ok"),
    "one cookie above": (post(fill(b"Cookie", LIMIT + KIB)), "bad_request"),
    "one header above": (post(fill(b"X-Trace", LIMIT + KIB)), "bad_request"),
    "two headers above": (post(fill(b"A", LIMIT), b"B: %b\r\n" % (b"x" * KIB)), "bad_request"),
    "many headers above": (post(*(b"X-%d: %b\r\n" % (each, b"x" * 90) for each in range(700))), "bad_request"),
    "half a MiB": (post(fill(b"Cookie", KIB * KIB // 2)), "bad_request"),
    "half a MiB of small ones": (post(b"X: y\r\n" * (KIB * KIB // 12)), "bad_request"),
    "a line above": (post(target=b"/v1/track?".ljust(LINE + 1, b"x")), "bad_request"),
    "a line of 100 KiB": (post(target=b"/v1/track?".ljust(100 * KIB, b"x")), "bad_request"),
}


@pytest.fixture(scope="module")
def ports(shared, tmp_path_factory):
    """Return the port of gunicorn and that of nginx in front of it."""
    need("nginx")
    need("openssl")
    nginx = Nginx(tmp_path_factory.mktemp("nginx"), f"127.0.0.1:{shared.port}")
    yield {"direct": shared.port, "nginx": nginx.port}
    nginx.stop()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("way", ["direct", "nginx"])
def test_headers_up_to_the_limit_are_accepted(shared, ports, way, case):
    sent, code = CASES[case]
    counts = "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM rejected)"
    ((stored, kept),) = shared.query(counts)
    assert [answer.code for answer in converse(ports[way], sent)] == [code]
    assert shared.query(counts) == [(stored + (code == "ok"), kept)]


@pytest.mark.parametrize("way", ["direct", "nginx"])
def test_a_client_that_sends_far_too_much_gets_its_answer(ports, way):
    """Closing the connection before all was read would reset it."""
    headers = AUTHENTICATION | {"Cookie": "x" * KIB * KIB}
    for _ in range(10):
        connection = http.client.HTTPConnection("127.0.0.1", ports[way], timeout=30)
        connection.request("POST", "/v1/track", BODY, headers)
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["code"]) == (400, "bad_request")
        connection.close()


def memory(pid):
    """Return the resident memory of a process in bytes."""
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * 4 * KIB


def test_unfinished_headers_take_little_memory(service):
    """1,000 clients send headers without an end, a piece at a time."""
    service.start("--workers", "1")
    (worker,) = service.workers()
    piece = b"X: y\r\n" * 1000
    sent = 0
    before = memory(worker)
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", service.port))) for _ in range(1000)]
        for client in clients:
            client.sendall(b"POST /v1/track HTTP/1.1\r\n")
        peak = [before]
        stop = threading.Event()

        def watch():
            while not stop.wait(0.05):
                peak[0] = max(peak[0], memory(worker))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            for _ in range(40):
                for client in clients:
                    with suppress(OSError):  # it was refused
                        client.send(piece, socket.MSG_DONTWAIT)
                        sent += len(piece)
            assert service.is_healthy()
        finally:
            stop.set()
            watcher.join(10)
    print(f"{(peak[0] - before) / len(clients) / KIB:.0f} KiB for each of {len(clients)}, of {sent >> 20} MiB sent")
    assert peak[0] - before < len(clients) * 4 * LIMIT
    wait_until(service.is_healthy)
