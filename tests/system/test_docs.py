"""Every shell example in the documentation works as written, in a folder like the reader's."""

import itertools
import os
import re
import subprocess
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime

import pytest
from broker import Broker
from forwarder import answering
from needs import need
from postgres import PASSWORD, USER, Cluster
from service import BIN, PROJECT, SOURCE_ID, Service, free_port, wait_until, write_command

DOCUMENTS = [
    "README.md",
    "docs/api.md",
    "docs/clients.md",
    "docs/forward.md",
    "docs/maintain.md",
    "docs/monitor.md",
    "docs/troubleshoot.md",
]
ELSEWHERE = {
    "make browse": "test_browse.py",
    "make run": "test_start.py",
    "make test": "runs these tests",
    ".venv/bin/pip install '.[archive]' && make install": "the tests' environment has it",
    ".venv/bin/pip install '.[kafka]' && make install": "the tests' environment has it",
    ".venv/bin/pip install '.[postgresql]' && make install": "the tests' environment has it",
}
OF_THE_MACHINE = (
    "make -C /opt/tracklog ",
    "TRACKLOG_DATABASE=/var/lib/tracklog/tracklog.db runuser ",
    "journalctl ",
    "systemctl ",
)  # need root and systemd; test_systemd.py checks the files
# Some run the tests. test_deploy_page.py, test_container.py and test_warehouse.py follow the others.
NOT_RUN = ["CONTRIBUTING.md", "docs/container.md", "docs/deploy.md", "docs/warehouse.md"]


def sections(document):
    """Return the shell examples of a document, by heading."""
    parts = re.split(r"^#+ (.*)$", (PROJECT / document).read_text(), flags=re.MULTILINE)
    found = {}
    for heading, text in zip(parts[1::2], parts[2::2], strict=True):
        if blocks := re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            found[heading] = blocks
    return found


def commands(block):
    """Yield the commands of a block. A command may have several lines."""
    lines = []
    for line in block.splitlines():
        lines.append(line)
        command = "\n".join(lines)
        if not line.endswith("\\") and subprocess.run(["bash", "-nc", command], capture_output=True).returncode == 0:
            yield command
            lines = []
    assert not lines, lines


def programs(document, heading):
    """Return the system programs that the examples of a section use."""
    words = set(re.findall(r"\w+", "".join(sections(document)[heading])))
    return sorted({"curl", "jq", "sqlite3"} & words)


class Reader:
    """Types the commands of an example, with the names of this machine instead of those in the text."""

    def __init__(self, service, places):
        self.service = service
        self.places = places
        self.environment = service.environment | {
            "PATH": f"{write_command(service.folder / 'bin')}:{BIN}:{os.environ['PATH']}",
            "TRACKLOG_SECRET_WAREHOUSE": SOURCE_ID,
            "TRACKLOG_SECRET_KAFKA": "secret",
            "TRACKLOG_SECRET_HOOK": "secret",
            "TRACKLOG_BIND": f"127.0.0.1:{free_port()}",
        }
        for path in PROJECT.iterdir():
            if not path.name.startswith("tracklog.db"):
                (service.folder / path.name).symlink_to(path)

    def types(self, command):
        """Run a command until it ends, or until its condition in UNTIL is true, and return its output."""
        until = UNTIL.get(command)
        for written, meant in self.places.items():
            command = command.replace(written, meant)
        shell = ["bash", "-euo", "pipefail", "-c"]
        if until:
            return self._interrupts([*shell, f"exec env {command}"], until)
        ended = subprocess.run([*shell, command], cwd=self.service.folder, env=self.environment, **TEXT)
        assert ended.returncode == 0, f"{command}\n{ended.stdout}{ended.stderr}"
        return ended.stdout

    def _interrupts(self, command, until):
        printed = self.service.folder / "printed"
        with open(printed, "w") as output:
            started = subprocess.Popen(
                command, cwd=self.service.folder, env=self.environment, stdout=output, stderr=output
            )
        try:
            wait_until(lambda: started.poll() is not None or until(self, printed.read_text()))
            assert started.poll() is None, printed.read_text()
        finally:
            started.terminate()
            started.wait(40)
        return printed.read_text()

    def has_delivered(self):
        return self.service.query("SELECT min(position) = (SELECT max(id) FROM events) FROM destinations") == [(1,)]


