"""Profile the CPU time of a single call and of a batch item with py-spy."""

import argparse
import re
import subprocess
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import load
import report
import results
from servers import PEERS, serving, tracklog

SECONDS = 12
CASES = ("c64", load.BATCHES)

# The rooms of the code. A stack counts for the room of its innermost frame that has one.
ROOMS = [
    ("eventlog: writing", r"eventlog/(?!sources|__init__|reader|times)"),
    ("authentication, metrics and log lines", r"(auth|sources|metrics|logs|cors|client_address)\.py"),
    ("parsing JSON", r"parsing/json|json/decoder"),
    ("marshmallow and schemas.py", r"schemas\.py|parsing/timestamps|marshmallow/"),
    ("stamping and encoding JSON", r"(checking|stamping)\.py|json/encoder"),
    ("intake: body and receipt", r"(intake|incoming|body|query)\.py|routes/"),
    ("Flask and Werkzeug", r"flask/|werkzeug/|blinker/|(lean_flask|error_handlers)\.py"),
    ("gunicorn: parsing HTTP", r"gunicorn/http/(?!wsgi)"),
    ("gunicorn: answers and main loop", r"gunicorn/|gunicorn_(logger|patches)\.py"),
    ("gevent: sockets and switching", r"gevent/|greenlet"),
]
NOT_OURS = re.compile(r"acquire_with_timeout|_threading\.py")  # an idle thread


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkout", metavar="FOLDER", help="also profile this checkout, alternating")
    checkout = parser.parse_args().checkout
    checkouts = {"profile-before": checkout} if checkout else {}
    checkouts["profile"] = results.PROJECT
    figures = {name: {} for name in checkouts}
    for case in CASES:
        for name, folder in checkouts.items():
            figures[name][case] = profile(folder, load.CASES[case])
    for name, profiled in figures.items():
        print(f"{checkouts[name]}\n\n{report.profile_table(profiled)}\n")
        if checkout:
            results.save(name, profiled)


def profile(checkout, case):
    """Return the CPU time of an event in microseconds, and the share of each room."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=results.PROJECT)))
        server = stack.enter_context(serving(tracklog(folder, checkout)))
        load.run(server, case, 2)
        micros = load.run(server, case, SECONDS)["CPU us/event"]
        return {"us": micros, "shares": shares(record(server, case, folder / "stacks"))}


def record(server, case, target):
    """Return the sampled stacks of a loaded worker, with their counts."""
    command = [PEERS / ".venv/bin/py-spy", "record", "--rate", "200", "--duration", str(SECONDS - 2), "--format", "raw"]
    worker = server.pids()[1]
    with ThreadPoolExecutor() as pool:
        loading = pool.submit(load.run, server, case, SECONDS)
        subprocess.run([*command, "--output", target, "--pid", str(worker)], check=True, capture_output=True)
        loading.result()
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
