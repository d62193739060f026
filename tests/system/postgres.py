"""Run a real PostgreSQL on loopback, as a cluster of its own in a temporary folder."""

import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path

from needs import lack, need_module
from service import free_port, wait_until

psycopg = need_module("psycopg")
USER, PASSWORD = "tester", "hush-4711"


class Cluster:
    """A server that keeps its port and its storage when it is killed and started again."""

    def __init__(self, folder=None):
        self._programs = find_programs()
        # PostgreSQL refuses to run as root, and its user cannot enter the tests' folders.
        self.as_user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
        self.folder = folder or Path(tempfile.mkdtemp(prefix="tracklog-postgresql-"))
        self.folder.mkdir(exist_ok=True)
        if self.as_user:
            shutil.chown(self.folder, "postgres", "postgres")
        password_file = self.folder / "password"
        password_file.write_text(PASSWORD)
        password_file.chmod(0o644)
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"postgresql://{USER}:{PASSWORD}@{self.address}/postgres"
        options = ["--username", USER, "--pwfile", password_file, "--auth", "scram-sha-256", "--no-locale", "--no-sync"]
        self._run("initdb", "--pgdata", self.folder / "data", "--encoding", "UTF8", *options)
        self.process = None
        self.settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "shared_buffers": "64MB"}
        self.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        shutil.rmtree(self.folder)

    def start(self):
        """Start the server, again if it ends at once: a killed one's processes hold its memory for a moment."""
        settings = [word for name, value in self.settings.items() for word in ("-c", f"{name}={value}")]
        command = [self._programs / "postgres", "-D", self.folder / "data", "-p", str(self.port), *settings]

        def is_up():
            if not self.process or self.process.poll() is not None:
                with open(self.folder / "server.log", "a") as output:
                    self.process = subprocess.Popen(command, stdout=output, stderr=output, cwd="/", **self.as_user)
            return self._answers()

        wait_until(is_up, 60)

    def kill(self):
        """Kill all processes at once, as a power cut does."""
        if self.process.poll() is None:
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            for pid in [self.process.pid, *map(int, children)]:
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def connect(self, **settings):
        """Return a connection in a with block, which closes it."""
        return closing(psycopg.connect(self.url, autocommit=True, connect_timeout=5, **settings))

    def query(self, query, *values, **settings):
        """Run a statement and return its rows, if it has any."""
        with self.connect(**settings) as connection:
            cursor = connection.execute(query, values or None)
            return cursor.fetchall() if cursor.description else []

    def _answers(self):
        try:
            return self.query("SELECT 1")
        except psycopg.Error:
            return False

    def _run(self, program, *arguments):
        subprocess.run([self._programs / program, *arguments], check=True, capture_output=True, cwd="/", **self.as_user)


def find_programs():
    """Return the folder of PostgreSQL's programs, which Debian does not put into PATH."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not folders:
        lack("postgresql")
    return folders[-1]
