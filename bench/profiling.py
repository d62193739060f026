"""Profile the CPU time of a single call and of a batch item with py-spy."""

import re
import subprocess
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import load
import report
import results
from servers import PEERS, PROJECT, Server, serving, tracklog

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
    ("Flask and Werkzeug", r"flask/|werkzeug/|blinker/|(lean_flask|error_handlers)\.py|[( ]app\.py"),
    ("gunicorn: parsing HTTP", r"gunicorn/http/(?!wsgi)"),
    ("gunicorn: answers and main loop", r"gunicorn/|gunicorn_(logger|patches)\.py"),
    ("gevent: sockets and switching", r"gevent/|gevent_runtime|greenlet"),
]
NOT_OURS = re.compile(r"acquire_with_timeout|_threading\.py")  # an idle thread


def main() -> None:
    profiled = {case: profile(load.CASES[case]) for case in CASES}
    print(report.profile_table(profiled))
    results.save("profile", profiled)


def profile(case: load.Case) -> dict[str, Any]:
    """Return the microseconds of CPU time per event, and the share of each room."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=PROJECT)))
        server = stack.enter_context(serving(tracklog(folder)))
        load.run(server, case, 2)
        micros = load.run(server, case, SECONDS)["CPU us/event"]
        return {"us": micros, "shares": shares(record(server, case, folder / "stacks"))}


def record(server: Server, case: load.Case, target: Path) -> Counter[str]:
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


def shares(stacks: Counter[str]) -> dict[str, float]:
    rooms = Counter({room: 0 for room, _ in ROOMS})
    for stack, times in stacks.items():
        if not NOT_OURS.search(stack.rpartition(";")[2]):
            rooms[room_of(stack)] += times
    return {room: times / rooms.total() for room, times in rooms.items()}


def room_of(stack: str) -> str:
    for frame in reversed(stack.split(";")):
        for room, pattern in ROOMS:
            if re.search(pattern, frame):
                return room
    return "other"


if __name__ == "__main__":
    main()
