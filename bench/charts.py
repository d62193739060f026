"""Draw the charts of docs/performance.md as SVG."""

from collections.abc import Sequence
from html import escape
from statistics import median
from typing import Any

Bar = tuple[str, float, float, str]  # label, length, length of the inner bar, text
Panel = tuple[str, list[Bar]]  # title and bars

OURS, OTHERS = "#1f6feb", "#8c959f"
SHOWN = ("tracklog", "naive", "fastapi", "fastify", "pocketbase")


def panel(case: str, servers: dict[str, Any], figure: str) -> Panel:
    """Return a panel of a chart: its title, and for each server its label, bar, inner bar and text."""
    bars = []
    for name in SHOWN:
        if name not in servers:
            continue
        rounds = servers[name]["rounds"]
        label = name if servers[name]["durable"] else f"{name} *"
        if figure == "latency":
            p50, p99 = (median(each_round[each] for each_round in rounds) for each in ("p50 ms", "p99 ms"))
            bars.append((label, p99, p50, f"{p50:,.1f} / {p99:,.1f}"))
        else:
            speed = median(each[figure] for each in rounds)
            bars.append((label, speed, speed, f"{speed:,.0f}"))
    return case, bars


def draw(panels: Sequence[Panel], title: str) -> str:
    """Return an SVG of bars. Each panel has its own scale."""
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
