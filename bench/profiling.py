"""Measure where the processor's time of a single call and of a batch's item goes, with py-spy."""

import argparse
import re
import subprocess
import tempfile
import threading
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import load
import report
import results
from servers import PEERS, serving, tracklog

SECONDS = 12
CASES = ("c64", report.BATCHES)

# A stack belongs to the first of these rooms that one of its frames is in, from the innermost frame outwards.
ROOMS = [
    ("eventlog: writing, and waiting for the disk", r"eventlog/(?!sources|__init__|reader)"),
    ("the key, and what is told of a request", r"(auth|sources|metrics|logs|cors|requester)\.py"),
    ("parsing JSON", r"strictjson\.py|json/decoder"),
    ("marshmallow and our fields", r"schemas\.py|marshmallow/"),
    ("stamping, and writing JSON", r"checking\.py|json/encoder|uuid6"),
    ("intake: body and receipt", r"(intake|body|query)\.py|routes/"),
    ("Flask and Werkzeug", r"flask/|werkzeug/|blinker/|[( ]app\.py"),
    ("gunicorn: parsing HTTP", r"gunicorn/http/(?!wsgi)"),
    ("gunicorn: answering, and its loop", r"gunicorn/|serving\.py"),
    ("gevent: sockets and switching", r"gevent/|greenlet"),
]
NOT_OURS = re.compile(r"acquire_with_timeout|_threading\.py")  # a thread that has nothing to do


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkout", metavar="FOLDER", help="another checkout of tracklog, kept as what was before")
    checkout = parser.parse_args().checkout
    figures = {}
    for name in CASES:
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(dir=results.PROJECT))
            server = stack.enter_context(serving(tracklog(Path(folder), checkout or results.PROJECT)))
            load.run(server, load.CASES[name], 2)
            micros = load.run(server, load.CASES[name], SECONDS)["CPU us/event"]
            figures[name] = {"us": micros, "shares": shares(record(server, load.CASES[name], Path(folder) / "stacks"))}
    print(report.profile_table(figures))
    results.save("profile-before" if checkout else "profile", figures)


def record(server, case, target):
    """Return the stacks of a worker that is under load, each with how often it was seen."""
    loading = threading.Thread(target=load.run, args=(server, case, SECONDS))
    loading.start()
    command = [PEERS / ".venv/bin/py-spy", "record", "--rate", "200", "--duration", str(SECONDS - 2), "--format", "raw"]
    worker = server.pids()[1]
    subprocess.run([*command, "--output", target, "--pid", str(worker)], check=True, capture_output=True)
    loading.join()
    stacks = Counter()
    for line in target.read_text().splitlines():
        stack, _, times = line.rpartition(" ")
        stacks[stack] += int(times)
    return stacks


def shares(stacks):
    rooms = Counter({room: 0 for room, _ in ROOMS})
    for stack, times in stacks.items():
        if not NOT_OURS.search(stack.rpartition(";")[2]):
            rooms[room_of(stack)] += times
    return {room: times / rooms.total() for room, times in rooms.items()}


def room_of(stack):
    for frame in reversed(stack.split(";")):
        for room, pattern in ROOMS:
            if re.search(pattern, frame):
                return room
    return "other"


if __name__ == "__main__":
    main()
