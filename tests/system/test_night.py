"""The failures that docs/troubleshoot.md lists are caused: each fires the alert and writes the log line named there."""

import json
import os
import re
import signal
import subprocess
import time
from contextlib import suppress
from typing import NamedTuple

import pytest
from faults import kill, kill_worker
from forwarder import answering, forwarder
from host import set_up_host
from needs import lack, need
from promtool import RULES, firing, names_of
from service import BIN, EVENT, PROJECT, SOURCE_ID, Service, free_port, wait_until

PAGE = PROJECT / "docs" / "troubleshoot.md"
LABELS = 'job="tracklog",instance="host"'
NEWEST = "tracklog_worker_start_seconds{}"
METRICS = {name for rule in RULES.values() for name in re.findall(r"tracklog_\w+", rule["expr"])}
BATCH = {"batch": [EVENT | {"type": "track"}] * 10_000}


class Row(NamedTuple):
    """A row of the page's table: alerts, the log line as a pattern, and the section to read."""

    alerts: list[str]
    line: str
    page: str
    anchor: str


def read_rows():
    """Return the rows of the table by failure. In a log line, … stands for any text."""
    table = PAGE.read_text().partition("\n## Ten failures of a night\n")[2].partition("\n## ")[0]
    rows = {}
    for failure, alert, line, link in re.findall(r"^\| (.+?) \| (`.+?) \| (.+?) \| (\[.+?\)) \|$", table, re.MULTILINE):
        (text,) = re.findall(r"`(.+?)`", line)
        page, anchor = re.search(r"\((.*?)#(.+)\)", link).groups()
        pattern = ".+".join(map(re.escape, text.split("…")))
        rows[failure] = Row(re.findall(r"`(\w+)`", alert), pattern, page or "troubleshoot.md", anchor)
    return rows


ROWS = read_rows()
TESTED = set()


def causes(failure):
    """Mark a test as that of a row, which it gets as `row`."""
    TESTED.add(failure)
    return pytest.mark.parametrize("row", [ROWS[failure]], ids=[""])


def scrape(service):
    """Return what Prometheus gets: the value of each sample, or none from a service that does not answer."""
    with suppress(OSError), service.connection() as connection:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        if answer.status == 200:
            return samples_of(answer.read().decode())
    return {"up{}": 0.0}


def samples_of(text):
    """Return the samples of an answer that rules ask for. The clock becomes that of promtool, which starts at 0."""
    found = {"up{}": 1.0}
    for name, labels, value in re.findall(r"^(\w+)(?:\{(.*)\})? (\S+)$", text, re.MULTILINE):
        if name in METRICS:
            number = min(float(value), 1e300)  # promtool cannot read +Inf
            found[f"{name}{{{labels}}}"] = number - time.time() if name == "tracklog_clock_seconds" else number
    return found


def series_of(*phases):
    """Return series of so many minutes each, in which the service was as in a scrape.

    Counters grow to their value within a phase, ages grow from it, and other values stay.
    """
    series, minutes_before, before = {}, 0, {}
    for minutes, samples in phases:
        for name, value in samples.items():
            parts = series.setdefault(name, [f"_x{minutes_before}"] if minutes_before else [])
            start, step = value, 0.0
            if "_total{" in name:
                start = before.get(name, value)
                step = (value - start) / minutes
                start += step
            elif "clock" in name:
                start, step = value + 60 * minutes_before, 60.0
            elif value and re.search("_age_|waiting_seconds|held_seconds", name):
                step = 60.0
            parts.append(f"{start:.3f}+{step:.6f}x{minutes - 1}")
        for name in series.keys() - samples.keys():
            series[name].append(f"_x{minutes}")
        minutes_before, before = minutes_before + minutes, before | samples
    return {name.replace("{", "{" + LABELS + ",").replace(",}", "}"): " ".join(v) for name, v in series.items()}


def check(row, said, healthy, *failing):
    """Check that the line was written, and that the alerts fire after the failing phases but not before them."""
    need("promtool")
    assert re.search(row.line, said), said
    minute = sum(minutes for minutes, _ in healthy) - 1
    silent = names_of(firing(series_of(*healthy), minute))
    assert silent == set()
    fires = names_of(firing(series_of(*healthy, *failing), minute + sum(minutes for minutes, _ in failing)))
    assert set(row.alerts) <= fires
    print(f"fires: {fires}")


def sound(service):
    """Return the phase of a service that runs and was backed up just now."""
    service.flask("events", "backup", service.folder / "backup.db")
    return [(120, scrape(service))]


