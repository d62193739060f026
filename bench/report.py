"""Write bench/results/README.md, the figures of docs/performance.md, and its charts; with --check, compare them."""

import json
import sys
from collections.abc import Sequence
from statistics import median
from textwrap import fill
from typing import Any

from charts import draw, panel
from load import APART, BATCHES
from results import FOLDER
from servers import PROJECT

Rounds = list[dict[str, float]]  # the figures of each round, by name

PAGE = PROJECT / "docs" / "performance.md"
PAGE_WIDTH = 100  # characters
SOURCES = ("ingest", "growth", "profile", "workers")
INTRODUCTION = """\
# Results of the bench

`bench/report.py` writes this page from the JSON files in this folder.
[performance.md](../../docs/performance.md) says what was measured, how to repeat it, and what
follows from it. A figure is the median over the rounds, with the least and the most in brackets."""
INGEST = """\
CPU is of the whole process tree. Memory is PSS, which counts what processes share once. Disk syncs
are those that `strace` counts. A server marked \\* answers before its data is on disk. The last
columns have the events/s of the first server over those of each row, and the same of its CPU."""
GROWTH = "The logs of up to 200,000 events are new in each round."
ROWS = "One row in transactions of 800, in one process, with nothing else at work."
CHORES = "Commands and queries, with the start of Python where it is a command."
PROFILE = """\
py-spy samples a worker 200 times a second while it is not waiting. Each sample counts for the
innermost of these rooms; the rooms share the CPU time of an event."""
WORKERS = "More workers than the two cores only make the groups smaller."


def main() -> None:
    results = {name: json.loads((FOLDER / f"{name}.json").read_text()) for name in SOURCES}
    written = {FOLDER / "README.md": tables(results), PAGE: page(results)}
    ingest = results["ingest"]["figures"]
    for figure, title in (("events/s", "events a second"), ("latency", "milliseconds: p50 dark, p99 light")):
        chart = draw([panel(name, servers, figure) for name, servers in ingest.items()], title)
        written[PAGE.with_name(f"performance-{figure.partition('/')[0]}.svg")] = chart
    for path, content in written.items():
        if "--check" not in sys.argv:
            path.write_text(content)
        elif not path.exists() or path.read_text() != content:
            raise SystemExit(f"{path.name} differs from the JSON files in bench/results: run bench/report.py")


def page(results: dict[str, Any]) -> str:
    """Return docs/performance.md with the figures between its marks replaced."""
    text = PAGE.read_text()
    ingest, growth = results["ingest"], results["growth"]
    for name, part in {
        "machine": machine(ingest),
        "ratios": ratios(ingest["figures"], growth["figures"]),
    }.items():
        above, mark, rest = text.partition(f"<!-- {name} -->\n")
        _, end, below = rest.partition("<!-- end -->")
        if not end:
            raise SystemExit(f"{PAGE.name} has no marks for {name}")
        text = f"{above}{mark}\n{part}\n\n{end}{below}"
    return text


def tables(results: dict[str, Any]) -> str:
    """Return bench/results/README.md."""
    ingest, growth, profile, workers = (results[name]["figures"] for name in SOURCES)
    sections = {
        "Ingest": [INGEST, *(case_table(name, servers) for name, servers in ingest.items())],
        "As the log grows": [GROWTH, growth_table(growth["ingest"])],
        "One row": [ROWS, rows_table(growth["rows"])],
        "Commands and queries": [CHORES, chores_table(growth["chores"])],
        "Where the time goes": [PROFILE, profile_table(profile)],
        "Workers": [WORKERS, workers_table(workers)],
    }
    parts = [INTRODUCTION, machine(results["ingest"])]
    for heading, content in sections.items():
        parts += [f"## {heading}", *content]
    return "\n\n".join(parts) + "\n"


