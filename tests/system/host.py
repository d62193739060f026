"""Set up a machine as a host of tracklog, and post to it."""

import json
import subprocess
from contextlib import contextmanager

from service import Answer, wait_until

LOG = "/var/lib/tracklog/tracklog.db"

SET_UP = """
useradd --system --home-dir /var/lib/tracklog tracklog
install --mode=600 /opt/tracklog/deploy/tracklog.env.example /etc/tracklog.env
install /opt/tracklog/deploy/tracklog /usr/local/bin/tracklog
cp /opt/tracklog/deploy/tracklog*.{socket,service,timer} /etc/systemd/system/
install -d -o tracklog -g tracklog -m 750 /var/lib/tracklog
mkdir -p /etc/ssl/tracklog
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=events.example.com \\
    -keyout /etc/ssl/tracklog/privkey.pem -out /etc/ssl/tracklog/fullchain.pem
cp /opt/tracklog/deploy/nginx.conf /etc/nginx/conf.d/tracklog.conf
rm /etc/nginx/sites-enabled/default
"""

START = """
tracklog sources add example --source-id ILoveData123
systemctl enable --now tracklog.socket tracklog.service tracklog-forward.service
systemctl restart nginx
"""

POST = """
import json, sys
from service import Clients
def posted(client, count):
    return {"userId": str(client), "event": "Posted", "messageId": f"%s-{client}-{count}"}
with Clients(80, 8, posted) as clients:
    sys.stdin.read()
print(json.dumps([clients.acknowledged, clients.refused, clients.failed]))
"""


def set_up_host(machine):
    """Install tracklog and nginx in a machine, boot it and start everything. Return the machine."""
    machine.install("curl", "make", "nginx", "openssl", "python3-venv", "sqlite3")
    machine.copy_project()
    machine.prepare("make --silent -C /opt/tracklog install")
    machine.prepare(SET_UP)
    machine.boot()
    machine.run(START)
    return machine


def count_events(machine):
    return int(machine.try_run(f"sqlite3 -readonly {LOG} 'SELECT count(*) FROM events'").stdout or 0)


def wait_for_events(machine, seconds=60):
    """Wait until the machine has stored more events."""
    seen = count_events(machine)
    wait_until(lambda: count_events(machine) > seen, seconds)


class Posts:
    """The answers to the events that were posted, once the block has ended."""

    def __init__(self):
        self.acknowledged, self.refused, self.failed = [], [], []


@contextmanager
def posting(machine, prefix):
    """Post events through the machine's nginx without a pause. Each messageId begins with `prefix`."""
    command = machine.shell('PYTHONPATH=/opt/tracklog/tests/system exec python3 -c "$0"', POST % prefix)
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    posts = Posts()
    try:
        wait_for_events(machine)
        yield posts
    finally:
        output, _ = process.communicate(timeout=150)
    acknowledged, refused, posts.failed = json.loads(output)
    posts.acknowledged, posts.refused = [[Answer(*each) for each in answers] for answers in (acknowledged, refused)]
