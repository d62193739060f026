"""Start the measured servers: tracklog and its alternatives, each in its best honest configuration."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

HERE = Path(__file__).parent
PROJECT = HERE.parent
BIN = Path(sys.executable).parent
PEERS = HERE / "peers"
TICK = os.sysconf("SC_CLK_TCK")


class Server:
    """A server with its own database file, whose growing table is `events`."""

    is_durable = True  # an answer waits for the disk
    stores = True
    path = "/v1/track"
    batch_path = "/v1/batch"

    def __init__(
        self, name: str, database: Path, command: list[str | Path], folder: Path = PROJECT, **environment: str
    ) -> None:
        self.name = name
        self.port = free_port()
        self.database = database
        self.log = open(database.with_suffix(".log"), "w")
        self.process = subprocess.Popen(
            [str(word).format(port=self.port) for word in command],
            cwd=folder,
            env=os.environ | environment,
            stdout=self.log,
            stderr=self.log,
        )

    def pids(self) -> list[int]:
        """Return the process ids, the master first."""
        pids = [self.process.pid]
        for pid in pids:
            pids += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return pids

    def cpu_seconds(self) -> float:
        ticks = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / TICK

    def memory(self) -> float:
        """Return the MB of memory of all its processes, counting shared pages once."""
        lines = [
            line
            for pid in self.pids()
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            if line.startswith("Pss:")
        ]
        return sum(int(line.split()[1]) for line in lines) / 1000

    def rows(self, sql: str) -> list[tuple]:
        with sqlite3.connect(f"file:{self.database}?mode=ro", uri=True) as connection:
            return connection.execute(sql).fetchall()

    def query(self, sql: str) -> Any:
        """Return the single value that a query yields."""
        ((value,),) = self.rows(sql)
        return value

    def stored(self) -> int:
        return self.query("SELECT count(*) FROM events")

    @contextmanager
    def counting_syncs(self) -> Iterator[list[int]]:
        """Count disk syncs with strace, which slows the server down. The list holds the number afterwards."""
        targets = [word for pid in self.pids() for word in ("-p", str(pid))]
        counted = self.database.with_suffix(".strace")
        tracer = subprocess.Popen(
            ["strace", "-f", "-c", "-U", "name,calls", "-e", "trace=fsync,fdatasync", "-o", counted, *targets],
            stderr=subprocess.DEVNULL,
        )
        syncs = []
        yield syncs
        tracer.send_signal(signal.SIGINT)
        tracer.wait()
        calls = [line.split() for line in counted.read_text().splitlines()]
        syncs.append(sum(int(words[1]) for words in calls if words and words[0] in ("fsync", "fdatasync")))


ServerT = TypeVar("ServerT", bound=Server)


class Tracklog(Server):
    def counted(self) -> int:
        """Return the same as `stored`, without reading millions of rows."""
        return self.query("SELECT coalesce(sum(count), 0) FROM counts WHERE outcome = 'stored'")

    def flask(self, *arguments: str) -> None:
        """Run a flask command on the server's log."""
        environment = os.environ | {"TRACKLOG_DATABASE": str(self.database)}
        subprocess.run([BIN / "flask", *arguments], cwd=PROJECT, env=environment, check=True, stdout=subprocess.DEVNULL)


class Unstored(Server):
    is_durable = False
    stores = False

    def stored(self) -> int:
        return 0


class Naive(Server):
    batch_path = None


class PocketBase(Server):
    is_durable = False
    path = "/api/collections/events/records"
    batch_path = "/api/batch"


@contextmanager
def serving(server: ServerT) -> Iterator[ServerT]:
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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def tracklog(folder: Path, checkout: Path = PROJECT, name: str = "tracklog", workers: int = 2) -> Tracklog:
    return _gunicorn(Tracklog, folder, name, "wsgi:app", checkout, "--workers", str(workers))


def unstored(folder: Path) -> Unstored:
    """Return a tracklog that does not store anything."""
    return _gunicorn(Unstored, folder, "unstored", "unstored:app", PROJECT, "--workers", "2", "--pythonpath", HERE)


def naive(folder: Path) -> Naive:
    database = folder / "naive.db"
    environment = {"NAIVE_DATABASE": str(database)}
    subprocess.run([sys.executable, "-c", "import naive"], cwd=HERE, env=os.environ | environment, check=True)
    command = [BIN / "gunicorn", "naive:app", "--no-control-socket", "--bind", "127.0.0.1:{port}", "--workers", "2"]
    return Naive("naive", database, command, HERE, **environment)


def fastapi(folder: Path) -> Server:
    database = folder / "fastapi.db"
    command = [
        PEERS / ".venv" / "bin" / "uvicorn",
        "fastapi_app:app",
        "--port",
        "{port}",
        "--workers",
        "2",
        "--no-access-log",
        "--log-level",
        "warning",
    ]
    return Server("fastapi", database, command, PEERS, PEER_DATABASE=str(database))


def fastify(folder: Path) -> Server:
    database = folder / "fastify.db"
    return Server("fastify", database, ["node", "fastify.js", "{port}", database], PEERS)


def pocketbase(folder: Path) -> PocketBase:
    folder = folder / "pocketbase"
    folder.mkdir()
    program = PEERS / ".venv" / "bin" / "pocketbase"
    command = [program, "serve", "--http", "127.0.0.1:{port}", "--dir", folder, "--migrationsDir", PEERS / "pocketbase"]
    return PocketBase("pocketbase", folder / "data.db", command, PEERS)


def _gunicorn(kind: type[ServerT], folder: Path, name: str, app: str, checkout: Path, *options: str | Path) -> ServerT:
    database = folder / f"{name}.db"
    add_source(database, checkout)
    command = [BIN / "gunicorn", app, "--bind", "127.0.0.1:{port}", *options]
    return kind(name, database, command, checkout, TRACKLOG_DATABASE=str(database))


def add_source(database: Path, checkout: Path) -> None:
    """Create a log with a source, or add that to a log."""
    environment = os.environ | {"TRACKLOG_DATABASE": str(database)}
    command = [BIN / "flask", "sources", "add", "bench", "--source-id", "ILoveData123"]
    subprocess.run(command, cwd=checkout, env=environment, check=True, stdout=subprocess.DEVNULL)


ALL = [tracklog, unstored, naive, fastapi, fastify, pocketbase]


def missing(with_peers: bool) -> list[str]:
    """Return the missing programs that the measurements need, and the other servers if they are measured."""
    needs = {"wrk": shutil.which("wrk"), "strace": shutil.which("strace")}
    if with_peers:
        needs["make bench/peers/installed"] = (PEERS / ".venv").exists() and (PEERS / "node_modules").exists()
    return [name for name, found in needs.items() if not found]
