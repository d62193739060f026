"""Compare tracklog with the alternatives, or with another checkout, in interleaved rounds.

Prints a table per case. Without options, it saves the results for report.py.
"""

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

import load
import report
import results
import servers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--cases", nargs="+", choices=load.CASES, default=list(load.CASES), metavar="CASE")
    parser.add_argument("--against", metavar="FOLDER", help="compare only with this other checkout of tracklog")
    options = parser.parse_args()
    if lacking := servers.missing(with_peers=not options.against):
        raise SystemExit(f"the bench needs {', '.join(lacking)}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=servers.PROJECT)))
        makers = servers.ALL
        if options.against:
            makers = [servers.tracklog, lambda folder: servers.tracklog(folder, options.against, "other")]
        started = [stack.enter_context(servers.serving(make(folder))) for make in makers]
        measured = {}
        for name in options.cases:
            case = load.CASES[name]
            able = [server for server in started if case.batch == 1 or server.batch_path]
            rounds = measure(able, case, options.rounds, options.seconds)
            syncs = {server: load.syncs_per_event(server, case, 2) for server in able if server.stores}
            measured[name] = {
                server.name: {"durable": server.is_durable, "syncs/event": syncs.get(server), "rounds": figures}
                for server, figures in rounds.items()
            }
            print(f"\n{report.case_table(name, measured[name])}", flush=True)
    if options == parser.parse_args([]):
        results.save("ingest", measured)


def measure(
    started: list[servers.Server], case: load.Case, rounds: int, seconds: int
) -> dict[servers.Server, report.Rounds]:
    """Return the figures of each server, a list of rounds."""
    for server in started:
        load.run(server, case, 1)  # warm up
    figures = {server: [] for server in started}
    for _ in range(rounds):
        for server in started:
            figures[server].append(load.run(server, case, seconds))
    return figures


if __name__ == "__main__":
    main()