def fail_to_start(service, under=()):
    """Start a service that cannot start. Return what it prints."""
    command = [*under, BIN / "gunicorn", "wsgi:app", "--bind", f"127.0.0.1:{service.port}"]
    ended = subprocess.run(
        command, cwd=PROJECT, env=service.environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode != 0
    return ended.stdout + ended.stderr


# The table


def test_the_page_lists_ten_failures_each_with_a_test():
    assert len(ROWS) == 10
    assert set(ROWS) == TESTED


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_the_alerts_and_the_section_of_a_failure_exist(row):
    assert row.alerts
    assert set(row.alerts) <= set(RULES)
    headings = re.findall(r"^#+ (.*)$", (PROJECT / "docs" / row.page).read_text(), re.MULTILINE)
    assert row.anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


# The failures


@causes("The log's disk is mounted too late")
def test_a_log_that_is_not_mounted_yet(running, row):
    healthy = sound(running)
    running.stop()
    running.database.rename(running.folder / "not mounted")
    said = fail_to_start(running)
    check(row, said, healthy, (60, scrape(running)))


@causes("A setting is wrong")
@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("TRACKLOG_MAX_BODY_BYTES", "8MB"),
        ("TRACKLOG_BIND", "localhost"),
    ],
    ids=["number", "address"],
)
def test_a_wrong_setting(running, row, setting, value):
    healthy = sound(running)
    running.stop()
    running.environment[setting] = value
    said = fail_to_start(running)
    check(row, said, healthy, (60, scrape(running)))


@causes("The disk is full")
def test_a_full_disk(mount_disk, tmp_path, row):
    """The small disk counts as the last part of a larger one before it is full."""
    disk = mount_disk(24)
    with Service(tmp_path, disk / "tracklog.db").with_source() as service:
        service.start()
        assert service.post("/v1/track", EVENT)[0] == 200
        healthy = sound(service)
        healthy[0][1]["tracklog_disk_free_bytes{}"] += 20e9
        with open(disk / "filler", "ab", buffering=0) as file, suppress(OSError):
            while file.write(b"x" * 4096):
                pass
        phases = []
        for _ in range(2):
            wait_until(lambda: service.post("/v1/track", EVENT)[0] == 503)  # not before the -wal is full
            phases.append((10, scrape(service)))
        check(row, service.said(), healthy, *phases)


def certificate(path, days_ago, faketime):
    """Make a certificate that was valid for two days, so many days ago."""
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
    subprocess.run(
        [*command, "-keyout", path, "-out", path],
        env=os.environ | {"LD_PRELOAD": str(faketime), "FAKETIME": f"-{days_ago}d"},
        check=True,
        capture_output=True,
    )


@causes("The certificate has expired")
def test_an_expired_certificate(nginx, service, row, faketime, tmp_path):
    need("curl")
    path = nginx.folder / "certificate.pem"
    (tmp_path / "body").write_text(json.dumps(BATCH))

    def post():
        url = f"https://localhost:{nginx.tls_port}/v1/batch"
        options = ["--silent", "--show-error", "--cacert", path, "--user", f"{SOURCE_ID}:", "--max-time", "30"]
        return subprocess.run(["curl", *options, url, "--data", f"@{tmp_path}/body"], capture_output=True, text=True)

    service.post("/v1/track", EVENT)
    before = scrape(service)
    assert json.loads(post().stdout)["stored"] == len(BATCH["batch"])
    healthy = sound(service)[0][1]
    certificate(path, 10, faketime)
    nginx.process.send_signal(signal.SIGHUP)

    def refused():
        said = post().stderr
        return said if "expired" in said else None  # nginx's old workers still serve for a moment

    said = wait_until(refused)
    check(row, said, [(5, before), (1500, healthy)], (60, scrape(service)))


@causes("The forwarder does not run")
def test_a_forwarder_that_does_not_run(running, row):
    with answering(lambda *_: (200, {}, b"{}")) as port:
        running.flask("destinations", "add", "hook", f"webhook+http://127.0.0.1:{port}/")
        with forwarder(running):
            assert running.post("/v1/track", EVENT)[0] == 200
            wait_until(lambda: running.query("SELECT delivered FROM destinations") == [(1,)])
            healthy = sound(running)
        assert running.post("/v1/track", EVENT)[0] == 200
        time.sleep(0.01)
        said = (running.folder / "forward.log").read_text()
        check(row, said.splitlines()[-1], healthy, (60, scrape(running)))


@causes("A destination is dead")
@pytest.mark.parametrize("answer", [None, (200, {}, b"no")], ids=["none", "wrong"])
def test_a_dead_destination(running, row, answer):
    """It does not listen at all, or answers otherwise than expected."""
    with answering(lambda *_: answer) as port:
        port = port if answer else free_port()
        running.flask("destinations", "add", "gone", f"webhook+http://127.0.0.1:{port}/?expect=yes")
        healthy = sound(running)
        with forwarder(running):
            assert running.post("/v1/track", EVENT)[0] == 200
            wait_until(lambda: running.query("SELECT 1 FROM destinations WHERE last_error IS NOT NULL"))
            said = (running.folder / "forward.log").read_text()
            check(row, said, healthy, (15, scrape(running)))


