"""Measure the effect of a log's size: on ingest, alternating between sizes, on a row's cost, and on commands.

Every round begins with new copies of the small logs, because these grow most.
"""

import os
import shutil
import tempfile
import time
import urllib.request
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import apsw
import filling
import load
import report
import results
from filling import event, fill
from servers import PROJECT, serving, tracklog

from eventlog.checkpoint import CHECKPOINT_PAGES
from eventlog.records import Counts, write_events
from eventlog.schema import connect

MILLIONS = (1, 5, 10)
SMALL_MILLIONS = (0, 0.2)
ROUNDS, SECONDS = 5, 5
CASES = ("c64", load.BATCHES)
ROWS, TRANSACTIONS = 800, 100  # timed for a row's cost
DELIVERED = 500  # events


def main():
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=PROJECT)))
        make_logs(folder)
        rows = {"empty": time_row(renew(folder, 0)), "10 million events": time_row(folder / "10.db")}
        print(report.rows_table(rows), flush=True)
        started = {millions: stack.enter_context(serving(of_size(folder, millions))) for millions in MILLIONS}
        measured = {name: measure(folder, started, load.CASES[name]) for name in CASES}
        print(report.growth_table(measured), flush=True)
        with serving(tracklog(folder, name="small")) as small:
            load.run(small, load.CASES["c1"], 2)
            chores = time_chores(small, started[max(MILLIONS)], target=started[min(MILLIONS)])
        print(report.chores_table(chores))
        results.save("growth", {"rows": rows, "ingest": measured, "chores": chores})


def make_logs(folder):
    """Create a log of each size, the larger ones from the smaller."""
    grown = folder / "grown.db"
    filling.create(grown, PROJECT, 0)
    for millions in (*SMALL_MILLIONS, *MILLIONS):
        fill(grown, int(millions * 1_000_000))
        shutil.copyfile(grown, folder / f"{millions}.db")
    grown.unlink()
    os.sync()  # so that the system does not do it during the first rounds


def renew(folder, millions):
    """Return the path of a new copy of a small log."""
    filling.copy(folder / f"{millions}.db", folder / "renewed", int(millions * 1_000_000))
    return folder / "renewed" / "tracklog.db"


def of_size(folder, millions):
    server = tracklog(folder, name=str(millions))
    server.stored = server.counted
    return server


def time_row(path):
    """Return a row's microseconds for insert, commit and checkpoint."""
    connection = connect(str(path))
    connection.pragma("wal_autocheckpoint", 0)
    took = Counter()
    for number in range(1, TRANSACTIONS + 1):
        events = [event() for _ in range(ROWS)]
        began = time.perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        write_events(connection, events, Counts())
        inserted = time.perf_counter()
        connection.execute("COMMIT")
        committed = time.perf_counter()
        pages, before = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
        if pages - before >= CHECKPOINT_PAGES or number == TRANSACTIONS:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        copied = time.perf_counter()
        took += {"insert": inserted - began, "commit": committed - inserted, "copy": copied - committed}
    connection.close()
    return {step: seconds / ROWS / TRANSACTIONS * 1e6 for step, seconds in took.items()}


def measure(folder, started, case):
    """Return the rounds' figures for each size; 0 is the empty log."""
    for server in started.values():
        load.run(server, case, 2)  # warm up
    figures = {str(millions): [] for millions in (*SMALL_MILLIONS, *started)}
    for _ in range(ROUNDS):
        for millions in SMALL_MILLIONS:
            with serving(tracklog(renew(folder, millions).parent)) as small:
                load.run(small, case, 1)
                figures[str(millions)].append(grown(small, case))
        for millions, server in started.items():
            figures[str(millions)].append(grown(server, case))
    return figures


def grown(server, case):
    """Return the figures of a round, with the write-ahead log's maximum size."""
    figures = load.run(server, case, SECONDS)
    return figures | {"wal MB": os.path.getsize(f"{server.database}-wal") / 1e6}


def time_chores(small, large, target):
    """Return the milliseconds of operators' commands on a small and on a large log; both forward to `target`."""
    address = f"http://ILoveData123@127.0.0.1:{target.port}/v1/batch"
    chores = {
        "GET /readyz": lambda server: get(server, "/readyz"),
        "GET /metrics": lambda server: get(server, "/metrics"),
        "flask --version": lambda server: server.flask("--version"),
        "flask events tail": lambda server: server.flask("events", "tail"),
        "flask events stats": lambda server: server.flask("events", "stats"),
        "flask rejected list": lambda server: server.flask("rejected", "list"),
        "flask destinations list": lambda server: server.flask("destinations", "list"),
    }
    for query in ("events LIMIT 10", "tracks LIMIT 10", "tracks ORDER BY id DESC LIMIT 10"):
        chores[f"SELECT * FROM {query}"] = lambda server, query=query: server.rows(f"SELECT * FROM {query}")
    for number in range(3):
        for server in (small, large):
            newest = server.query("SELECT max(id) FROM events")
            server.flask("destinations", "add", f"target{number}", address, "--from", str(newest - DELIVERED + 1))
    names = {server: iter(["target0", "target1", "target2"]) for server in (small, large)}
    delivering = f"flask forward --once, {DELIVERED} events"
    chores[delivering] = lambda server: server.flask("forward", next(names[server]), "--once")
    return {
        name: [min(timed(chore, server) for _ in range(3)) * 1000 for server in (small, large)]
        for name, chore in chores.items()
    }


def timed(chore, server):
    began = time.monotonic()
    chore(server)
    return time.monotonic() - began


def get(server, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}") as answer:
        answer.read()


if __name__ == "__main__":
    main()
