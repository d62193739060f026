"""Measure what limits many workers on one log: how long a group holds it, and the cost of more workers than cores."""

import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import load
import report
import results
from filling import event
from servers import PROJECT, serving, tracklog

import eventlog
from bench import measure
from eventlog.runtime import Runtime

SIZES = (1, 10, 30, 100, 300, 1000)
WORKERS = (1, 2, 4, 8)
CASES = ("c256", load.BATCHES)
ROUNDS, SECONDS = 5, 4


def main():
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=PROJECT)))
        groups = time_groups(folder / "groups.db")
        print(report.groups_table(groups), flush=True)
        started = {
            workers: stack.enter_context(serving(tracklog(folder, name=f"workers-{workers}", workers=workers)))
            for workers in WORKERS
        }
        cases = {}
        for name in CASES:
            measured = measure(list(started.values()), load.CASES[name], ROUNDS, SECONDS)
            cases[name] = {str(workers): measured[server] for workers, server in started.items()}
        print(report.workers_table(cases))
        results.save("cores", {"groups": groups, "workers": cases})


class NoCheckpoints(Runtime):
    """Leaves out checkpoints, for which the groups of a gevent worker do not wait."""

    is_cooperative = True

    def start(self, call):
        pass


def time_groups(path):
    """Return the median milliseconds from requesting the lock to the commit, for each group size.

    Of copying the write-ahead log, which others' groups do not wait for, there is nothing in it.
    """
    eventlog.create(str(path))
    log = eventlog.EventLog(str(path))
    log.run_on(NoCheckpoints())
    took = {size: [] for size in SIZES}
    for number in range(100):
        for size in SIZES:
            events = [event() for _ in range(size)]
            began = time.perf_counter()
            log.append(events)
            if number >= 20:  # the first 20 warm up
                took[size].append((time.perf_counter() - began) * 1000)
    log.close()
    return {str(size): statistics.median(each) for size, each in took.items()}


if __name__ == "__main__":
    main()
