"""Measure how long hostile bodies delay other requests of their worker, compared with the longest valid body.

Prints for each body the longest wait of GET /healthz on the same worker, the worker's CPU time and its peak memory.
Waits depend on everything that runs on the machine. CPU time does not, and is compared with that of the longest valid
body, which is sent repeatedly in between. A body that seems to exceed a limit is measured twice more. The exit status
is the number of bodies over a limit.
"""

import argparse
import gzip
import http.client
import json
import math
import tempfile
import threading
import time
import zlib
from contextlib import ExitStack, suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

import servers

MOST_TIMES = 10  # times the CPU time of the longest valid body
MOST_MB = 600  # of the worker; about 250 with the longest valid body
FLOOR_MS = 20  # lower values count as this, so that noise makes no ratio
VALID_EVERY = 6  # hostile bodies between two valid ones
MIB = 1024 * 1024
KEY = {"Authentication": "Basic SUxvdmVEYXRhMTIz"}
GZIP = {"Content-Encoding": "gzip"}
CALL = '{"type": "track", "userId": "1", "event": "e", '


class Body(NamedTuple):
    """A request, and the number of connections that send it at once."""

    path: str
    content: bytes
    headers: dict = KEY
    at_once: int = 1
    method: str = "POST"


class Measured(NamedTuple):
    statuses: set
    wait_ms: float
    busy_ms: float
    peak_mb: float


def zipped(path, text, headers=KEY, at_once=1):
    content = text if isinstance(text, bytes) else text.encode()
    return Body(path, gzip.compress(content, 6), headers | GZIP, at_once)


