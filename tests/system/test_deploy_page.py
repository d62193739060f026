"""docs/deploy.md, followed to the letter, leads from an empty Debian to operation, and through what comes later."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from service import PROJECT, wait_until

pytestmark = pytest.mark.full

PAGE = (PROJECT / "docs" / "deploy.md").read_text()
SUITES = {"bookworm": "3.11", "trixie": "3.13"}  # with the version of Python
# What an operator sets at the top of the page, in this machine without network.
VALUES = {
    "REPOSITORY": "/root/repository",
    "HOST": "events.example.com",
    "DESTINATION": "http://${TRACKLOG_SECRET_WAREHOUSE}@127.0.0.1:9000/v1/batch",
}
NOT_RUN = ["certbot", "systemctl reboot"]  # needs a public name; the test reboots the machine from outside
SECRET = "TheKeyOfTheWarehouse"
HELPER = Path(__file__).with_name("on_machine.py")
RECEIVER = "[Service]\nExecStart=python3 /root/on_machine.py receive 9000\n[Install]\nWantedBy=multi-user.target\n"
LOG = "/var/lib/tracklog/tracklog.db"


def sections():
    """Return the shell blocks of each heading of the page, in order."""
    parts = re.split(r"^##+ (.*)$", PAGE, flags=re.MULTILINE)
    blocks = {
        heading: re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        for heading, text in zip(parts[1::2], parts[2::2], strict=True)
    }
    return {heading: found for heading, found in blocks.items() if found}


class Operator:
    """Types the commands of the page, in a shell that keeps the page's variables."""

    def __init__(self, machine):
        self.machine = machine
        self.blocks = sections()
        self.typed = set()
        self.variables = sorted(set(re.findall(r"^([A-Z_]+)=", PAGE, re.MULTILINE)))

    def follow(self, heading, *numbers):
        """Run the blocks of a heading, or those with these numbers. Return what the last one printed."""
        printed = ""
        for number, block in enumerate(self.blocks[heading]):
            if not numbers or number in numbers:
                self.typed.add((heading, number))
                if not block.startswith(tuple(f"apt-get install --yes {name}" for name in NOT_RUN) + tuple(NOT_RUN)):
                    printed = self.types(block)
        return printed

    def types(self, script):
        """Run a script with the variables that earlier ones have set, and keep its own."""
        given = "".join(f"{name}='{value}'\n" for name, value in VALUES.items()) if "REPOSITORY=" in script else ""
        kept = " ".join(self.variables)
        before = "export EDITOR=/root/editor\nset -o pipefail\n[ -e /root/kept ] && . /root/kept\n"
        after = f"\ndeclare -p {kept} > /root/kept 2> /dev/null || true"
        old = self._nginx_workers() if "reload nginx" in script else set()
        printed = self.machine.run(before + script + given + after, seconds=600).stdout
        wait_until(lambda: not old & self._nginx_workers())  # they have the old configuration
        return printed

    def _nginx_workers(self):
        main = "$(systemctl show --property=MainPID --value nginx)"
        return set(self.machine.try_run(f"cat /proc/{main}/task/*/children").stdout.split())

    def left_out(self):
        """Return the blocks that were never typed."""
        return {(heading, n) for heading, found in self.blocks.items() for n in range(len(found))} - self.typed


def write(machine, path, text, mode=0o644):
    file = machine.root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)


def git(machine, *arguments):
    command = ["git", "-c", "user.name=tests", "-c", "user.email=tests@example.com", *arguments]
    return subprocess.run(command, cwd=machine.root / "root/repository", check=True, capture_output=True, text=True)


def commit(machine, message, changes):
    """Add a commit to the repository of the machine: {path: what is added at the end of the file}."""
    for path, added in changes.items():
        with open(machine.root / "root/repository" / path, "a") as file:
            file.write(added)
    git(machine, "add", "--all", "--force")
    git(machine, "commit", "--quiet", "--message", message)


def prepare(machine, suite):
    """Give an empty machine what it would otherwise have from the network, and what the test needs."""
    machine.copy_project("/root/repository")
    git(machine, "init", "--quiet", "--initial-branch=main")
    commit(machine, "The version that is installed first", {})
    packages = " ".join(re.findall(r"^apt-get install --yes (.*)$", PAGE, re.MULTILINE)).split()
    machine.download(*(name for name in packages if name[0] != "-" and "certbot" not in name))
    wheels = machine.root / "root/wheels"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--dest", wheels]
    command += ["--python-version", SUITES[suite], "--require-hashes", "-r", PROJECT / "requirements" / "service.txt"]
    subprocess.run(command, check=True, timeout=600)
    write(machine, "/etc/pip.conf", "[global]\nno-index = true\nfind-links = /root/wheels\n")
    write(machine, "/root/editor", f"#!/bin/sh\necho TRACKLOG_SECRET_WAREHOUSE={SECRET} >> $1\n", 0o755)
    write(machine, "/etc/systemd/system/receiver.service", RECEIVER)
    shutil.copy(HELPER, machine.root / "root")


