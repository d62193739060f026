"""Measure tracklog against the naive version of it, or against another checkout: the same minutes, turn by turn.

Prints per server the median over the rounds, then the ratios. Needs wrk; with strace, counts disk syncs too.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

HERE = Path(__file__).parent
PROJECT = HERE.parent
BIN = Path(sys.executable).parent
TICK = os.sysconf("SC_CLK_TCK")


class Server:
    """A gunicorn with its own database file."""

    def __init__(self, name, folder, command, environment, database):
        self.name = name
        self.port = free_port()
        self.database = database
        self.log = open(database.with_suffix(".log"), "w")
        self.process = subprocess.Popen(
            [*command, "--bind", f"127.0.0.1:{self.port}", "--workers", "2"],
            cwd=folder,
            env=os.environ | environment,
            stdout=self.log,
            stderr=self.log,
        )
        self.rounds = []

    def pids(self):
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]

    def cpu_seconds(self):
        ticks = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / TICK

    def query(self, sql):
        """Return the one value that the log answers with."""
        with sqlite3.connect(f"file:{self.database}?mode=ro", uri=True) as connection:
            return connection.execute(sql).fetchone()[0]

    def stored(self):
        return self.query("SELECT count(*) FROM events")

    def run(self, connections, seconds):
        """Load it for one round; return what wrk and the system saw."""
        stored, cpu = self.stored(), self.cpu_seconds()
        result = wrk(self.port, connections, seconds)
        # wrk forgets the requests that are under way when its time is up; the server finishes them.
        time.sleep(0.5)
        stored, cpu = self.stored() - stored, self.cpu_seconds() - cpu
        acknowledged = result["requests"] - result["failed"]
        if not acknowledged <= stored <= acknowledged + connections:
            raise SystemExit(f"{self.name}: {acknowledged} acknowledged, {stored} stored")
        return {
            "requests/s": acknowledged / result["seconds"],
            "p50 ms": result["p50_ms"],
            "p99 ms": result["p99_ms"],
            "CPU us/request": cpu / stored * 1e6,
            "failed": result["failed"] + result["timeouts"],
        }

    def syncs_per_event(self, connections, seconds):
        """Count disk syncs under strace, which slows everything else down."""
        targets = [word for pid in self.pids() for word in ("-p", str(pid))]
        counted = self.database.with_suffix(".strace")
        stored = self.stored()
        tracer = subprocess.Popen(
            ["strace", "-f", "-c", "-U", "name,calls", "-e", "trace=fsync,fdatasync", "-o", counted, *targets],
            stderr=subprocess.DEVNULL,
        )
        wrk(self.port, connections, seconds)
        tracer.send_signal(signal.SIGINT)
        tracer.wait()
        calls = [line.split() for line in counted.read_text().splitlines()]
        return sum(int(words[1]) for words in calls if words and words[0] in ("fsync", "fdatasync")) / (
            self.stored() - stored
        )


def wrk(port, connections, seconds, script="track.lua"):
    output = subprocess.run(
        [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            "--timeout",
            "10s",
            "-s",
            HERE / script,
            f"http://127.0.0.1:{port}",
        ],
        env=os.environ | {"BENCH_RUN": str(time.time_ns())},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return json.loads(next(line for line in output.splitlines() if line.startswith("RESULT"))[len("RESULT") :])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def serving(server):
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", server.port), 1).close()
                break
            except OSError:
                if time.monotonic() > deadline or server.process.poll() is not None:
                    raise SystemExit(f"{server.name} did not start: {Path(server.log.name).read_text()}") from None
                time.sleep(0.1)
        yield server
    finally:
        server.process.terminate()
        server.process.wait()


def tracklog(folder, checkout=PROJECT, name="tracklog"):
    database = folder / f"{name}.db"
    environment = {"TRACKLOG_DATABASE": str(database)}
    subprocess.run(
        [BIN / "flask", "sources", "add", "bench", "--source-id", "ILoveData123"],
        cwd=checkout,
        env=os.environ | environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return Server(name, checkout, [BIN / "gunicorn", "wsgi:app"], environment, database)


def naive(folder):
    database = folder / "naive.db"
    environment = {"NAIVE_DATABASE": str(database)}
    subprocess.run([sys.executable, "-c", "import naive"], cwd=HERE, env=os.environ | environment, check=True)
    command = [BIN / "gunicorn", "naive:app", "--no-control-socket"]
    return Server("naive", HERE, command, environment, database)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument(
        "--against", metavar="FOLDER", help="another checkout of tracklog, instead of the naive version"
    )
    options = parser.parse_args()
    if not shutil.which("wrk"):
        raise SystemExit("bench needs wrk: apt install wrk")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=PROJECT)))
        servers = [stack.enter_context(serving(tracklog(folder)))]
        other = tracklog(folder, options.against, "other") if options.against else naive(folder)
        servers.append(stack.enter_context(serving(other)))
        for server in servers:
            server.run(options.connections, 2)  # to warm up
        for number in range(options.rounds):
            for server in servers:
                server.rounds.append(server.run(options.connections, options.seconds))
            print(
                f"round {number + 1}:",
                *(f"{server.name} {server.rounds[-1]['requests/s']:.0f}/s" for server in servers),
                flush=True,
            )
        report(servers)
        if shutil.which("strace"):
            for server in servers:
                syncs = server.syncs_per_event(options.connections, options.seconds)
                print(f"{server.name}: {syncs:.3f} disk syncs per event")


def report(servers):
    medians = {}
    for server in servers:
        medians[server.name] = {
            figure: statistics.median(each[figure] for each in server.rounds) for figure in server.rounds[0]
        }
        print(f"\n{server.name}, median of {len(server.rounds)} rounds (least to most)")
        for figure, median in medians[server.name].items():
            values = [each[figure] for each in server.rounds]
            print(f"  {figure:15} {median:9.1f}   ({min(values):.1f} to {max(values):.1f})")
    (_, ours), (name, theirs) = medians.items()
    print(f"\nrequests/s, tracklog over {name}   {ours['requests/s'] / theirs['requests/s']:.2f}")
    print(f"CPU per request, tracklog over {name}   {ours['CPU us/request'] / theirs['CPU us/request']:.2f}")
    print(f"p99 over p50, tracklog   {ours['p99 ms'] / ours['p50 ms']:.2f}")


if __name__ == "__main__":
    main()
