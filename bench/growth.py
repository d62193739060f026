"""Measure how a log's size tells: ingest into logs of several sizes in turns, and what an operator runs on the largest.

An empty log is a new one in every round, since it does not stay empty.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import load
import results
from filling import fill
from servers import BIN, PROJECT, serving, tracklog

CASES = ("c64", "batches of 100, c16")
NOTHING = "blackhole"  # a destination's name


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--millions", type=int, nargs="+", default=[1, 5, 10])
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=PROJECT)))
        make_logs(folder, options.millions)
        started = {millions: stack.enter_context(serving(of_size(folder, millions))) for millions in options.millions}
        measured = {}
        for name in CASES:
            measured[name] = measure(folder, started, load.CASES[name], options.rounds, options.seconds)
            print_case(name, measured[name])
        largest = max(started)
        with serving(tracklog(folder, name="small")) as small:
            load.run(small, load.CASES["c1"], 1)
            chores = time_chores(small, started[largest])
        print(f"\n{'ms, the least of 3':50}{'small':>10}{f'{largest} million':>12}")
        for name, (on_small, on_large) in chores.items():
            print(f"{name:50}{on_small:10.1f}{on_large:12.1f}")
        results.save("growth", {"ingest": measured, "chores": chores})


def make_logs(folder, sizes):
    """Make a log of each size, the larger ones from the smaller."""
    grown = folder / "grown.db"
    with serving(tracklog(folder, name="grown")):
        pass  # it has made the log
    for millions in sizes:
        fill(grown, millions * 1_000_000)
        shutil.copyfile(grown, folder / f"{millions}.db")
    grown.unlink()
    os.sync()  # or the system would do so during the first rounds


def of_size(folder, millions):
    server = tracklog(folder, name=str(millions))
    # To count millions of rows takes its time; what the service has counted is held against wrk's number as well.
    server.stored = lambda: server.query("SELECT sum(count) FROM counts WHERE outcome = 'stored'")
    return server


def measure(folder, started, case, rounds, seconds):
    """Return the figures for each size, a list of rounds; 0 is the empty log."""
    for server in started.values():
        load.run(server, case, 2)  # to warm up
    figures = {str(millions): [] for millions in (0, *started)}
    for number in range(rounds):
        with serving(tracklog(folder, name=f"empty-{case.batch}-{number}")) as empty:
            load.run(empty, case, 1)
            figures["0"].append(load.run(empty, case, seconds))
        for millions, server in started.items():
            figures[str(millions)].append(load.run(server, case, seconds))
    return figures


def print_case(name, rounds):
    print(
        f"\n{name}\n{'million events':>14}{'events/s':>30}{'over empty':>12}{'p99 ms':>10}{'us/event':>10}{'PSS MB':>8}"
    )
    for millions, measured in rounds.items():
        median = {figure: statistics.median(each[figure] for each in measured) for figure in measured[0]}
        speeds = [each["events/s"] for each in measured]
        ratio = statistics.median(
            each["events/s"] / empty["events/s"] for each, empty in zip(measured, rounds["0"], strict=True)
        )
        spread = f"{median['events/s']:.0f} ({min(speeds):.0f}-{max(speeds):.0f})"
        print(
            f"{millions:>14}{spread:>30}{ratio:12.2f}{median['p99 ms']:10.1f}{median['CPU us/event']:10.1f}"
            f"{median['memory MB']:8.0f}",
            flush=True,
        )


def time_chores(small, large):
    """Return the milliseconds of what an operator does, on a small log and on a large one."""
    for server in (small, large):
        flask(server, "destinations", "add", NOTHING, "http://key@127.0.0.1:9/v1/batch", "--from", "now")
        flask(server, "destinations", "pause", NOTHING)
    chores = {
        "GET /readyz": lambda server: get(server, "/readyz"),
        "GET /metrics": lambda server: get(server, "/metrics"),
        "flask --version": lambda server: flask(server, "--version"),
        "flask events tail": lambda server: flask(server, "events", "tail"),
        "flask events stats": lambda server: flask(server, "events", "stats"),
        "flask rejected list": lambda server: flask(server, "rejected", "list"),
        "flask destinations list": lambda server: flask(server, "destinations", "list"),
        "flask forward --once": lambda server: flask(server, "forward", "--once"),
    }
    for query in ("events LIMIT 10", "tracks LIMIT 10", "tracks ORDER BY id DESC LIMIT 10"):
        chores[f"SELECT * FROM {query}"] = lambda server, query=query: server.query(f"SELECT * FROM {query}")
    return {
        name: [min(timed(chore, server) for _ in range(3)) * 1000 for server in (small, large)]
        for name, chore in chores.items()
    }


def timed(chore, server):
    began = time.monotonic()
    chore(server)
    return time.monotonic() - began


def get(server, path):
    subprocess.run(["curl", "-sf", f"http://127.0.0.1:{server.port}{path}"], check=True, stdout=subprocess.DEVNULL)


def flask(server, *arguments):
    environment = os.environ | {"TRACKLOG_DATABASE": str(server.database)}
    subprocess.run([BIN / "flask", *arguments], cwd=PROJECT, env=environment, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
