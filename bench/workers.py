"""Measure ingest with one to eight workers, alternating."""

import tempfile
from contextlib import ExitStack
from pathlib import Path

import load
import report
import results
from servers import PROJECT, serving, tracklog

from bench import measure

WORKERS = (1, 2, 4, 8)
CASES = ("c256", load.BATCHES)
ROUNDS, SECONDS = 5, 4


def main() -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=PROJECT)))
        started = {
            workers: stack.enter_context(serving(tracklog(folder, name=f"workers-{workers}", workers=workers)))
            for workers in WORKERS
        }
        cases = {}
        for name in CASES:
            measured = measure(list(started.values()), load.CASES[name], ROUNDS, SECONDS)
            cases[name] = {str(workers): measured[server] for workers, server in started.items()}
    print(report.workers_table(cases))
    results.save("workers", cases)


if __name__ == "__main__":
    main()
