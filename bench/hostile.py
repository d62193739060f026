"""Measure how long hostile bodies delay other requests of their worker, compared with the longest valid body.

Prints for each body the longest wait of GET /healthz on the same worker, the worker's CPU time and its peak memory.
Waits depend on everything that runs on the machine. CPU time does not, and is compared with that of the longest valid
body, which is sent repeatedly in between. A body that seems to exceed a limit is measured twice more. The exit status
is the number of bodies over a limit.
"""

import argparse
import http.client
import json
import math
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

import servers
from hostile_bodies import Body, bodies, valid

MOST_TIMES = 10  # times the CPU time of the longest valid body
MOST_MB = 600  # of the worker; about 250 with the longest valid body
FLOOR_MS = 20  # lower values count as this, so that noise makes no ratio
VALID_EVERY = 6  # hostile bodies between two valid ones


class Measured(NamedTuple):
    statuses: set[str]
    wait_ms: float
    busy_ms: float
    peak_mb: float


Rounds = list[Measured]


class Probe:
    """Polls GET /healthz of a worker, and records the longest wait and the peak memory."""

    def __init__(self, server: servers.Server) -> None:
        self.server = server

    def measure(self, body: Body) -> Measured:
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

    def _send(self, body: Body, statuses: set[str]) -> None:
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


def computing(process: Path) -> float:
    """Return the CPU seconds of a process's main thread."""
    with suppress(FileNotFoundError):
        return int((process / "task" / process.name / "schedstat").read_text().split()[0]) / 1e9
    return math.inf


def peak_mb(process: Path) -> float:
    with suppress(FileNotFoundError):
        lines = (process / "status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1000
    return math.inf


def main() -> None:
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


def measure(probe: Probe, named: dict[str, Body], rounds: int) -> tuple[dict[str, Rounds], Rounds]:
    """Return the measurements of each body, by name, and of the longest valid one."""
    measured, valids, longest = {name: [] for name in named}, [], valid()
    probe.measure(longest)  # warm up
    for _ in range(rounds):
        for number, (name, body) in enumerate(named.items()):
            if number % VALID_EVERY == 0:
                valids.append(probe.measure(longest))
            measured[name].append(probe.measure(body))
    return measured, valids


def median_of(rounds: Rounds, field: str) -> float:
    return median(getattr(each, field) for each in rounds)


def times(rounds: Rounds, valids: Rounds) -> float:
    """Return the CPU time relative to that of the longest valid body."""
    body_ms, valid_ms = (max(median_of(each, "busy_ms"), FLOOR_MS) for each in (rounds, valids))
    return body_ms / valid_ms


def is_over(rounds: Rounds, valids: Rounds) -> bool:
    return times(rounds, valids) > MOST_TIMES or median_of(rounds, "peak_mb") > MOST_MB


def report(measured: dict[str, Rounds], valids: Rounds) -> None:
    """Print a table of medians."""
    print("| body | answer | wait ms | computing ms | times | peak MB |\n|---|---|---|---|---|---|")
    for name, rounds in {"the longest valid one": valids, **measured}.items():
        answers = ", ".join(sorted({status for each in rounds for status in each.statuses}))
        wait, busy, peak = (median_of(rounds, field) for field in ("wait_ms", "busy_ms", "peak_mb"))
        print(f"| {name} | {answers} | {wait:.0f} | {busy:.0f} | {times(rounds, valids):.1f} | {peak:.0f} |")


if __name__ == "__main__":
    main()
