import base64
import functools
import subprocess
from pathlib import Path

import pytest
from faults import MAX_SECONDS_TO_503, check_counts
from machine import Machine
from needs import lack, need
from nginx import Nginx
from service import Service

collect_ignore = ["clients"]  # the libraries there bring tests of their own


@pytest.fixture
def service(tmp_path):
    """Yield a service that is not started yet. Its log has the API's example source."""
    with Service(tmp_path).with_source() as service:
        yield service


@pytest.fixture
def running(service):
    service.start()
    return service


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Yield one running service for all tests of a module."""
    with Service(tmp_path_factory.mktemp("shared")).with_source() as service:
        service.start()
        yield service


@pytest.fixture
def compare(record_property):
    """Return a function that compares the answers that clients got with the services' logs."""

    def compare(fault, clients, *services):
        clients = clients if isinstance(clients, list) else [clients]
        acknowledged = {answer.message_id for each in clients for answer in each.acknowledged}
        logs = [service.query("SELECT message_id FROM events") for service in services]
        stored = {message_id for log in logs for (message_id,) in log}
        lost = acknowledged - stored
        unavailable = [answer for each in clients for answer in each.refused if answer.status == 503]
        longest = max((answer.seconds for answer in unavailable), default=0)
        longest_of_all = max(answer.seconds for each in clients for answer in each.acknowledged + each.refused)
        record_property(
            "fault",
            f"{fault}: {len(acknowledged)} acknowledged, {len(stored)} stored, {len(lost)} lost, "
            f"longest answer {longest_of_all:.1f} s, longest of {len(unavailable)} with 503 {longest:.1f} s",
        )
        assert lost == set()
        assert all(len(log) == len(set(log)) for log in logs)
        assert {(answer.body["code"], answer.retry_after) for answer in unavailable} <= {("storage_unavailable", "5")}
        assert longest <= MAX_SECONDS_TO_503
        for service in services:
            check_counts(service)
            assert service.lines(), "all of them JSON"

    return compare


@pytest.fixture
def faketime():
    """Return the path of libfaketime."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    return found[0] if found else lack("libfaketime")


@pytest.fixture
def clock(service, faketime):
    """Return the file that holds how many seconds the service's clock is ahead."""
    clock = service.folder / "clock"
    clock.write_text("+0")
    # libfaketime breaks the system call of time.sleep.
    (service.folder / "sitecustomize.py").write_text(
        "import select, time\ntime.sleep = lambda seconds: select.select([], [], [], seconds)\n"
    )
    service.environment |= {
        "PYTHONPATH": str(service.folder),
        "LD_PRELOAD": str(faketime),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
    return clock


@pytest.fixture
def mount_disk(tmp_path):
    """Return a function that mounts a small file system of so many MiB and returns its folder."""
    mounted = []

    def mount(mebibytes):
        disk = tmp_path / "disk"
        disk.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", disk]
        if subprocess.run(command, capture_output=True).returncode:
            lack("the right to mount a file system")
        mounted.append(disk)
        return disk

    yield mount
    for disk in mounted:
        subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.fixture(scope="session")
def new_machine(tmp_path_factory):
    """Return a function that makes a Machine of a release of Debian, by default this host's. Use it in a with block."""
    return functools.partial(Machine, tmp_path_factory.mktemp("machines"))


@pytest.fixture
def basic():
    """Return a function that makes a client library's Authorization header for a Source ID."""
    return lambda source_id: {"Authorization": "Basic " + base64.b64encode(f"{source_id}:".encode()).decode()}


@pytest.fixture
def start_nginx(tmp_path):
    """Return a function that starts nginx with the shipped configuration and a given upstream."""
    need("nginx")
    need("openssl")
    started = []

    def start(upstream, changes=()):
        started.append(Nginx(tmp_path, upstream, changes))
        return started[-1]

    yield start
    for nginx in started:
        nginx.stop()


@pytest.fixture
def nginx(service, start_nginx):
    """Start nginx with the shipped configuration in front of a service that trusts it."""
    service.environment["TRACKLOG_TRUSTED_PROXIES"] = "1"
    service.start()
    return start_nginx(f"127.0.0.1:{service.port}")


def pytest_terminal_summary(terminalreporter):
    """Print for each fault the events acknowledged, stored and lost, and the longest answer."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, [])]
    lines = [value for report in reports for name, value in report.user_properties if name == "fault"]
    if lines:
        terminalreporter.section("faults")
        for line in lines:
            terminalreporter.line(line)
