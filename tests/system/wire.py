"""Send bytes to a port, and read what comes back as the API's answers, of which nothing else may come."""

import http.client
import io
import json
import socket
from typing import NamedTuple

SECONDS = 10  # in which an answer, or the end of a connection, must come


class Answer(NamedTuple):
    """A status and a code: "ok" for a success, "gif" for a picture, "nothing" for a preflight's; and the JSON, if any."""

    status: int
    code: str
    body: dict


def read_answer(response):
    """Return the Answer that an HTTPResponse holds, having seen that it is one."""
    body = response.read()
    assert response.status in (200, 204, 400, 401, 404, 405), (response.status, body)
    if response.status == 204:
        return Answer(204, "nothing", {})
    if response.headers["Content-Type"] == "image/gif":
        return Answer(response.status, "gif", {})
    assert response.headers["Content-Type"] == "application/json", (response.headers, body)
    if not body:  # of a HEAD
        return Answer(
            response.status, {400: "bad_request", 404: "not_found", 405: "method_not_allowed"}[response.status], {}
        )
    return read_json(response.status, body)


def read_json(status, body):
    answer = json.loads(body)
    assert answer["success"] is (status == 200), answer
    return Answer(status, "ok" if answer["success"] else answer["code"], answer)


def converse(port, sent, *, then_shut=False, method="POST"):
    """Return all answers until the connection is closed; with `then_shut` the client tells that it has no more to say."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), SECONDS) as connection:
        try:
            connection.sendall(sent)
            if then_shut:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it was closed while we were still sending
        while piece := _receive(connection):
            received += piece
    if received.startswith(b"{"):  # HTTP/0.9 has no head
        return [read_json(400, received)]
    return list(_read_answers(Received(received), method))


def _receive(connection):
    try:
        return connection.recv(65536)
    except ConnectionError:  # what came before is ours all the same
        return b""


def _read_answers(received, method):
    while received.tell() < len(received.getvalue()):
        response = http.client.HTTPResponse(received, method=method)
        response.begin()
        yield read_answer(response)
        if method == "HEAD" and response.will_close:
            return  # of a request that cannot be read the method is unknown, and its refusal has a body
        method = None


class Received(io.BytesIO):
    """What came over a connection, in the place of its socket."""

    def makefile(self, mode):
        return self

    def close(self):
        pass


class KeptConnection:
    """A connection that is used for one request after the other, and made anew only where the server says so."""

    def __init__(self, port):
        self.port = port
        self.made = 0
        self._socket = None

    def ask(self, sent, method):
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self.port), SECONDS)
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