TEXT = {"capture_output": True, "text": True, "input": "y\n"}  # confirms every question
# Commands that run until they are stopped, with the condition to wait for.
UNTIL = {
    "tracklog events tail -n 20 --follow --source website": lambda reader, printed: "Posted" in printed,
    "tracklog events tail -n 20 --follow --rejected": lambda reader, printed: "event_not_defined" in printed,
    "tracklog forward": lambda reader, printed: reader.has_delivered(),
    "tracklog forward cold": lambda reader, printed: reader.has_delivered(),
    "TRACKLOG_DATABASE=/var/lib/tracklog/tracklog.db .venv/bin/tracklog serve --workers 2": (
        lambda reader, printed: "Booting worker" in printed
    ),
}


@contextmanager
def serving(folder, source):
    with Service(folder).with_source(source) as service:
        service.start()
        yield service


@pytest.fixture
def reader(tmp_path, request):
    """Yield a Reader of a section, with a running service that has what the section needs."""
    document, heading = request.param
    for program in programs(document, heading):
        need(program)
    places = {"/var/lib/tracklog": str(tmp_path), "/backup/": f"{tmp_path}/"}
    with ExitStack() as stack:
        # The README assumes the source that `make run` registers, the other pages a source with events.
        service = stack.enter_context(serving(tmp_path, "example" if document == "README.md" else "website"))
        places[".venv/bin/tracklog"] = "tracklog"
        places["127.0.0.1:8000"] = f"127.0.0.1:{service.port}"
        if document != "README.md":
            for number in range(17):
                assert service.post("/v1/track", {"userId": "1", "messageId": str(number)})[0] == 400
            assert service.post("/v1/track", {"userId": "1234", "event": "Posted"})[0] == 200
        reader = Reader(service, places)
        if document == "docs/forward.md":
            port = stack.enter_context(serving(tmp_path / "warehouse", "tracklog")).port
            places["https://${TRACKLOG_SECRET_WAREHOUSE}@events.example.com"] = (
                f"http://${{TRACKLOG_SECRET_WAREHOUSE}}@127.0.0.1:{port}"
            )
            places["seconds=60"] = "seconds=1"
            places["2026-03-"] = f"{datetime.now(UTC):%Y-%m-}"
        if heading == "Webhooks":
            port = stack.enter_context(answering(lambda *_: (200, {}, b"")))
            places["webhook+https://${TRACKLOG_SECRET_HOOK}@hook.example.com"] = (
                f"webhook+http://secret@127.0.0.1:{port}"
            )
        if heading == "Dead letters":
            reader.types(
                "tracklog destinations add warehouse 'https://${TRACKLOG_SECRET_WAREHOUSE}@events.example.com/v1/batch'"
            )
        if heading == "Kafka":
            broker = Broker(tmp_path)
            stack.callback(broker.kill)
            places["127.0.0.1:9092"] = broker.address
            places["/etc/ssl/kafka.pem"] = "/etc/ssl/certs/ca-certificates.crt"
            places["destinations add kafka 'kafka://b1"] = "destinations add secured 'kafka://b1"
        if heading == "PostgreSQL":
            cluster = stack.enter_context(Cluster())
            reader.environment["PGPASSWORD"] = PASSWORD
            places["collector@db.example.com/analytics"] = f"{USER}@{cluster.address}/postgres"
        yield reader


@pytest.mark.parametrize(
    "reader",
    [
        pytest.param(
            (document, heading),
            marks=[pytest.mark.smoke] if document == "README.md" and not programs(document, heading) else [],
            id=f"{document}: {heading}",
        )
        for document in DOCUMENTS
        for heading in sections(document)
    ],
    indirect=True,
)
def test_the_examples_of_a_section_work(reader, request):
    document, heading = request.node.callspec.params["reader"]
    text = (PROJECT / document).read_text()
    for command in itertools.chain.from_iterable(map(commands, sections(document)[heading])):
        if command in ELSEWHERE or command.startswith(OF_THE_MACHINE):
            continue
        printed = reader.types(command)
        if command.startswith("curl"):
            assert '"ready"' in printed or '"success": true' in printed, printed
        if command.startswith("sqlite3") and document == "README.md":
            assert printed in text, "the README shows another table than this one:\n" + printed


def test_every_page_with_examples_is_run_or_listed():
    with_examples = [str(path.relative_to(PROJECT)) for path in [*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md")]]
    assert sorted(DOCUMENTS + NOT_RUN) == sorted(document for document in with_examples if sections(document))


def test_every_code_block_names_its_language():
    for path in [*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md")]:
        fences = re.findall(r"^```(.*)$", path.read_text(), re.MULTILINE)
        assert all(fences[::2]), path
        assert not any(fences[1::2]), path
