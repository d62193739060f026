"""Measure ingest with and without a prune of one of two million events, alternating."""

import argparse
import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filling import fill
from load import CASES, run
from report import Rounds
from servers import BIN, PROJECT, Tracklog, serving, tracklog

CASE = CASES["c64"]
SECONDS = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=2_000_000)
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=PROJECT)))
        server = stack.enter_context(serving(tracklog(folder)))
        fill(server.database, options.events, old=options.events // 2)
        server.stored = server.counted
        old = "SELECT count(*) FROM events WHERE received_at < '2016'"
        run(server, CASE, 2)  # warm up
        began, without, during = server.query(old), [], []
        while (left := server.query(old)) or not during:
            without.append(run(server, CASE, SECONDS))
            with pruning(server, old, left):
                during.append(run(server, CASE, SECONDS))
            print(
                f"p99 {without[-1]['p99 ms']:.0f} ms without, {during[-1]['p99 ms']:.0f} ms with; "
                f"requests/s {without[-1]['requests/s']:.0f}, {during[-1]['requests/s']:.0f}; {left} old events left",
                flush=True,
            )
        report(began, without, during)


@contextmanager
def pruning(server: Tracklog, old: str, left: int) -> Iterator[None]:
    """Prune while the block runs, until it ends or nothing is old."""
    environment = os.environ | {"TRACKLOG_DATABASE": str(server.database)}
    command = [BIN / "flask", "events", "prune", "--older-than", "1d"]
    process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while process.poll() is None and server.query(old) == left:
        time.sleep(0.05)
    try:
        yield
    finally:
        process.terminate()
        said = process.communicate()[1].decode()
        if process.returncode not in (0, -signal.SIGTERM):
            raise SystemExit(said)


def report(began: int, without: Rounds, during: Rounds) -> None:
    for figure in ("p50 ms", "p99 ms", "requests/s"):
        values = [statistics.median(each[figure] for each in rounds) for rounds in (without, during)]
        print(f"{figure:10}  {values[0]:8.1f} without  {values[1]:8.1f} with   ratio {values[1] / values[0]:.2f}")
    print(f"{began} events pruned in {len(during)} rounds of {SECONDS} s")


if __name__ == "__main__":
    main()
