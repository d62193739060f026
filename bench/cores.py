"""Measure what bounds many workers on one log: how long a group holds it, and what more workers than cores cost."""

import statistics
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack
from pathlib import Path

import load
import results
from servers import PROJECT, serving, tracklog

sys.path.insert(0, str(PROJECT))

import eventlog

SIZES = (1, 10, 30, 100, 300, 1000)
WORKERS = (1, 2, 4, 8)
CASES = ("c256", "batches of 100, c16")
ROUNDS, SECONDS = 5, 4
AT = "2015-11-10T00:45:23.412Z"
PAYLOAD = '{"properties": "' + "x" * 380 + '"}'  # with its columns, what an event of the bench weighs


def main():
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=PROJECT)))
        groups = time_groups(folder / "groups.db")
        print("events of a group   ms to write it")
        for size, millis in groups.items():
            print(f"{size:17}{millis:17.2f}")
        started = {
            workers: stack.enter_context(serving(tracklog(folder, name=f"workers-{workers}", workers=workers)))
            for workers in WORKERS
        }
        cases = {}
        for name in CASES:
            cases[name] = {str(workers): [] for workers in WORKERS}
            for server in started.values():
                load.run(server, load.CASES[name], 1)  # to warm up
            for _ in range(ROUNDS):
                for workers, server in started.items():
                    cases[name][str(workers)].append(load.run(server, load.CASES[name], SECONDS))
            print(f"\n{name}")
            for workers, rounds in cases[name].items():
                speed, micros = (
                    statistics.median(each[what] for each in rounds) for what in ("events/s", "CPU us/event")
                )
                print(f"{workers:>3} workers {speed:10.0f} events/s {micros:8.1f} us of CPU per event", flush=True)
    results.save("cores", {"groups": groups, "workers": cases})


def time_groups(path):
    """Return the milliseconds, in the median, that a group of each size takes from before its lock to its commit."""
    eventlog.create(str(path))
    log = eventlog.EventLog(str(path))
    took = {size: [] for size in SIZES}
    for number in range(100):
        for size in SIZES:
            events = [
                eventlog.Event("bench", str(uuid.uuid4()), "track", "1234", None, "Added File", AT, AT, PAYLOAD)
                for _ in range(size)
            ]
            began = time.perf_counter()
            log.append(events)
            if number >= 20:  # those before are to warm up
                took[size].append((time.perf_counter() - began) * 1000)
    log.close()
    return {size: statistics.median(each) for size, each in took.items()}


if __name__ == "__main__":
    main()