class Senders:
    """Post until the end of the with block, which then has the acknowledged messageIds and the failures."""

    number = 0

    def __init__(self, operator):
        self.operator = operator
        Senders.number += 1
        self.unit, self.report = f"senders-{self.number}", f"/root/sent-{self.number}"

    def __enter__(self):
        script = f'systemd-run --quiet --unit={self.unit} python3 /root/on_machine.py send "$HOST" "$SOURCE_ID" '
        self.operator.types(script + self.report)
        return self

    def __exit__(self, *_):
        self.operator.types(f"systemctl stop {self.unit}")
        sent = json.loads((self.operator.machine.root / self.report.lstrip("/")).read_text())
        self.acknowledged, self.failures = sent["acknowledged"], sent["failures"]


def stored(operator, log=LOG):
    return operator.types(f"sqlite3 -readonly {log} 'SELECT message_id FROM events'").split()


def assert_all_kept(operator, senders, log=LOG):
    """No post has failed, and the log has every acknowledged event once."""
    print(f"{senders.unit}: {len(senders.acknowledged)} acknowledged, {len(senders.failures)} failed")
    assert senders.failures == []
    assert len(senders.acknowledged) > 20
    ids = stored(operator, log)
    assert set(senders.acknowledged) <= set(ids)
    assert len(ids) == len(set(ids))


def wait_until_forwarded(operator, log=LOG):
    """Wait until the destination has every event of the log, each with the secret as its key."""
    ids = set(stored(operator, log))
    received = operator.machine.root / "root/received"
    wait_until(lambda: ids <= {line.split()[1] for line in received.read_text().splitlines()}, seconds=60)
    assert {line.split()[0] for line in received.read_text().splitlines()} == {f"{SECRET}:"}


def ask_prometheus(operator, query):
    command = f"curl --silent --fail --get http://127.0.0.1:9090/api/v1/query --data-urlencode 'query={query}'"
    answer = operator.machine.try_run(command).stdout or '{"data": {"result": []}}'  # it takes a while to start
    return [each["value"][1] for each in json.loads(answer)["data"]["result"]]


@pytest.fixture(params=SUITES)
def operator(request, new_machine):
    with new_machine(request.param) as machine:
        prepare(machine, request.param)
        machine.boot()
        machine.run("echo 127.0.0.1 events.example.com second.example.com >> /etc/hosts")
        yield Operator(machine)


def test_the_page_leads_from_an_empty_host_to_operation(operator):
    set_up(operator)
    assert '"event": "start"' in operator.follow("Where the log lines are")
    restore(operator)
    upgrade_and_roll_back(operator)
    upgrade_and_roll_back_with_a_migration(operator)
    move(operator)
    serve_more(operator)
    operator.follow("Uninstall")
    assert "tracklog" not in operator.types("ls /opt /usr/local/bin /var/lib /var/backups /etc/systemd/system /etc")
    assert operator.left_out() == set()


def set_up(operator):
    machine = operator.machine
    for heading in list(operator.blocks)[: list(operator.blocks).index("7. The service") + 1]:
        printed = operator.follow(heading)
    assert "Deployed" in printed
    assert operator.types("stat -c %a /etc/tracklog.env /etc/tracklog-forward.env /var/lib/tracklog").split() == [
        *("600", "600", "750")
    ]
    machine.run("systemctl enable --now receiver.service")
    operator.follow("8. The forwarder")
    wait_until_forwarded(operator)
    assert operator.follow("9. Backups and retention, every night").count("tracklog-") == 1
    operator.follow("10. Prometheus")
    wait_until(lambda: ask_prometheus(operator, 'up{job="tracklog"}') == ["1"], seconds=90)
    assert ask_prometheus(operator, 'tracklog_events_stored_total{type="track"}') == ["1"]
    assert "TracklogLogNotWritable" in operator.types("curl --silent http://127.0.0.1:9090/api/v1/rules")
    machine.run("useradd alice")
    assert "Deployed" in operator.follow("11. Readers")
    operator.follow("12. Firewall")
    operator.follow("13. Reboot", 0)
    machine.reboot()
    assert operator.follow("13. Reboot", 1).count("tracklog-") >= 4
    with Senders(operator) as senders:
        operator.types("sleep 1; systemctl restart tracklog.service")
        operator.types("systemctl start tracklog-backup.service; sleep 1")
    assert_all_kept(operator, senders)
    wait_until_forwarded(operator)
    keep_three_backups(operator)
    read_while_stopped(operator)


def keep_three_backups(operator):
    """In a drop-in, as the page says. The folder of a killed backup is deleted too."""
    drop_in = "/etc/systemd/system/tracklog-backup.service.d/override.conf"
    write(operator.machine, drop_in, "[Service]\nEnvironment=BACKUPS_KEPT=3\n")
    operator.types("systemctl daemon-reload; mkdir /var/backups/tracklog/.backup-killed")
    for _ in range(3):
        operator.types("sleep 1; systemctl start tracklog-backup.service")
        found = operator.types("ls -A /var/backups/tracklog").split()
        newest = operator.types(f"sqlite3 /var/backups/tracklog/{found[-1]} 'SELECT max(id) FROM events'")
        assert newest == operator.types(f"sqlite3 -readonly {LOG} 'SELECT max(id) FROM events'")
    assert len(found) == 3
    assert operator.types("stat -c %U:%a /var/backups/tracklog/*.db").split() == ["tracklog:640"] * 3
    operator.types("sleep 1")  # backups are named by the second