def machine(result: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return fill(f"Measured on {result['date']}: {result['machine']}. {versions}.", PAGE_WIDTH, break_on_hyphens=False)


def values(rounds: Rounds, figure: str) -> list[float]:
    return [each[figure] for each in rounds]


def spread(numbers: list[float], digits: int = 0) -> str:
    """Return the median of numbers, with the least and the most, as text."""
    return f"{median(numbers):,.{digits}f} ({min(numbers):,.{digits}f}-{max(numbers):,.{digits}f})"


def over(ours: Rounds, theirs: Rounds, figure: str = "events/s") -> list[float]:
    """Return the ratios of a figure of two servers in rounds that ran alternately."""
    return [one / other for one, other in zip(values(ours, figure), values(theirs, figure), strict=True)]


def tail(rounds: Rounds) -> list[float]:
    """Return p99 over p50 of each round."""
    return [each["p99 ms"] / each["p50 ms"] for each in rounds]


def ratios(ingest: dict[str, Any], growth: dict[str, Any]) -> str:
    lone, single, batch = (
        {name: server["rounds"] for name, server in ingest[case].items()} for case in ("c1", "c64", BATCHES)
    )
    apart = ingest[APART]["tracklog"]["rounds"]
    sizes = growth["ingest"]
    lines = [
        ("single, c64: requests/s over itself without storing", 0.8, over(single["tracklog"], single["unstored"])),
        ("over the naive Flask app", 8, over(single["tracklog"], single["naive"])),
        ("over FastAPI and pydantic, 2 workers", 3.5, over(single["tracklog"], single["fastapi"])),
        ("over fastify and better-sqlite3, 2 processes", 1.5, over(single["tracklog"], single["fastify"])),
        ("over PocketBase, which does not wait for the disk", 1.2, over(single["tracklog"], single["pocketbase"])),
        ("single, c1: requests/s over FastAPI's", 1, over(lone["tracklog"], lone["fastapi"])),
        ("batches of 100: events/s over fastify's", 1, over(batch["tracklog"], batch["fastify"])),
        ("batches of 100: events/s over PocketBase's", 5, over(batch["tracklog"], batch["pocketbase"])),
        ("a connection per request over keep-alive, c64", 0.7, over(apart, single["tracklog"])),
        ("10 million events over an empty log: single, c64", 0.9, over(sizes["c64"]["10"], sizes["c64"]["0"])),
        ("10 million events over an empty log: batches of 100", 0.7, over(sizes[BATCHES]["10"], sizes[BATCHES]["0"])),
    ]  # fmt: skip
    rows = [(what, spread(ratio, 2), f"at least {aim}") for what, aim, ratio in lines]
    rows += [
        ("p99 over p50, c64", spread(tail(single["tracklog"]), 1), "at most 3"),
        ("p99 over p50, c256", spread(tail(ingest["c256"]["tracklog"]["rounds"]), 1), "at most 3"),
        ("disk syncs per event, c64", f"{ingest['c64']['tracklog']['syncs/event']:.3f}", "at most 0.05"),
        (
            "memory of master and 2 workers with 5 million events, MB (PSS)",
            spread(values(sizes[BATCHES]["5"], "memory MB")),
            "at most 200",
        ),
    ]
    return table(("figure", "measured", "aim"), rows)


def case_table(name: str, servers: dict[str, Any]) -> str:
    """Return a case's table: medians, with the least and the most, and the first server's figures over each row's.

    A server that answers before its data is on disk is marked with a *.
    """
    first = next(iter(servers))
    ours = servers[first]["rounds"]
    rows = []
    for server, measured in servers.items():
        rounds, syncs = measured["rounds"], measured["syncs/event"]
        rows.append(
            (
                server if measured["durable"] else f"{server} \\*",
                spread(values(rounds, "events/s")),
                spread(values(rounds, "p50 ms"), 1),
                spread(values(rounds, "p99 ms"), 1),
                f"{median(tail(rounds)):.1f}",
                spread(values(rounds, "CPU us/event")),
                f"{median(values(rounds, 'memory MB')):.0f}",
                "" if syncs is None else f"{syncs:.3f}",
                str(sum(values(rounds, "failed"))),
                f"{median(over(ours, rounds)):.2f}",
                f"{median(over(ours, rounds, 'CPU us/event')):.2f}",
            )
        )
    head = (
        "",
        "events/s",
        "p50 ms",
        "p99 ms",
        "p99/p50",
        "CPU µs/event",
        "PSS MB",
        "syncs/event",
        "failed",
        f"{first} is",
        "its CPU",
    )
    return f"### {name}\n\n{table(head, rows)}"


def growth_table(cases: dict[str, dict[str, Rounds]]) -> str:
    rows = []
    for case, sizes in cases.items():
        for size, rounds in sizes.items():
            rows.append(
                (
                    case,
                    size,
                    spread(values(rounds, "events/s")),
                    f"{median(over(rounds, sizes['0'])):.2f}",
                    spread(values(rounds, "p99 ms")),
                    spread(values(rounds, "CPU us/event")),
                    f"{median(values(rounds, 'memory MB')):.0f}",
                    f"{max(values(rounds, 'wal MB')):.0f}",
                )
            )
    head = ("", "million events", "events/s", "over empty", "p99 ms", "CPU µs/event", "PSS MB", "-wal MB, at most")
    return table(head, rows)


def rows_table(rows: dict[str, dict[str, float]]) -> str:
    steps = list(next(iter(rows.values())))
    lines = [(name, *(f"{took[step]:.1f}" for step in steps)) for name, took in rows.items()]
    return table(("µs per row", *steps), lines)


def chores_table(chores: dict[str, tuple[float, float]]) -> str:
    rows = [(f"`{name}`", f"{small:.1f}", f"{large:.1f}") for name, (small, large) in chores.items()]
    return table(("ms, the least of 3", "small log", "10 million events"), rows)


def profile_table(profiles: dict[str, Any]) -> str:
    """Return the time that a request, and a batch item, spends in each room; `profiles` has the shares by case."""
    rooms = list(dict.fromkeys(room for shares in profiles.values() for room in shares["shares"]))
    rows = []
    for room in rooms:
        cells = []
        for shares in profiles.values():
            share = shares["shares"].get(room, 0)
            cells += [f"{share * shares['us']:.1f}", f"{share:.0%}"]
        rows.append((room, *cells))
    rows.append(("all", *(cell for shares in profiles.values() for cell in (f"{shares['us']:.0f}", ""))))
    head = ("", *(cell for case in profiles for cell in (f"{case}: µs/event", "share")))
    return table(head, rows)


def workers_table(cases: dict[str, dict[str, Rounds]]) -> str:
    rows = [
        (case, workers, spread(values(rounds, "events/s")), spread(values(rounds, "CPU us/event")))
        for case, sizes in cases.items()
        for workers, rounds in sizes.items()
    ]
    return table(("", "workers", "events/s", "CPU µs/event"), rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if any(len(row) != len(head) for row in rows):
        raise ValueError(f"a row is not as long as its head: {head}")
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