def fill(piece, size=8 * MIB - 1000):
    """Return as many copies of a text as `size` bytes hold."""
    return piece * (size // len(piece.encode()))


def event(value, name="value"):
    """Return a call with one additional field."""
    return f'{CALL}"{name}": {value}}}'


def listed(piece, size=480_000):
    """Return a list filled with `piece`, an element with its comma."""
    return f"[{fill(piece, size)}0]"


def batch(*items, members=""):
    return f'{{{members}"batch": [{",".join(items)}]}}'


def valid():
    """Return the longest valid body: 25,000 events in 8 MiB."""
    fields = {"type": "track", "userId": "1", "event": "Posted", "properties": {"text": "x" * 250}}
    return Body("/v1/batch", json.dumps({"batch": [fields] * 25_000}).encode())


def bodies():
    """Yield the hostile bodies with their names."""
    lists = batch(listed("[],", 8 * MIB - 1000))
    yield "8 MiB of lists, no key", zipped("/v1/batch", lists, {})
    yield "8 MiB of lists, no key, 6 at once", zipped("/v1/batch", lists, {}, 6)
    yield "8 MiB of lists", zipped("/v1/batch", lists)
    yield "500 KiB of lists, no key, 6 at once", zipped("/v1/batch", batch(listed("[],")), {}, 6)
    objects = listed('{"a":{"b":"12345678901234567890"}},', 8 * MIB - 1000)
    yield "8 MiB in one item of objects", zipped("/v1/batch", batch(objects))
    yield "8 MiB in one item of texts", zipped("/v1/batch", batch(listed('"ab",', 8 * MIB - 1000)))
    yield "8 MiB in one item of texts, 6 at once", zipped("/v1/batch", batch(listed('"ab",', 8 * MIB - 1000)), KEY, 6)
    yield "8 MiB in one item of floats", zipped("/v1/batch", batch(listed("1.5,", 8 * MIB - 1000)))
    yield "8 MiB of numbers instead of a batch", zipped("/v1/batch", listed("1,", 8 * MIB - 1000))
    yield (
        "8 MiB in one unknown member",
        zipped("/v1/batch", batch("1", members=f'"x": {listed("1,", 8 * MIB - 1000)},')),
    )
    yield "8 MiB in one number", zipped("/v1/batch", batch("1." + fill("0")))
    for name, element in {"lists": "[],", "objects": '{"a":1},', "texts": '"ab",', "floats": "1.5,"}.items():
        yield f"480 KB in a call of {name}", zipped("/v1/track", event(listed(element)))
        items = [event(listed(element))] * (3 if "[" in element or "{" in element else 16)
        yield f"16 or fewer such events of {name}", zipped("/v1/batch", batch(*items))
    keys = "{" + ",".join(f'"{number}":0' for number in range(48_000)) + "}"
    yield "16 events of 48,000 keys", zipped("/v1/batch", batch(*[event(keys)] * 16))
    yield "16 events of 480 KB, 6 at once", zipped("/v1/batch", batch(*[event(listed('"ab",'))] * 16), KEY, 6)
    digits = "9" * 4299 + ","
    yield "16 events of 4,299-digit integers", zipped("/v1/batch", batch(*[event(listed(digits))] * 16))
    for route, size in (("track", 480_000), ("batch", 8 * MIB - 20_000)):
        long = event(f"[{fill('9' * 4300 + ',', size)}{'9' * 4301}]")
        yield (
            f"integers too long for {route}, no key",
            zipped(f"/v1/{route}", batch(long) if route == "batch" else long, {}),
        )
        yield f"integers too long for {route}", zipped(f"/v1/{route}", batch(long) if route == "batch" else long)
    yield "700,000 members", zipped("/v1/batch", "{" + ",".join(f'"{number}":0' for number in range(700_000)) + "}")
    yield (
        "700,000 members to validate",
        zipped("/v1/validate", "{" + ",".join(f'"{n}":0' for n in range(700_000)) + "}"),
    )
    plain = CALL.rstrip(", ") + "}"
    context = json.dumps({"text": "x" * 2600})
    yield "25,000 items with a context", zipped("/v1/batch", batch(*[plain] * 25_000, members=f'"context": {context},'))
    sent_at = f'"sentAt": "2015-11-10T02:00:00.{"0" * 400_000}Z",'
    yield "25,000 items with a long sentAt", zipped("/v1/batch", batch(*[plain] * 25_000, members=sent_at))
    broken = (
        '{"type":"page","userId":[],"messageId":{},"timestamp":"x","name":1,"section":2,"context":3,"traits":[NaN]}'
    )
    for route in ("batch", "validate"):
        yield f"25,000 broken items to {route}", zipped(f"/v1/{route}", batch(*[broken] * 25_000))
    yield "events of 100,000 NaN", zipped("/v1/batch", batch(*[event(listed("NaN,"))] * 16))
    for name, end in {"NaN": "NaN", "half a character": '"\\ud800"'}.items():
        yield f"a call of lists and {name}", zipped("/v1/track", event(f"[{fill('[],', 480_000)}{end}]"))
    yield "a call of halves of characters", zipped("/v1/track", event(listed('"\\ud800",')))
    yield (
        "a call of names with halves",
        zipped("/v1/track", event("{" + ",".join(f'"{n}\\ud800":0' for n in range(30_000)) + "}")),
    )
    yield "the same key again and again", zipped("/v1/track", event("{" + fill('"k":[],', 480_000) + '"k":0}'))
    yield "100,000 levels", zipped("/v1/batch", batch(event("[" * 100_000 + "]" * 100_000)))
    yield "8 MiB of levels", zipped("/v1/batch", batch(fill("[")))
    yield (
        "16 events too deep and wide",
        zipped("/v1/batch", batch(*[event("[" * 300 + fill("0,", 470_000) + "0" + "]" * 300)] * 16)),
    )
    for name, piece in {
        "letters": "x",
        "escapes": "\\u00e9",
        "quotes": '\\"',
        "é and a": "éa",
        "emoji": "x\U0001f600",
    }.items():
        yield f"8 MiB in one text of {name}", zipped("/v1/batch", batch(event(f'"{fill(piece)}"')))
    yield "16 events of é and a, refused", zipped("/v1/batch", batch(*[f'{{"a": "{fill("éa", 480_000)}"}}'] * 16))
    yield "a name of 8 MiB", zipped("/v1/batch", f'{{"{fill("x")}": 0}}')
    yield "8 MiB of blanks", zipped("/v1/batch", fill(" "))
    yield "a comma and 8 MiB of blanks", zipped("/v1/batch", f'{{"batch": [1,{fill(" ")}]}}')
    yield "8 MiB of line ends and a slip", zipped("/v1/batch", fill("\n") + '{"batch" [1]}')
    for name, piece in {"minus signs": "-", "backslashes": "\\", "quotes": '"', "closing brackets": "]"}.items():
        yield f"8 MiB of {name}", zipped("/v1/batch", batch(fill(piece)))
    good = valid().content
    yield "a slip at the end of 8 MiB", Body("/v1/batch", good[:-1] + b",")
    yield "a text without an end in 8 MiB", Body("/v1/batch", good[:1000] + b'"' + good[1001:])
    yield "no UTF-8 at the end of 8 MiB", Body("/v1/batch", good[:-1] + b"\xff")
    yield "no JSON, 480 KB, no key", zipped("/v1/track", event(listed("[],"))[:-1], {})
    for name in ("userId", "messageId", "timestamp", "sentAt", "type", "groupID"):
        value = "2015-11-10T02:00:00." + "0" * 480_000 if name in ("timestamp", "sentAt") else "1" * 480_000
        yield (
            f"a {name} of 480 KB",
            Body("/v1/track", json.dumps(json.loads(CALL + '"a": 1}') | {name: value}).encode()),
        )
    yield "a writeKey of 480 KB, no key", Body("/v1/track", event('"' + "k" * 480_000 + '"', "writeKey").encode(), {})
    yield "8 MiB of a form, no key", Body("/v1/track", fill("data=%7B&").encode(), {})
    yield "8 MiB of gzip that holds nothing", Body("/v1/track", empty_blocks(8 * MIB - 100), KEY | GZIP)
    yield "8 MiB of gzip members", Body("/v1/track", gzip.compress(b"") * 400_000, KEY | GZIP)
    yield "1 GiB in gzip", zipped("/v1/track", b" " * (1024 * MIB))
    steps = "&".join("a" + ".a" * 190 + f"{number}=" for number in range(20))
    yield "a pixel with many steps", Body(f"/v1/pixel/track?writeKey=ILoveData123&{steps}"[:8100], b"", {}, 1, "GET")
    fields = "&a" * 4000
    yield "a pixel with many fields", Body(f"/v1/pixel/track?writeKey=ILoveData123{fields}", b"", {}, 1, "GET")
    long = {f"X-{number}": "x" * 8000 for number in range(80)}
    yield "headers of 640 KB", Body("/v1/track", b"{}", KEY | long)
    yield (
        "8 KB of proxies",
        Body("/v1/track", plain.encode(), KEY | {"X-Forwarded-For": "1," * 4000, "Origin": "x" * 8000}),
    )


def empty_blocks(size):
    """Return gzip data of many empty blocks, whose tables must still be read."""
    packer = zlib.compressobj(level=9, wbits=-15)
    packer.compress(b"")
    block = packer.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + block * (size // len(block)) + b"\x03\0" + b"\0" * 8


class Probe:
    """Polls GET /healthz of a worker, and records the longest wait and the peak memory."""

    def __init__(self, server):
        self.server = server

    def measure(self, body):
        worker = Path(f"/proc/{self.server.pids()[-1]}")
        (worker / "clear_refs").write_text("5")  # resets the peak
        statuses, waits, busy = set(), [], []
        senders = [threading.Thread(target=self._send, args=(body, statuses)) for _ in range(body.at_once)]
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=120)
        for sender in senders:
            sender.start()
        while not waits or any(sender.is_alive() for sender in senders):
            asked, computed = time.monotonic(), computing(worker)
            try:
                connection.request("GET", "/healthz")
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):  # the master has killed the worker
                connection.close()
            waits.append(time.monotonic() - asked)
            busy.append(computing(worker) - computed)
            time.sleep(0.001)
        connection.close()
        return Measured(statuses, max(waits) * 1000, max(busy) * 1000, peak_mb(worker))

    def _send(self, body, statuses):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=120)
        try:
            connection.request(body.method, body.path, body.content, body.headers)
            response = connection.getresponse()
            text = response.read()
            is_json = response.headers["Content-Type"] == "application/json"
            statuses.add(f"{response.status} {json.loads(text).get('code', '') if is_json else ''}".strip())
        except (OSError, http.client.HTTPException) as failure:
            statuses.add(type(failure).__name__)
        finally:
            connection.close()