def read_while_stopped(operator):
    """As the page says, a member of the group can then read the log only as a file that no process changes."""
    example = re.search(r"^sqlite3 ('file:.*immutable=1').*$", PAGE, re.MULTILINE)[0]
    as_alice = f"runuser -u alice -- sqlite3 -readonly {LOG} 'select count(*) from events'"
    assert int(operator.types(as_alice)) > 1
    operator.types("systemctl stop tracklog.socket tracklog.service tracklog-forward.service")
    assert "readonly database" in operator.machine.try_run(as_alice).stderr
    assert int(operator.types(f"runuser -u alice -- {example}")) > 1
    operator.types("systemctl start tracklog.socket tracklog.service tracklog-forward.service")


def restore(operator):
    """The events after the newest backup are imported again."""
    with Senders(operator) as senders:
        operator.types("sleep 2")
    before = stored(operator)
    operator.follow("Restore a backup", 0, 1)
    assert len(stored(operator)) < len(before)
    operator.follow("Restore a backup", 2, 3)
    assert operator.types(f"find {LOG}-backup-time -mmin -1")
    assert sorted(stored(operator)) == sorted(before)
    assert_all_kept(operator, senders)
    wait_until_forwarded(operator)


NEWER = {
    "requirements/service.txt": "# So that make creates a new .venv.\n",
    "deploy/nginx.conf": "# The newer version.\n",
    "deploy/tracklog.service": "# The newer version.\n",
    "routes/health.py": "# The newer version.\n",
}


def upgrade_and_roll_back(operator):
    """Both happen while senders post, and keep the operator's changes to nginx's file."""
    operator.types("sed -i 's/send_timeout 30s/send_timeout 20s/' /etc/nginx/conf.d/tracklog.conf")
    commit(operator.machine, "Newer", NEWER)
    with Senders(operator) as senders:
        operator.follow("Upgrade without a lost event")
        operator.types("sleep 1")
    assert_all_kept(operator, senders)
    installed = "/etc/nginx/conf.d/tracklog.conf /etc/systemd/system/tracklog.service /opt/tracklog/deploy/nginx.conf"
    count = f"grep -c 'The newer version' {installed} | grep -c :1 || true"
    assert operator.types(count) == "3\n"
    assert operator.follow("Roll back", 0) == ""
    with Senders(operator) as senders:
        operator.follow("Roll back", 2, 3, 4)
        operator.types("sleep 1")
    assert_all_kept(operator, senders)
    assert operator.types(count) == "0\n"
    assert "send_timeout 20s" in operator.types("cat /etc/nginx/conf.d/tracklog.conf")
    wait_until_forwarded(operator)


def upgrade_and_roll_back_with_a_migration(operator):
    operator.types("sleep 1")  # backups are named by the second
    commit(operator.machine, "Migrate", {"eventlog/migrations/9999_new.sql": "CREATE VIEW newer AS SELECT 1;\n"})
    operator.follow("Upgrade without a lost event")
    with Senders(operator) as senders:
        operator.types("sleep 2")
    assert_all_kept(operator, senders)
    operator.types("systemctl start tracklog-backup.service")  # of the newer log: the older version refuses it
    before = stored(operator)
    assert operator.follow("Roll back", 0) == "eventlog/migrations/9999_new.sql\n"
    operator.follow("Roll back", 1, 2, 3)
    operator.follow("Roll back", 5)
    operator.follow("Restore a backup", 1)
    operator.follow("Roll back", 6)
    assert operator.types(f"find {LOG}-backup-time -mmin -1")
    assert sorted(stored(operator)) == sorted(before)
    wait_until_forwarded(operator)


def move(operator):
    operator.follow("When the log is moved")
    with Senders(operator) as senders:
        operator.types("sleep 1")
    assert_all_kept(operator, senders, "/srv/tracklog/tracklog.db")
    operator.types("systemctl start tracklog-backup.service tracklog-prune.service")


def serve_more(operator):
    operator.follow("A second host name")
    assert "Second Name" in operator.types("tracklog events tail")
    printed = operator.follow("A second service on the host")
    assert "Second Service" in printed
    assert "Second Name" not in printed
    assert "Second Service" not in operator.types("tracklog events tail")
    operator.types("systemctl start tracklog-backup@2.service tracklog-prune@2.service")
    operator.machine.reboot()
    operator.types("curl --fail --unix-socket /run/tracklog2.sock http://localhost/readyz")
    running = "systemctl show --property=MainPID tracklog.service tracklog@2.service tracklog-forward.service"
    before = operator.types(running).split()
    operator.follow("Upgrade without a lost event")  # forward again after the roll-back, with both services
    after = operator.types(running).split()
    assert len(after) == 3
    assert not set(before) & set(after)
    assert operator.types("tracklog2 events check").startswith("The log is intact")
