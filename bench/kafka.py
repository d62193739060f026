"""Measure forwarding into a one-node Kafka, relative to the ingest of batches from wrk, alternating.

Needs Java and the jars that `.ci/run` fetches.
"""

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from forward import compare
from servers import PROJECT, serving, tracklog

sys.path.append(str(PROJECT / "tests" / "system"))
from broker import JARS, Broker


def main() -> None:
    if not JARS.is_dir():
        print("Kafka: not measured, since its jars are missing")
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=PROJECT)))
        broker = Broker(folder)
        stack.callback(broker.kill)
        broker.add_topic("events", 6)
        source = stack.enter_context(serving(tracklog(folder)))
        source.flask("destinations", "add", "kafka", f"kafka://{broker.address}/events")
        compare(source, "Kafka")


if __name__ == "__main__":
    main()
