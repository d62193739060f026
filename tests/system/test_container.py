"""The image is built and run as docs/container.md says, in a host of containers, and loses no acknowledged event."""

import json
import re
import sqlite3
import time
from contextlib import ExitStack, closing, contextmanager

import pytest
from container_host import ContainerHost
from needs import need
from service import EVENT, PROJECT, SOURCE_ID, Clients, wait_until

pytestmark = pytest.mark.full

TEXT = (PROJECT / "docs/container.md").read_text()
PARTS = re.split(r"^## (.*)$", TEXT, flags=re.MULTILINE)
PAGE = {
    heading: blocks
    for heading, text in zip(PARTS[1::2], PARTS[2::2], strict=True)
    if (blocks := re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
}
WEB_PAGE = {"Origin": "https://shop.example.com", "X-Forwarded-For": "203.0.113.7"}


class Operator:
    """Follows the page on a host, with its own names and keys instead of those in the text."""

    def __init__(self, host):
        self.host = host
        self.followed = set()
        self.places = {
            "sources add website": f"sources add website --source-id {SOURCE_ID}",
            "SOURCE_ID:": f"{SOURCE_ID}:",
            "git pull": """sed -i 's/^VERSION = .*/VERSION = "9.9.9"/' config.py""",
        }

    def read(self, heading, number):
        """Return a block of a section with the names of this host."""
        text = PAGE[heading][number]
        for written, meant in self.places.items():
            text = text.replace(written, meant)
        return text

    def follow(self, heading, *numbers):
        """Run blocks of a section, by default all, and return what they print."""
        printed = ""
        for number in numbers or range(len(PAGE[heading])):
            self.followed.add((heading, number))
            text = self.read(heading, number)
            ended = self.host.build(text) if "podman build" in text else self.host.run(text)
            printed += ended.stdout + ended.stderr
        return printed

    def serve(self):
        """Start the service as the page says, and wait until it answers."""
        self.follow("Start the service", 1)
        self.wait_until_healthy()

    def wait_until_healthy(self, port=8000):
        wait_until(
            lambda: self.host.run(f"curl -s --max-time 5 http://127.0.0.1:{port}/healthz", check=False).returncode == 0,
            60,
        )

    def volume(self, name="tracklog"):
        """Return the folder of a volume, as it is seen from here."""
        return self.host.storage / "storage/volumes" / name / "_data"

    def stored(self, name="tracklog"):
        return {message_id for (message_id,) in self.query("SELECT message_id FROM events", name)}

    def query(self, sql, name="tracklog"):
        with closing(sqlite3.connect(f"file:{self.volume(name)}/tracklog.db?mode=ro", uri=True)) as connection:
            return connection.execute(sql).fetchall()

    def logs(self, container="tracklog"):
        ended = self.host.run(f"podman logs {container}")
        return ended.stdout + ended.stderr

    def post(self, port=8000):
        """Post an event and return the status and the answer."""
        command = f"curl -s -w '\\n%{{http_code}}' http://127.0.0.1:{port}/v1/track -u {SOURCE_ID}: -d"
        body, _, status = self.host.run(f"{command} '{json.dumps(EVENT)}'").stdout.rpartition("\n")
        return int(status), json.loads(body)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Yield an operator on a host that has the image."""
    with ContainerHost(tmp_path_factory.mktemp("containers")) as host:
        host.make_base()
        operator = Operator(host)
        operator.follow("Build", 0)
        yield operator


@pytest.fixture
def operator(built):
    """Yield an operator on a host with the image and nothing else."""
    places = dict(built.places)
    yield built
    built.places = places
    built.host.run("nginx -s stop", check=False)
    built.host.run("podman rm --all --force --time 0; podman volume rm --all --force; podman secret rm --all")


@pytest.fixture
def serving(operator):
    """Yield an operator whose service runs as the page says, without a forwarder."""
    operator.places["stop tracklog tracklog-forward"] = "stop tracklog"
    operator.follow("Start the service", 0)
    operator.serve()
    return operator


@contextmanager
def posting(operator, *ports):
    """Post from clients in the host's network, and check at the end that the log has all acknowledged events."""
    clients = [Clients(port, 4) for port in ports or (8000,)]
    with ExitStack() as stack:
        with operator.host.network():  # the threads stay in it
            for each in clients:
                stack.enter_context(each)
        yield clients[0]
    acknowledged = set().union(*(each.acknowledged_ids() for each in clients))
    assert acknowledged - operator.stored() == set()
    refused = [answer.status for each in clients for answer in each.refused]
    failed = sum(len(each.failed) for each in clients)
    print(f"{len(acknowledged)} acknowledged, {len(refused)} refused, {failed} without an answer, none lost")
    assert set(refused) <= {502, 503}


def test_every_command_of_the_page_works(operator):
    """The page, from top to bottom. A second service in a container plays the warehouse."""
    host = operator.host
    operator.follow("Build", 1)
    operator.follow("Start the service", 0)
    operator.serve()
    printed = operator.follow("Start the service", 2)
    assert '"success": true' in printed
    assert "Deployed" in printed
    operator.follow("Put nginx in front")
    _start_nginx(host)
    headers = " ".join(f"-H '{name}: {value}'" for name, value in WEB_PAGE.items())
    host.run(f"curl -sf http://127.0.0.1/v1/track -u {SOURCE_ID}: {headers} -d '{json.dumps(EVENT)}'")
    assert operator.query("SELECT payload ->> '$.context.ip' FROM events ORDER BY id DESC LIMIT 1") == [("127.0.0.1",)]
    assert "Deployed" in operator.follow("Run a command")
    _forward(operator)
    operator.follow("Back up")
    assert host.run("sqlite3 /backup/*.db 'SELECT count(*) FROM events'").stdout == "2\n"
    operator.follow("Upgrade", 0, 1)
    operator.serve()
    operator.follow("Troubleshooting")
    assert operator.post()[0] == 200
    assert operator.followed == {(heading, number) for heading in PAGE for number in range(len(PAGE[heading]))}


def _start_nginx(host):
    """Start Debian's nginx on the host, with a certificate at the place that the shipped file names."""
    need("nginx")
    need("openssl")
    host.run(
        "install -d /etc/ssl/tracklog; openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=events.example.com "
        "-keyout /etc/ssl/tracklog/privkey.pem -out /etc/ssl/tracklog/fullchain.pem; "
        "rm -f /etc/nginx/sites-enabled/*; nginx"
    )


def _forward(operator):
    """Follow the section on forwarding, to a warehouse in another container, and wait for its events."""
    create = operator.read("Start the service", 0).replace("tracklog:/var", "warehouse:/var")
    start = operator.read("Start the service", 1).replace("tracklog:/var", "warehouse:/var")
    operator.host.run(create)
    operator.host.run(
        start.replace("--name tracklog", "--name warehouse").replace("127.0.0.1:8000:", "127.0.0.1:8009:")
    )
    operator.wait_until_healthy(8009)
    address = operator.host.run("podman inspect warehouse --format '{{.NetworkSettings.IPAddress}}'").stdout.strip()
    operator.places |= {
        "https://${TRACKLOG_SECRET_WAREHOUSE}@events.example.com": f"http://${{TRACKLOG_SECRET_WAREHOUSE}}@{address}:8000",
        "KEY-OF-THE-WAREHOUSE": SOURCE_ID,
    }
    operator.follow("Forward events")
    wait_until(lambda: operator.stored("warehouse") == operator.stored())
    assert SOURCE_ID not in operator.host.run("podman inspect tracklog").stdout
    assert SOURCE_ID not in operator.logs("tracklog-forward")


def test_a_secret_of_podman_reaches_the_forwarder(serving):
    (secret,) = re.findall(r"`(--secret \S+)`", TEXT)
    serving.host.run("printf key | podman secret create warehouse -")
    serving.host.run(serving.read("Forward events", 2).replace("--env-file /etc/tracklog-forward.env", secret))
    assert "TRACKLOG_SECRET_WAREHOUSE=key\n" in serving.host.run("podman exec tracklog-forward env").stdout


def test_the_image_holds_only_what_runs(built):
    """It has the service's modules and no tests, docs, package manager for Python, or file that its user may change."""
    find = "podman run --rm --entrypoint find tracklog /opt/tracklog"
    found = built.host.run(f"{find} -maxdepth 1 -printf '%f\\n'").stdout.split()
    listed = re.findall(r"^(?:py_modules|packages) = (.*)$", (PROJECT / "setup.cfg").read_text(), re.MULTILINE)
    modules, packages = (line.split(", ") for line in listed)
    expected = {f"{name}.py" for name in modules} | {name for name in packages if "." not in name}
    assert set(found) == expected | {"tracklog", ".venv", "gunicorn.conf.py", "__pycache__"}
    assert built.host.run(f"{find} -writable -not -type l -o -name pip -o -name tests").stdout == ""
    assert built.host.run("podman inspect tracklog --format '{{.Config.User}} {{.Config.StopSignal}}'").stdout == (
        "10001:10001 SIGTERM\n"
    )
    print(built.host.run("podman images --format '{{.Repository}}:{{.Tag}} {{.Size}}'").stdout)


def test_no_python_is_compiled_at_a_start(serving):
    """All bytecode is in the image, which no container can write to."""
    loaded = serving.host.run("podman exec tracklog python3 -v -c 'import app' 2>&1").stdout
    assert "matches /opt/tracklog/" in loaded
    assert "could not create" not in loaded
    assert "code object from /opt/tracklog" not in loaded


def test_the_health_check_turns_healthy(serving):
    serving.host.run("podman healthcheck run tracklog")
    assert serving.host.run("podman inspect tracklog --format '{{.State.Health.Status}}'").stdout == "healthy\n"


def test_a_service_that_hangs_turns_unhealthy(operator):
    """The image of this test counts failures from the start. Without systemd, the test runs the health checks."""
    (check,) = re.findall(
        r"^HEALTHCHECK .*?\]$", (PROJECT / "deploy/Containerfile").read_text(), re.DOTALL | re.MULTILINE
    )
    (operator.host.folder / "Impatient").write_text("FROM tracklog\n" + check.replace("5m", "1s"))
    operator.host.run(f"podman build --format docker --tag impatient --file {operator.host.folder}/Impatient .")
    operator.follow("Start the service", 0)
    operator.places["=1 tracklog\n"] = "=1 impatient\n"
    operator.serve()
    operator.host.run("pkill -STOP -f 'gunicorn_app.py --config'")

    def is_unhealthy():
        assert operator.host.run("podman healthcheck run tracklog", check=False).returncode != 0
        return operator.host.run("podman inspect tracklog --format '{{.State.Health.Status}}'").stdout == "unhealthy\n"

    wait_until(is_unhealthy, 120)


def test_stopping_under_posts_is_in_time_and_loses_nothing(serving):
    with posting(serving) as clients:
        for _ in range(3):
            clients.go_on(100)
            started = time.monotonic()
            serving.follow("Upgrade", 1)
            print(f"stopped after {time.monotonic() - started:.1f} s")
            state = serving.host.run("podman inspect tracklog --format '{{.State.ExitCode}} {{.State.Status}}'").stdout
            assert state == "0 exited\n", "137 would mean that Podman has killed it"
            serving.host.run("podman start tracklog")
            serving.wait_until_healthy()
        clients.go_on(100)


@pytest.mark.parametrize("seconds", [0, 0.3, 0.6, 0.9])
def test_a_service_that_is_starting_stops_at_once(operator, seconds):
    """The kernel does not deliver signals to a first process that has no handlers yet."""
    operator.follow("Start the service", 0, 1)
    time.sleep(seconds)
    operator.host.run("podman stop tracklog")
    state = operator.host.run("podman inspect tracklog --format '{{.State.ExitCode}}'").stdout
    assert state in ("0\n", "143\n"), "137 would mean that Podman has killed it after 40 seconds"


def test_a_killed_service_starts_again_and_has_lost_nothing(serving):
    with posting(serving) as clients:
        for _ in range(3):
            clients.go_on(100)
            serving.host.run("kill -9 $(podman inspect tracklog --format '{{.State.Pid}}')")
            clients.go_on(100)


def test_an_upgrade_and_a_roll_back_under_posts_lose_nothing(serving):
    """Clients post through nginx, which answers 502 for the moment between the two versions."""
    serving.follow("Put nginx in front")
    _start_nginx(serving.host)
    serving.places["git pull"] = serving.places["git pull"].replace("9.9.9", "9.9.10")
    (roll_back,) = re.findall(r"`(podman tag tracklog:previous tracklog)`", TEXT)
    with posting(serving, 80) as clients:
        clients.go_on(100)
        serving.follow("Upgrade", 0, 1)
        serving.serve()
        clients.go_on(100)
        assert '"version": "9.9.10"' in serving.logs()
        serving.host.run(roll_back)
        serving.follow("Upgrade", 1)
        serving.serve()
        clients.go_on(100)
        assert '"version": "9.9.10"' not in serving.logs()
    assert {answer.retry_after for answer in clients.refused} == {"5"}


def test_two_services_on_one_volume_lose_nothing(serving):
    second = serving.read("Start the service", 1).replace("--name tracklog", "--name second")
    serving.host.run(second.replace("127.0.0.1:8000:", "127.0.0.1:8001:"))
    serving.wait_until_healthy(8001)
    with posting(serving, 8000, 8001) as clients:
        clients.go_on(300)
        serving.host.run("podman kill second")
        clients.go_on(300)
    serving.host.run("podman exec tracklog tracklog events check")


def test_a_volume_of_another_user_is_named_with_its_remedy(serving):
    serving.host.run("podman stop tracklog")
    serving.host.run(f"chown -R 0:0 {serving.volume()}")
    serving.follow("Start the service", 1)
    message = "The user 10001 cannot read and write /var/lib/tracklog, which belongs to root"
    wait_until(lambda: message in serving.logs())
    assert "chown 10001 /var/lib/tracklog" in serving.logs()
    serving.follow("Troubleshooting")
    serving.wait_until_healthy()
    assert serving.post()[0] == 200


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--volume tracklog:/var/lib/tracklog": ""}, "is on a file system that is mounted read-only"),
        (
            {"tracklog:/var/lib/tracklog": "tracklog:/var/lib/tracklog:ro"},
            "is on a file system that is mounted read-only",
        ),
        ({"tracklog:/var/lib/tracklog": "other:/var/lib/tracklog"}, "There is no log at /var/lib/tracklog/tracklog.db"),
        ({"PROXIES=1": "PROXIES=one"}, "TRACKLOG_TRUSTED_PROXIES must be"),
    ],
    ids=["no volume", "read-only volume", "another volume", "wrong setting"],
)
def test_a_start_that_fails_says_why(operator, changes, message):
    operator.follow("Start the service", 0)
    operator.places |= changes
    operator.follow("Start the service", 1)
    wait_until(lambda: message in operator.logs())


