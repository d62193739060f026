"""Measure forwarding into another tracklog, relative to that one's ingest of batches from wrk, alternating."""

import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from load import BATCHES, CASES, run
from servers import PROJECT, Tracklog, serving, tracklog

ROUNDS = 5
SECONDS = 5


def main() -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=PROJECT)))
        source = stack.enter_context(serving(tracklog(folder, name="source")))
        target = stack.enter_context(serving(tracklog(folder, name="target")))
        source.flask("destinations", "add", "target", f"http://ILoveData123@127.0.0.1:{target.port}/v1/batch")
        ingested, drained = [], []
        for number in range(ROUNDS + 1):
            ingested.append(ingest(target))
            ingest(source)
            drained.append(drain(source))
            print(f"round {number}: {ingested[-1]:.0f} events/s ingested, {drained[-1]:.0f} drained", flush=True)
        # The first round warms up.
        ratios = [each / other for each, other in zip(drained[1:], ingested[1:], strict=True)]
        print(f"\nevents/s ingested from wrk   {statistics.median(ingested[1:]):.0f}")
        print(f"events/s drained into it     {statistics.median(drained[1:]):.0f}")
        print(
            f"drained over ingested        {statistics.median(ratios):.2f}   ({min(ratios):.2f} to {max(ratios):.2f})"
        )


def compare(server: Tracklog, name: str) -> None:
    """Ingest and drain a server with one destination, in turn, and print the figures."""
    rounds = [(ingest(server), drain(server)) for _ in range(ROUNDS + 1)][1:]  # the first warms up
    ratios = [drained / ingested for ingested, drained in rounds]
    print(f"events/s drained into {name:<11}{statistics.median(drained for _, drained in rounds):.0f}")
    print(
        f"over ingested from wrk           {statistics.median(ratios):.2f}   ({min(ratios):.2f} to {max(ratios):.2f})"
    )


def ingest(server: Tracklog) -> float:
    return run(server, CASES[BATCHES], SECONDS)["events/s"]


def drain(server: Tracklog) -> float:
    """Return events/s, excluding the command's start and its final check for more events."""
    waiting = server.stored() - server.query("SELECT delivered FROM destinations")
    seconds = forward(server)
    return waiting / (seconds - forward(server))


def forward(server: Tracklog) -> float:
    began = time.monotonic()
    server.flask("forward", "--once")
    return time.monotonic() - began


if __name__ == "__main__":
    main()
