"""Measure forwarding into PostgreSQL, relative to the ingest of batches from wrk, alternating.

Needs Debian's PostgreSQL, which runs as a cluster of its own with Debian's settings.
"""

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from forward import compare
from servers import PROJECT, serving, tracklog

sys.path.append(str(PROJECT / "tests" / "system"))
from postgres import Cluster


def main() -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=PROJECT)))
        cluster = stack.enter_context(Cluster())
        source = stack.enter_context(serving(tracklog(folder)))
        source.flask("destinations", "add", "tables", cluster.url, "--create")
        compare(source, "PostgreSQL")


if __name__ == "__main__":
    main()