def test_a_full_volume_answers_503_and_stays_healthy(operator):
    operator.host.run("mkdir -p /full; mount -t tmpfs -o size=40m,uid=10001,mode=700 tmpfs /full")
    operator.places["tracklog:/var/lib/tracklog"] = "/full:/var/lib/tracklog"
    try:
        operator.follow("Start the service", 0)
        operator.serve()
        assert operator.post()[0] == 200
        operator.host.run("dd if=/dev/zero of=/full/filler bs=64k 2>/dev/null || true")
        status, answer = wait_until(lambda: (got := operator.post())[0] != 200 and got)
        assert (status, answer["code"]) == (503, "storage_unavailable")
        operator.host.run("podman healthcheck run tracklog")
        assert operator.host.run("curl -sf http://127.0.0.1:8000/readyz", check=False).returncode != 0
        operator.host.run("rm /full/filler")
        wait_until(lambda: operator.post()[0] == 200)
    finally:
        operator.host.run("podman rm --all --force --time 0; umount /full")


def test_a_read_only_root_of_docker_needs_only_a_tmp(operator):
    """Unlike Podman, Docker mounts no /tmp in a container with a read-only root."""
    (table,) = re.findall(r"^\| `--read-only` \| `(.*?)`", TEXT, re.MULTILINE)
    operator.follow("Start the service", 0)
    operator.places["--read-only"] = f"{table} --read-only-tmpfs=false"
    operator.serve()
    assert operator.post()[0] == 200
