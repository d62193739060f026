"""Load a server with wrk for a few seconds, and record what wrk and the system measured."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

from servers import Server

HERE = Path(__file__).parent


class Case(NamedTuple):
    """A load: requests, connections and batch size."""

    connections: int
    batch: int = 1  # events per request
    closes: bool = False  # one connection per request, as legacy servers send


APART = "c64, a connection each"
BATCHES = "batches of 100, c16"
CASES = {
    "c1": Case(1),
    "c8": Case(8),
    "c64": Case(64),
    "c256": Case(256),
    APART: Case(64, closes=True),
    BATCHES: Case(16, batch=100),
}


def run(server: Server, case: Case, seconds: int) -> dict[str, float]:
    """Load a server for one round, check that it stored what it acknowledged, and return the figures."""
    stored, cpu = server.stored(), server.cpu_seconds()
    result = wrk(server, case, seconds)
    finish(server)
    stored, cpu = server.stored() - stored, server.cpu_seconds() - cpu
    acknowledged = (result["requests"] - result["failed"]) * case.batch
    most = acknowledged + case.connections * case.batch
    if server.stores and not acknowledged <= stored <= most:
        raise SystemExit(f"{server.name}: {acknowledged} acknowledged, {stored} stored")
    return {
        "requests/s": acknowledged / case.batch / result["seconds"],
        "events/s": acknowledged / result["seconds"],
        "p50 ms": result["p50_ms"],
        "p99 ms": result["p99_ms"],
        "CPU us/event": cpu / (stored or acknowledged) * 1e6,
        "memory MB": server.memory(),
        "failed": result["failed"] + result["timeouts"],
    }


def finish(server: Server) -> None:
    """Wait until a server has finished the requests that wrk abandoned at the end."""
    cpu = -1
    for _ in range(40):  # give up on a server that never becomes idle
        if cpu == (cpu := server.cpu_seconds()):
            return
        time.sleep(0.25)


def syncs_per_event(server: Server, case: Case, seconds: int) -> float:
    stored = server.stored()
    with server.counting_syncs() as syncs:
        wrk(server, case, seconds)
    return syncs[0] / (server.stored() - stored)


def wrk(server: Server, case: Case, seconds: int) -> dict[str, Any]:
    environment = {
        "BENCH_RUN": str(time.time_ns() // 1000 % 2**31),
        "BENCH_BATCH": str(case.batch),
        "BENCH_PATH": server.batch_path if case.batch > 1 else server.path,
    }
    if case.closes:
        environment["BENCH_CLOSE"] = "1"
    address = f"http://127.0.0.1:{server.port}"
    options = ["-t1", f"-c{case.connections}", f"-d{seconds}s", "--timeout", "10s", "-s", HERE / "events.lua"]
    output = subprocess.run(
        ["wrk", *options, address], env=os.environ | environment, capture_output=True, text=True, check=True
    ).stdout
    return json.loads(next(line for line in output.splitlines() if line.startswith("RESULT"))[len("RESULT") :])