@causes("Files belong to root")
@pytest.mark.parametrize("end", ["", "-queue"], ids=["log", "queue"])
def test_files_of_another_user(running, row, end):
    """Root without its capabilities plays a user that may not open the file, which belongs to another user."""
    need("setpriv")
    if os.getuid() != 0:
        lack("the right to mount a file system")
    healthy = sound(running)
    running.stop()
    path = f"{running.database}{end}"
    os.chmod(path, 0o600)
    os.chown(path, 12345, 12345)
    said = fail_to_start(running, ["setpriv", "--bounding-set=-dac_override,-dac_read_search"])
    check(row, said, healthy, (60, scrape(running)))


@causes("The log was moved")
def test_a_moved_log(running, row):
    assert running.post("/v1/track", EVENT)[0] == 200
    healthy = sound(running)
    for path in running.folder.glob("tracklog.db*"):
        path.rename(running.folder / f"moved-{path.name}")
    assert running.post("/v1/track", EVENT)[0] == 503
    check(row, running.said(), healthy, (5, scrape(running)))


@pytest.mark.parametrize("victim", ["service", "worker"])
def test_workers_that_are_killed_again_and_again(service, victim):
    """The line of systemd is checked in a machine, below."""
    need("promtool")
    service.start()
    phases = [(60, scrape(service))]
    for _ in range(4):
        if victim == "worker":
            kill_worker(service)
        else:
            kill(service.process.pid)
            service.process.wait(30)
            service.start()
        start = phases[-1][1][NEWEST]
        phases.append((5, wait_until(lambda start=start: (now := scrape(service)).get(NEWEST, start) > start and now)))
    if victim == "worker":
        assert re.search(r"Worker \(pid:\d+\) was sent SIGKILL! Perhaps out of memory\?", service.said())
    minutes = [59, 69, 79]
    fires = ["TracklogRestarts" in names_of(firing(series_of(*phases), minute)) for minute in minutes]
    assert fires == [False, False, True]


@causes("The clock jumps")
@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_clock_that_jumps(service, row, seconds, clock):
    service.start()
    healthy = sound(service)
    clock.write_text(f"{seconds:+}")
    wait_until(lambda: service.lines("clock_jumped"))
    assert service.post("/v1/track", EVENT)[0] == 200
    assert {line["seconds"] for line in service.lines("clock_jumped")} == {seconds}
    check(row, service.said(), healthy, (15, scrape(service)))


# The failures that need systemd


class Host:
    """The service in a machine with systemd, set up as docs/deploy.md says."""

    def __init__(self, machine):
        self.run = set_up_host(machine).run
        wait_until(self.is_up)
        self.run("tracklog events backup /var/lib/tracklog/backup.db")

    def scrape(self):
        """Return what Prometheus gets within its time limit."""
        ask = "curl --silent --fail --max-time 5 --unix-socket /run/tracklog.sock http://localhost/metrics || true"
        text = self.run(ask).stdout
        return samples_of(text) if text else {"up{}": 0.0}

    def is_up(self):
        return self.scrape()["up{}"]

    def said(self, since):
        """Return the lines that `journalctl -u tracklog` has since a cursor."""
        return self.run(f"journalctl --unit=tracklog --output=cat --after-cursor='{since}'").stdout

    def cursor(self):
        shown = self.run("journalctl --sync; journalctl --lines=0 --show-cursor --quiet").stdout
        return shown.removeprefix("-- cursor: ").strip()

    def fail(self, row, cause, repair):
        """Cause a failure of the service, check its row, and repair it."""
        healthy, since = [(120, self.scrape())], self.cursor()
        self.run(cause)
        wait_until(lambda: re.search(row.line, self.said(since)))
        check(row, self.said(since), healthy, (60, self.scrape()))
        self.run(repair)
        wait_until(self.is_up)


@pytest.fixture(scope="module")
def host(new_machine):
    with new_machine() as machine:
        yield Host(machine)


@pytest.mark.full
@causes("The log's disk is mounted too late")
def test_a_host_whose_log_is_mounted_late(host, row):
    move = "systemctl stop tracklog; mkdir /srv/disk; mv /var/lib/tracklog/* /srv/disk"
    start = "systemctl start --no-block tracklog"
    mount = "chown tracklog: /srv/disk; mount --bind /srv/disk /var/lib/tracklog"
    host.fail(row, f"{move}; {start}", mount)


@pytest.mark.full
@causes("A setting is wrong")
def test_a_host_with_a_wrong_setting(host, row):
    wrong = "echo TRACKLOG_MAX_BODY_BYTES=8MB >> /etc/tracklog.env; systemctl restart --no-block tracklog"
    host.fail(row, wrong, "sed -i /8MB/d /etc/tracklog.env")


@pytest.mark.full
@causes("The service is killed again and again")
def test_a_host_whose_service_is_killed(host, row):
    since, phases = host.cursor(), [(60, host.scrape())]
    for _ in range(4):
        host.run("systemctl kill --signal=KILL --kill-whom=main tracklog")
        start = phases[-1][1][NEWEST]
        phases.append((5, wait_until(lambda start=start: (now := host.scrape()).get(NEWEST, start) > start and now)))
    check(row, host.said(since), phases[:1], *phases[1:])