def computing(process):
    """Return the CPU seconds of a process's main thread."""
    with suppress(FileNotFoundError):
        return int((process / "task" / process.name / "schedstat").read_text().split()[0]) / 1e9
    return math.inf


def peak_mb(process):
    with suppress(FileNotFoundError):
        lines = (process / "status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1000
    return math.inf


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--checkout", default=servers.PROJECT, metavar="FOLDER", help="measure this folder instead")
    parser.add_argument("--only", default="", metavar="TEXT", help="only bodies whose names contain this")
    options = parser.parse_args()
    named = {name: body for name, body in bodies() if options.only in name}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=servers.PROJECT)))
        server = stack.enter_context(servers.serving(servers.tracklog(folder, options.checkout, workers=1)))
        probe = Probe(server)
        measured, valids = measure(probe, named, options.rounds)
        for name in named:
            if is_over(measured[name], valids):
                measured[name] += [probe.measure(named[name]) for _ in range(2)]
                valids.append(probe.measure(valid()))
    report(measured, valids)
    raise SystemExit(sum(is_over(rounds, valids) for rounds in measured.values()))


def measure(probe, named, rounds):
    """Return the measurements of each body, by name, and of the longest valid one."""
    measured, valids, longest = {name: [] for name in named}, [], valid()
    probe.measure(longest)  # warm up
    for _ in range(rounds):
        for number, (name, body) in enumerate(named.items()):
            if number % VALID_EVERY == 0:
                valids.append(probe.measure(longest))
            measured[name].append(probe.measure(body))
    return measured, valids


def median_of(rounds, field):
    return median(getattr(each, field) for each in rounds)


def times(rounds, valids):
    """Return the CPU time relative to that of the longest valid body."""
    body_ms, valid_ms = (max(median_of(each, "busy_ms"), FLOOR_MS) for each in (rounds, valids))
    return body_ms / valid_ms


def is_over(rounds, valids):
    return times(rounds, valids) > MOST_TIMES or median_of(rounds, "peak_mb") > MOST_MB


def report(measured, valids):
    """Print a table of medians."""
    print("| body | answer | wait ms | computing ms | times | peak MB |\n|---|---|---|---|---|---|")
    for name, rounds in {"the longest valid one": valids, **measured}.items():
        answers = ", ".join(sorted({status for each in rounds for status in each.statuses}))
        wait, busy, peak = (median_of(rounds, field) for field in ("wait_ms", "busy_ms", "peak_mb"))
        print(f"| {name} | {answers} | {wait:.0f} | {busy:.0f} | {times(rounds, valids):.1f} | {peak:.0f} |")


if __name__ == "__main__":
    main()
