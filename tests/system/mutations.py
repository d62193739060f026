"""Make bad requests from good ones, with a seed for the random choices."""

import base64
import gzip
import json
import random
import zlib
from typing import NamedTuple
from urllib.parse import quote, urlencode

from service import AUTHENTICATION

CALLS = ["identify", "track", "page", "screen", "group", "alias"]
FIELDS = [
    *["type", "userId", "anonymousId", "userID", "groupID"],
    *["messageId", "timestamp", "originalTimestamp", "sentAt", "context"],
    *["integrations", "event", "properties", "traits", "name", "category"],
    *["section", "groupId", "previousId", "writeKey", "batch"],
]  # fmt: skip
VALUES = [
    *[None, True, False, 0, -1, 1.5, -0.0, 1e308, 2**70, 10**400, float("nan"), float("-inf"), -62_135_596_800, 1e18],
    *["", " ", "a", "é😀", "\0", "a\0b", "\ud800"],
    *["\udc00x", "x" * 300, "x" * 5000, "track", "ALIAS", "null", "ILoveData123"],
    *["2015-11-10", "2015-11-10T00:45:23.412Z", "2015-13-40"],
    *["9999-12-31T23:59:59-23:59", "0001-01-01", "1447116323412"],
    *[[], [1], [[]], [None], {}, {"a": 1}, {"": {}}, {"ip": 7, "direct": True}, {"\ud800": 1}],
]  # fmt: skip
JUNK = [
    *[b"\0", b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xef\xbb\xbf", b'"', b"'", b"{"],
    *[b"}", b"[", b"]", b",", b":", b"\\", b"\n", b"//"],
    *[b"NaN", b"-", b"1e999", b"0x1", b"9" * 4301, b"\\ud800"],
    *[b"\\u12", b"True", b"{" * 1100, b"[" * 300, b'{"a":' * 250],
]  # fmt: skip
HEADERS = {
    "Authentication": [
        "", "Basic", "Basic ???", "Basic bm9ib2R5",
        "Bearer x", "Basic \xe9", "Basic " + "A" * 4000, "Basic SUxvdmVEYXRhMTIz:",
    ],
    "Authorization": [
        "Basic SUxvdmVEYXRhMTIzOg==", "basic SUxvdmVEYXRhMTIz", "Basic bm9ib2R5",
        "Digest x", "Basic AP8A",
    ],
    "Content-Encoding": ["", "gzip", "deflate", "br", "identity", "gzip, gzip", "x-gzip", "\xe9"],
    "Content-Type": [
        "", "text/plain", "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x", "a/b; charset=utf-16", "\xff",
    ],
    "Origin": ["null", "https://shop.example", "\xe9", "x" * 2000],
    "X-Forwarded-For": ["1.2.3.4", "x", "::1", "1, 2, 3", "\xff"],
    "Cookie": ["a=b", "=;=;", "\xff"],
    "Connection": ["close", "keep-alive", "upgrade", "Content-Length"],
    "Expect": ["100-continue", "wonders"],
    "X-HTTP-Method-Override": ["GET", "DELETE"],
    "Host": ["", "[", "a b", "\xff"],
    "Bad header": ["x"],
    "A" * 300: ["b" * 3000],
}  # fmt: skip
METHODS = ["GET", "HEAD", "PUT", "OPTIONS", "DELETE", "BREW", "post"]
PATHS = [
    *["/v1/nothing", "/", "/v1//track", "/v1/track/"],
    *["/v1/t?writeKey=nobody", "/v1/m", "/v1/b?writeKey=ILoveData123", "/v1/%ff"],
    *["/v1/track\xff", "/v1/track?" + "a" * 5000, "http://evil/v1/track", "*"],
    *["/v1/pixel/", "/v1/pixel/trak", "/v1/import?%00"],
]  # fmt: skip


class Request(NamedTuple):
    """Bytes to send. If not `framed`, the server cannot tell where they end."""

    sent: bytes
    method: str
    framed: bool


class Mutations:
    """An endless series of requests, most of them bad."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def __iter__(self):
        while True:
            yield self._pixel() if self._chance(0.12) else self._post()

    def _chance(self, probability):
        return self.random.random() < probability

    def _pick(self, choices):
        return self.random.choice(choices)

    # Calls

    def _call(self):
        event = {"userId": str(self.random.randrange(1000)), "event": "Posted", "groupId": "g", "previousId": "p"}
        event |= {
            "properties": {"size": self.random.random(), "list": [1, {"a": None}]},
            "timestamp": "2015-11-10T00:45:23Z",
        }
        if self._chance(0.3):
            event["messageId"] = f"m{self.random.randrange(2000)}"
        return event

    def _item(self):
        return self._call() | {"type": self._pick(CALLS)}

    def _post(self):
        if self._chance(0.4):
            path = self._pick(["/v1/batch", "/v1/b", "/v1/import", "/beacon/v1/batch"])
            value = {"batch": [self._item() for _ in range(self.random.randrange(1, 6))], "context": {"ip": "1.2.3.4"}}
        else:
            path, value = f"/v1/{self._pick(CALLS)}", self._call()
        while self._chance(0.7):
            value = self._changed(value)
        body = self._text(value)
        while self._chance(0.2):
            body = self._broken(body)
        return self._request("POST", path, *self._encoded(body))

    def _pixel(self):
        value = self._call()
        while self._chance(0.4):
            value = self._changed(value)
        if self._chance(0.5):
            data = base64.b64encode(self._text(value)).decode()
            query = "data=" + (quote(data) if self._chance(0.5) else data)
        else:
            flat = value if isinstance(value, dict) else {}
            pairs = {name: str(each) for name, each in flat.items()} | {"properties.a.b": "c"}
            query = urlencode(pairs, errors="replace")
        while self._chance(0.2):
            query = self._broken(query.encode()).decode("latin-1")
        type = self._pick([*CALLS, "trak"])
        return self._request("GET", f"/v1/pixel/{type}?{query}&writeKey=ILoveData123", b"", {})

    # JSON

    def _changed(self, value):
        """Return the value with one change somewhere in it."""
        if isinstance(value, dict) and value and self._chance(0.8):
            name = self._pick(list(value))
            return {**value, name: self._changed(value[name])} if self._chance(0.6) else self._with_other_fields(value)
        if isinstance(value, list) and value and self._chance(0.8):
            index = self.random.randrange(len(value))
            return [*value[:index], self._changed(value[index]), *value[index + 1 :]]
        return self._odd(value)

    def _with_other_fields(self, value):
        if self._chance(0.4):
            dropped = self._pick(list(value))
            return {name: each for name, each in value.items() if name != dropped}
        name = (
            self._pick(FIELDS)
            if self._chance(0.8)
            else self._pick(["", "a.b", "\ud800", "é", "k" * 3000, "__proto__", "\0"])
        )
        return {**value, name: self._odd(None)}

    def _odd(self, value):
        chosen = self._pick(VALUES)
        for _ in range(self._pick([*[0] * 20, 1, 5, 190, 210, 300])):
            chosen = [chosen] if self._chance(0.5) else {"a": chosen}
        return [value, chosen] if self._chance(0.1) else chosen

    def _text(self, value):
        return json.dumps(value, ensure_ascii=self._chance(0.5)).encode("utf-8", "surrogatepass")

    # Bytes

    def _broken(self, content):
        """Return the bytes with one fault."""
        start = self.random.randrange(len(content) + 1)
        end = min(len(content), start + self.random.randrange(1, 40))
        return self._pick(
            [
                content[:start] + self._pick(JUNK) + content[start:],
                content[:start] + self._pick(JUNK) + content[end:],
                content[:start] + content[end:],
                content[:end] + content[start:],
                content[:start]
                + bytes(byte ^ 1 << self.random.randrange(8) for byte in content[start:end])
                + content[end:],
                content[:start],
                content * 2,
                content.decode("latin-1").encode("utf-16"),
            ]
        )  # fmt: skip

    def _encoded(self, body):
        """Return a body and headers, which may name its encoding or not."""
        if self._chance(0.8):
            return body, {}
        zipped = gzip.compress(body, 1)
        while self._chance(0.4):
            zipped = self._broken(zipped)
        sent = self._pick(
            [zipped, zipped, zipped, body, gzip.compress(zipped), zlib.compress(body), zipped + zipped, b""]
        )
        if self._chance(0.01):
            sent = gzip.compress(b" " * (9 << 20), 1)
        return sent, {"Content-Encoding": self._pick(["gzip", "gzip", "gzip", "GZIP", "deflate", "br"])}

    # Requests

    def _request(self, method, path, body, headers):
        headers = {"Host": "x"} | AUTHENTICATION | headers
        while self._chance(0.15):
            name = self._pick(list(HEADERS))
            headers[name] = self._pick(HEADERS[name])
        if self._chance(0.05):
            headers.pop(self._pick(list(headers)))
        if self._chance(0.03):
            method = self._pick(METHODS)
        if self._chance(0.03):
            path = self._pick(PATHS)
        path = "".join(character for character in path if character not in "\r\n")
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        head = "\r\n".join(lines).encode("utf-8", "replace" if self._chance(0.5) else "surrogatepass")
        return self._framed(method, head, body)

    def _framed(self, method, head, body):
        if self._chance(0.05):
            return self._unframed(method, head, body)
        if self._chance(0.1):
            pieces = [body[at : at + 50] for at in range(0, min(len(body), 2000), 50)] + [body[2000:]]
            chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece)
            return Request(head + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n", method, True)
        return Request(head + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body, method, True)

    def _unframed(self, method, head, body):
        length = self._pick([len(body) + self.random.randrange(-5, 50), -1, 10**12])
        ends = [
            b"\r\nContent-Length: %d\r\n\r\n" % length,
            b"\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % abs(length),
            b"\r\n\r\n",
        ]
        sent = head + self._pick(ends) + body
        return Request(self._broken(sent) if self._chance(0.5) else sent, method, False)
