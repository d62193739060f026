"""The service recovers by itself however long its starts fail. Meanwhile, senders wait."""

import time

import pytest
from host import LOG, count_events, posting, set_up_host, wait_for_events
from service import wait_until

pytestmark = pytest.mark.full

SECONDS = 65  # longer than nginx waits for the service, so that some senders get its 504
RESTART = "systemctl restart --no-block tracklog tracklog-forward"

# A drop-in mount helper: a disk that can be mounted once it is there.
LATE_MOUNT = """
systemctl stop tracklog.socket tracklog tracklog-forward
mkdir /srv/disk
mv /var/lib/tracklog/* /srv/disk
chown tracklog:tracklog /srv/disk
chown root:root /var/lib/tracklog
printf '#!/bin/sh\\ntest -e /srv/arrived && mount --bind /srv/disk "$2"\\n' > /usr/sbin/mount.late
chmod +x /usr/sbin/mount.late
echo 'late /var/lib/tracklog late nofail 0 0' >> /etc/fstab
"""


@pytest.fixture(scope="module")
def host(new_machine):
    with new_machine() as machine:
        yield set_up_host(machine)


def state(host, unit):
    return host.try_run(f"systemctl is-active {unit}").stdout.strip()


def restarts(host):
    """Return how often systemd has started the service again since it was last started by hand, or at boot."""
    return int(host.run("systemctl show --property=NRestarts --value tracklog").stdout)


def assert_recovered(host):
    wait_until(lambda: state(host, "tracklog") == "active", 30)
    wait_until(lambda: state(host, "tracklog-forward") == "active", 30)
    wait_for_events(host, 30)


def assert_nothing_was_lost(host, posts, prefix):
    query = f"SELECT message_id FROM events WHERE message_id GLOB '{prefix}-*'"
    stored = host.run(f'sqlite3 -readonly {LOG} "{query}"').stdout.split()
    print(f"{len(posts.acknowledged)} acknowledged, {len(posts.refused)} refused, {len(stored)} stored")
    assert {answer.message_id for answer in posts.acknowledged} <= set(stored)
    assert len(stored) == len(set(stored))
    assert posts.failed == []
    answers = {(answer.status, answer.body["code"], answer.retry_after) for answer in posts.refused}
    assert (504, "storage_unavailable", "5") in answers
    assert answers <= {(504, "storage_unavailable", "5"), (503, "storage_unavailable", "5")}, "503 while a log is moved"


@pytest.mark.parametrize(
    ("failure", "repair", "said"),
    [
        pytest.param(
            "sed -i s/PROXIES=1/PROXIES=one/ /etc/tracklog.env",
            "sed -i s/PROXIES=one/PROXIES=1/ /etc/tracklog.env",
            "TRACKLOG_TRUSTED_PROXIES must be a whole number of at least 0, not 'one'",
            id="setting",
        ),
        pytest.param(
            "mv /etc/tracklog.env /etc/away",
            "mv /etc/away /etc/tracklog.env",
            "Failed to load environment files: No such file or directory",
            id="settings",
        ),
        pytest.param(
            "mkdir -p /srv/away; mv /var/lib/tracklog/* /srv/away",
            "mv /srv/away/* /var/lib/tracklog",
            f"There is no log at {LOG}",
            id="log",
        ),
        pytest.param(
            "chown root:root /var/lib/tracklog/*",
            "chown tracklog:tracklog /var/lib/tracklog/*",
            "chown",
            id="owner",
        ),
        pytest.param(
            "mv /opt/tracklog/.venv /opt/tracklog/away",
            "mv /opt/tracklog/away /opt/tracklog/.venv",
            "Failed at step EXEC",
            id="venv",
        ),
        pytest.param(
            "mv /opt/tracklog /opt/away",
            "mv /opt/away /opt/tracklog",
            "Failed at step EXEC",
            id="code",
        ),
    ],
)
def test_the_service_recovers_from_failing_starts(host, request, failure, repair, said):
    prefix = request.node.callspec.id
    since = int(time.time())
    with posting(host, prefix) as posts:
        host.run(f"{failure}; {RESTART}")
        time.sleep(SECONDS)
        assert state(host, "tracklog") != "active"
        assert state(host, "tracklog.socket") == "active"
        host.run(repair)
        assert_recovered(host)
    assert_nothing_was_lost(host, posts, prefix)
    assert said in host.run(f"journalctl --output=cat --since=@{since} --unit=tracklog").stdout
    assert 5 < restarts(host) < SECONDS


def test_the_service_recovers_from_a_minute_of_failing_mounts(host):
    """The host boots before the log's disk is there. No operator mounts it later: systemd tries again with each start."""
    events = count_events(host)
    host.run(LATE_MOUNT)
    host.reboot()
    assert state(host, "var-lib-tracklog.mount") == "failed"
    assert host.try_run("tracklog sources add early").returncode == 1, "it would be a second log"
    command = 'curl -s -w \'%{http_code}\' localhost/v1/track -u ILoveData123: -d \'{"userId": "1", "event": "Late"}\''
    assert host.run(command).stdout.endswith("}\n504")
    assert host.run("ls -A /var/lib/tracklog").stdout == "", "nothing was written below the mount"
    host.run("touch /srv/arrived")
    wait_until(lambda: state(host, "tracklog") == "active", 60)
    wait_until(lambda: state(host, "tracklog-forward") == "active", 30)
    assert host.run(command).stdout.endswith("}\n200")
    assert count_events(host) > events
    assert 5 < restarts(host) < SECONDS
