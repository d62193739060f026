"""Send bytes to a port, and check that only answers of the API come back."""

import http.client
import io
import json
import socket
from typing import NamedTuple

SECONDS_TO_ANSWER = 10  # or to close the connection


class Answer(NamedTuple):
    """An answer. The code is "ok" for a success, "gif" for the pixel, and "nothing" for a preflight."""

    status: int
    code: str
    body: dict


def read_answer(response):
    """Return the Answer in an HTTPResponse. Fail if it is not one of the API."""
    body = response.read()
    assert response.status in (200, 204, 400, 401, 404, 405), (response.status, body)
    if response.status == 204:
        return Answer(204, "nothing", {})
    if response.headers["Content-Type"] == "image/gif":
        return Answer(response.status, "gif", {})
    assert response.headers["Content-Type"] == "application/json", (response.headers, body)
    if not body:  # of a HEAD
        codes = {400: "bad_request", 404: "not_found", 405: "method_not_allowed"}
        return Answer(response.status, codes[response.status], {})
    return read_json(response.status, body)


def read_json(status, body):
    answer = json.loads(body)
    assert answer["success"] is (status == 200), answer
    return Answer(status, "ok" if answer["success"] else answer["code"], answer)


def converse(port, sent, *, then_shut=False, method="POST"):
    """Return all answers until the server closes the connection.

    With `then_shut`, the client shuts down its side after sending.
    """
    received = b""
    with socket.create_connection(("127.0.0.1", port), SECONDS_TO_ANSWER) as connection:
        try:
            connection.sendall(sent)
            if then_shut:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the server closed it while we were still sending
        while piece := _receive(connection):
            received += piece
    if received.startswith(b"{"):  # HTTP/0.9 has no head
        return [read_json(400, received)]
    return list(_read_answers(Received(received), method))


def _receive(connection):
    try:
        return connection.recv(65536)
    except ConnectionError:  # what came before still counts
        return b""


def _read_answers(received, method):
    while received.tell() < len(received.getvalue()):
        response = http.client.HTTPResponse(received, method=method)
        response.begin()
        yield read_answer(response)
        if method == "HEAD" and response.will_close:
            return  # the error of an unreadable request has a body, even for HEAD
        method = None


class Received(io.BytesIO):
    """Received bytes, which HTTPResponse reads like a socket."""

    def makefile(self, mode):
        return self

    def close(self):
        pass


class KeptConnection:
    """A connection for many requests. It is opened again only if the server closes it."""

    def __init__(self, port):
        self.port = port
        self.made = 0
        self._socket = None

    def ask(self, sent, method):
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self.port), SECONDS_TO_ANSWER)
            self.made += 1
        self._socket.sendall(sent)
        response = http.client.HTTPResponse(self._socket, method=method)
        response.begin()
        answer = read_answer(response)
        if response.will_close:
            self.close()
        return answer

    def close(self):
        if self._socket:
            self._socket.close()
            self._socket = None
