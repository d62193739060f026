"""Write the tables and charts of docs/performance.md from what is in bench/results; with --check, only compare."""

import itertools
import json
import sys
from html import escape
from statistics import median

from load import APART, BATCHES
from results import FOLDER, PROJECT

DOCUMENT = PROJECT / "docs" / "performance.md"
OURS, OTHERS = "#1f6feb", "#8c959f"
SHOWN_IN_CHARTS = ("tracklog", "naive", "fastapi", "fastify", "pocketbase")
SOURCES = ("ingest", "growth", "profile-before", "profile", "cores")


def main():
    ingest, growth, before, now, cores = (json.loads((FOLDER / f"{name}.json").read_text()) for name in SOURCES)
    text = DOCUMENT.read_text()
    for name, part in {
        "machine": machine(ingest),
        "ratios": ratios(ingest["figures"], growth["figures"]),
        "ingest": "\n\n".join(case_table(name, servers) for name, servers in ingest["figures"].items()),
        "rows": rows_table(growth["figures"]["rows"]),
        "growth": growth_table(growth["figures"]["ingest"]),
        "chores": chores_table(growth["figures"]["chores"]),
        "before": profile_table(before["figures"]),
        "profile": profile_table(now["figures"]),
        "groups": groups_table(cores["figures"]["groups"]),
        "workers": workers_table(cores["figures"]["workers"]),
        "capacity": capacity_table(cores["figures"]["groups"], ingest["figures"]),
    }.items():
        above, mark, rest = text.partition(f"<!-- {name} -->\n")
        _, end, below = rest.partition("<!-- end -->")
        if not mark:
            raise SystemExit(f"{DOCUMENT.name} has no place for {name}")
        text = f"{above}{mark}\n{part}\n\n{end}{below}"
    written = {DOCUMENT: text}
    for figure, title in (("events/s", "events a second"), ("latency", "milliseconds: p50 dark, p99 light")):
        chart = draw([panel(name, servers, figure) for name, servers in ingest["figures"].items()], title)
        written[DOCUMENT.with_name(f"performance-{figure.partition('/')[0]}.svg")] = chart
    for path, content in written.items():
        if "--check" not in sys.argv:
            path.write_text(content)
        elif not path.exists() or path.read_text() != content:
            raise SystemExit(f"{path.name} does not tell what is in bench/results: run bench/report.py")


def machine(result):
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return f"Measured on {result['date']}: {result['machine']}. {versions}."


def values(rounds, figure):
    return [each[figure] for each in rounds]


def spread(numbers, digits=0):
    """Write the median of numbers, with the least and the most."""
    return f"{median(numbers):,.{digits}f} ({min(numbers):,.{digits}f}-{max(numbers):,.{digits}f})"


def over(ours, theirs):
    """Return the ratios of two servers' events/s, of rounds that ran in turns."""
    return [one / other for one, other in zip(values(ours, "events/s"), values(theirs, "events/s"), strict=True)]


def ratios(ingest, growth):
    single = {name: server["rounds"] for name, server in ingest["c64"].items()}
    batch = {name: server["rounds"] for name, server in ingest[BATCHES].items()}
    apart = ingest[APART]["tracklog"]["rounds"]
    sizes = growth["ingest"]
    lines = [
        ("single, c64: requests/s over itself without storing", 0.8, over(single["tracklog"], single["unstored"])),
        ("over the naive Flask app", 8, over(single["tracklog"], single["naive"])),
        ("over FastAPI and pydantic, 2 workers", 3.5, over(single["tracklog"], single["fastapi"])),
        ("over fastify and better-sqlite3, 2 processes", 1.5, over(single["tracklog"], single["fastify"])),
        ("over PocketBase, which does not wait for the disk", 1.2, over(single["tracklog"], single["pocketbase"])),
        ("batches of 100: events/s over fastify's", 1, over(batch["tracklog"], batch["fastify"])),
        ("batches of 100: events/s over PocketBase's", 5, over(batch["tracklog"], batch["pocketbase"])),
        ("a connection per request over keep-alive, c64", 0.7, over(apart, single["tracklog"])),
        ("10 million events over an empty log: single, c64", 0.9, over(sizes["c64"]["10"], sizes["c64"]["0"])),
        ("10 million events over an empty log: batches of 100", 0.7, over(sizes[BATCHES]["10"], sizes[BATCHES]["0"])),
    ]  # fmt: skip
    rows = [(what, spread(ratio, 2), f"at least {aim}") for what, aim, ratio in lines]
    tail = [each["p99 ms"] / each["p50 ms"] for each in single["tracklog"]]
    rows += [
        ("p99 over p50, c64", spread(tail, 1), "at most 3"),
        ("disk syncs per event, c64", f"{ingest['c64']['tracklog']['syncs/event']:.3f}", "at most 0.05"),
        (
            "memory of master and 2 workers with 5 million events, MB (PSS)",
            spread(values(sizes[BATCHES]["5"], "memory MB")),
            "at most 200",
        ),
    ]
    return table(("figure", "measured", "aim"), rows)


