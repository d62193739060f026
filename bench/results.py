"""Save results, with the machine and the versions, in bench/results. report.py writes the docs from them."""

import importlib.metadata
import json
import os
import platform
import re
import subprocess
from datetime import date
from pathlib import Path
from typing import Any

import apsw
from servers import PEERS, PROJECT

FOLDER = PROJECT / "bench" / "results"
OURS = ("flask", "marshmallow", "gunicorn", "gevent")
OF_PYPI = ("fastapi", "uvicorn", "pydantic")
OF_NPM = ("fastify", "better-sqlite3")


def save(name: str, figures: Any) -> None:
    """Write figures, a JSON value, to the file of this name."""
    FOLDER.mkdir(exist_ok=True)
    result = {"date": date.today().isoformat(), "machine": machine(), "versions": versions(), "figures": figures}
    (FOLDER / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")


def machine() -> str:
    processor = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    named = processor[1] if processor else platform.machine()
    return f"{os.cpu_count()} virtual cores ({named}), {memory:.0f} GiB of memory, {system}, Linux {platform.release()}"


def versions() -> dict[str, str]:
    """Return the versions of the measured software, by name."""
    found = {"Python": platform.python_version()}
    found |= {name: importlib.metadata.version(name) for name in OURS}
    found |= {"SQLite": apsw.sqlite_lib_version()}
    if (PEERS / "installed").exists():
        listed = json.loads(said_by(PEERS / ".venv/bin/pip", "list", "--format", "json", "--disable-pip-version-check"))
        found |= {each["name"]: each["version"] for each in listed if each["name"] in OF_PYPI}
        found |= {"Node.js": said_by("node", "--version").lstrip("v")}
        for name in OF_NPM:
            found[name] = json.loads((PEERS / "node_modules" / name / "package.json").read_text())["version"]
        found |= {"PocketBase": said_by(PEERS / ".venv/bin/pocketbase", "--version").split()[-1]}
    return found | {"wrk": subprocess.run(["wrk", "-v"], capture_output=True, text=True).stdout.split()[1]}


def said_by(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
