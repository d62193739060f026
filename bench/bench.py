"""Compare tracklog with the alternatives, or with another checkout, in interleaved rounds.

Prints a table per case. Without options, it saves the results for report.py.
"""

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

import filling
import load
import report
import results
import servers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--cases", nargs="+", choices=load.CASES, default=list(load.CASES), metavar="CASE")
    names = [make.__name__ for make in servers.ALL]
    parser.add_argument("--servers", nargs="+", choices=names, default=names, metavar="SERVER")
    parser.add_argument("--against", metavar="FOLDER", help="compare only with this other checkout of tracklog")
    parser.add_argument("--events", type=int, nargs="+", default=[0], help="in the logs at first, with --against")
    options = parser.parse_args()
    if lacking := servers.missing(with_peers=not options.against):
        raise SystemExit(f"the bench needs {', '.join(lacking)}")
    with tempfile.TemporaryDirectory(dir=servers.PROJECT) as folder:
        if options.against:
            compare_checkouts(Path(folder), options)
        else:
            measured = compare_servers(Path(folder), options)
    if options == parser.parse_args([]):
        results.save("ingest", measured)


def compare_servers(folder: Path, options: argparse.Namespace) -> dict[str, dict[str, dict]]:
    """Print and return the figures of all servers, by case."""
    measured = {}
    with ExitStack() as stack:
        makers = [make for make in servers.ALL if make.__name__ in options.servers]
        started = [stack.enter_context(servers.serving(make(folder))) for make in makers]
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
    return measured


def compare_checkouts(folder: Path, options: argparse.Namespace) -> None:
    """Print the figures of this checkout and another. Each round starts both again, on logs of one size."""
    for events in options.events:
        model = folder / f"{events}.db"
        filling.create(model, Path(options.against), events)
        for name in options.cases:
            rounds = {"tracklog": [], "other": []}
            for _ in range(options.rounds):
                for server, checkout in (("tracklog", servers.PROJECT), ("other", Path(options.against))):
                    place = folder / f"{server}-{events}"
                    filling.copy(model, place, events)
                    with servers.serving(servers.tracklog(place, checkout)) as started:
                        started.stored = started.counted
                        load.run(started, load.CASES[name], 1)  # warm up
                        rounds[server].append(load.run(started, load.CASES[name], options.seconds))
            table = {
                server: {"durable": True, "syncs/event": None, "rounds": figures} for server, figures in rounds.items()
            }
            print(f"\n{report.case_table(f'{name}, into {events:,} events', table)}", flush=True)


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