def case_table(name, servers):
    """Return a case's table: medians, with the least and the most, and the first server's events/s over each one's.

    A * is for a server that answers before its data is on disk.
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
                spread(values(rounds, "CPU us/event")),
                f"{median(values(rounds, 'memory MB')):.0f}",
                "" if syncs is None else f"{syncs:.3f}",
                str(sum(values(rounds, "failed"))),
                f"{median(over(ours, rounds)):.2f}",
            )
        )
    head = (
        "",
        "events/s",
        "p50 ms",
        "p99 ms",
        "CPU µs/event",
        "PSS MB",
        "syncs/event",
        "failed",
        f"{first} is",
    )
    return f"**{name}**\n\n{table(head, rows)}"


def growth_table(cases):
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


def rows_table(rows):
    steps = list(next(iter(rows.values())))
    lines = [(name, *(f"{took[step]:.1f}" for step in steps)) for name, took in rows.items()]
    return table(("µs per row", *steps), lines)


def chores_table(chores):
    rows = [(f"`{name}`", f"{small:.1f}", f"{large:.1f}") for name, (small, large) in chores.items()]
    return table(("ms, the least of 3", "small log", "10 million events"), rows)


def profile_table(profiles):
    """Return where a request's, and a batch item's, time goes; `profiles` has the shares by case and room."""
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


def groups_table(groups):
    rows = [(size, f"{millis:.2f}", f"{millis / int(size) * 1000:.0f}") for size, millis in groups.items()]
    return table(("events of a group", "ms to write it", "µs/event"), rows)


def workers_table(cases):
    rows = [
        (case, workers, spread(values(rounds, "events/s")), spread(values(rounds, "CPU us/event")))
        for case, sizes in cases.items()
        for workers, rounds in sizes.items()
    ]
    return table(("", "workers", "events/s", "CPU µs/event"), rows)


def capacity_table(groups, ingest):
    """Return what a worker per core and one log could do, from the CPU of an event and the time of a group.

    A group is as large as it was with two workers: it has a disk sync.
    """
    known = [(int(size), millis / 1000) for size, millis in groups.items()]
    rows = []
    for case in ("c64", "c256", BATCHES):
        measured = ingest[case]["tracklog"]
        micros, size = median(values(measured["rounds"], "CPU us/event")), 1 / measured["syncs/event"]
        log = size / interpolated(known, size)
        cells = [f"{min(cores * 1e6 / micros, log):,.0f}" for cores in (2, 8, 32)]
        rows.append((case, f"{size:.0f}", f"{1e6 / micros:,.0f}", f"{log:,.0f}", f"{log * micros / 1e6:.1f}", *cells))
    head = (
        "",
        "events of a group",
        "events/s of a core",
        "of a log",
        "cores that fill it",
        "2 cores",
        "8 cores",
        "32 cores",
    )
    return table(head, rows)


def interpolated(known, at):
    """Return the value at a place between two of the known ones, which are in order."""
    for (left, low), (right, high) in itertools.pairwise(known):
        if left <= at <= right:
            return low + (high - low) * (at - left) / (right - left)
    raise ValueError(at)


def table(head, rows):
    if any(len(row) != len(head) for row in rows):
        raise ValueError(f"a row is not as long as its head: {head}")
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def panel(case, servers, figure):
    """Return a chart's part: a title, and for each server its label, its bar, a darker one within it, and its text."""
    bars = []
    for name in SHOWN_IN_CHARTS:
        if name not in servers:
            continue
        rounds = servers[name]["rounds"]
        label = name if servers[name]["durable"] else f"{name} *"
        if figure == "latency":
            p50, p99 = (median(values(rounds, each)) for each in ("p50 ms", "p99 ms"))
            bars.append((label, p99, p50, f"{p50:,.1f} / {p99:,.1f}"))
        else:
            speed = median(values(rounds, figure))
            bars.append((label, speed, speed, f"{speed:,.0f}"))
    return case, bars


def draw(panels, title):
    """Return an SVG of bars, each panel with a scale of its own."""
    width, label, bar, row = 860, 90, 200, 20
    height = (max(len(bars) for _, bars in panels) + 2) * row
    parts = []
    for number, (case, bars) in enumerate(panels):
        x, y = number % 2 * width // 2 + 10, number // 2 * height + 40
        parts.append(f'<text x="{x}" y="{y}" font-weight="bold">{escape(case)}</text>')
        longest = max(each[1] for each in bars)
        for place, (name, outer, inner, text) in enumerate(bars):
            top = y + 8 + place * row
            color = OURS if name == "tracklog" else OTHERS
            parts.append(f'<text x="{x}" y="{top + 12}">{escape(name)}</text>')
            for length, opacity in ((outer, 0.45), (inner, 1)):
                size = f'width="{bar * length / longest:.1f}" height="{row - 5}"'
                parts.append(f'<rect x="{x + label}" y="{top}" {size} fill="{color}" fill-opacity="{opacity}"/>')
            parts.append(f'<text x="{x + label + bar * outer / longest + 5:.1f}" y="{top + 12}">{text}</text>')
    whole = -(-len(panels) // 2) * height + 50
    font = 'font-family="sans-serif" font-size="12"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {whole}" {font}>'
    heading = f'<text x="10" y="18" font-size="14">{escape(title)} (* answers before its data is on disk)</text>'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', heading, *parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    main()
