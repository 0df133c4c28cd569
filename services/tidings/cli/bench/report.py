"""What a bench says: tables for a terminal, the same as Markdown for README, everything as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from tidings.cli.bench.idle import Connects, Idle
from tidings.cli.bench.summary import Compared
from tidings.cli.bench.targets import GATEWAY

__all__ = ["Report", "Rows", "markdown", "print_report"]

Rows = tuple[list[str], list[list[str]]]
"""Heads and rows of a table, as text."""

_INSIDE = {
    "tidings_gateway_encode_seconds": "encode a batch",
    "tidings_gateway_flush_seconds": "flush a batch",
    "tidings_gateway_loop_delay_seconds": "loop delay",
}


@dataclass(slots=True)
class Report:
    """All that one bench found; parts that did not run stay empty."""

    machine: dict[str, str]
    options: dict[str, Any]
    shapes: list[Compared] = field(default_factory=list)
    idle: list[Idle] = field(default_factory=list)
    connects: list[Connects] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Every round as it was measured, beside the medians' ratios."""
        return {
            "machine": self.machine,
            "options": self.options,
            "shapes": [
                {
                    "shape": each.shape,
                    "ratio": each.ratio,
                    "p99_ratio": each.p99_ratio,
                    "rounds": {target: [one.as_dict() for one in rounds] for target, rounds in each.rounds.items()},
                }
                for each in self.shapes
            ],
            "idle": [asdict(each) for each in self.idle],
            "connects": [asdict(each) for each in self.connects],
        }


def shape_rows(found: Sequence[Compared]) -> Rows:
    """One row per shape and target; the ratio stands in the gateway's."""
    heads = [
        "Shape", "Target", "Per CPU-s", "Ratio", "p50 ms", "p99 ms", "p99.9 ms", "CPU %", "RSS MB", "Lost",
    ]  # fmt: skip
    rows = []
    for each in found:
        for target, rounds in each.rounds.items():
            ratio = f"{each.ratio:.2f}x" if target == GATEWAY and each.ratio is not None else ""
            lost = sum(one.lost for one in rounds)
            extra = sum(one.extra for one in rounds)
            share = each.median(target, "cpu_s") / max(each.median(target, "wall_s"), 1e-9)
            rows.append(
                [
                    each.shape,
                    target,
                    f"{each.median(target, 'per_cpu_s'):,.0f}",
                    ratio,
                    f"{each.median(target, 'p50_ms'):.2f}",
                    f"{each.median(target, 'p99_ms'):.2f}",
                    f"{each.median(target, 'p999_ms'):.2f}",
                    f"{share:.0%}".removesuffix("%"),
                    f"{each.median(target, 'rss_bytes') / 1e6:.0f}",
                    f"{lost}" + (f" (+{extra})" if extra else ""),
                ]
            )
    return heads, rows


def inside_rows(found: Sequence[Compared]) -> Rows:
    """The gateway's own histograms in the last round of each shape: bucket edges, so upper bounds."""
    rows = []
    for each in found:
        for one in each.rounds.get(GATEWAY, ())[-1:]:
            for name, title in _INSIDE.items():
                if name in one.inside:
                    values = one.inside[name]
                    rows.append([each.shape, title, *(f"≤ {values[q] * 1000:g}" for q in ("p50", "p99"))])
    return ["Shape", "In the gateway", "p50 ms", "p99 ms"], rows


def idle_rows(found: Sequence[Idle]) -> Rows:
    rows = [
        [
            each.target,
            f"{each.connections:,}",
            f"{each.rss_per_connection / 1000:.2f}",
            "" if each.rss_per_further is None else f"{each.rss_per_further / 1000:.2f}",
            "" if each.cpu_us_per_s is None else f"{each.cpu_us_per_s:.2f}",
            "" if each.own_cpu_us_per_s is None else f"{each.own_cpu_us_per_s / 1000:.1f}",
            "" if each.cpu_us_per_s is None else f"{each.pings:,} in {each.seconds:.0f} s",
        ]
        for each in found
    ]
    return [
        "Target",
        "Idle connections",
        "KB each",
        "KB each further",
        "CPU µs/s each",
        "CPU ms/s with none",
        "Pings",
    ], rows


def connect_rows(found: Sequence[Connects]) -> Rows:
    rows = [
        [
            each.target,
            f"{each.per_s:,.0f}",
            f"{each.cpu_us_each:.0f}",
            f"{each.p50_ms:.1f}",
            f"{each.p99_ms:.1f}",
        ]
        for each in found
    ]
    return ["Target", "Connects/s", "CPU µs each", "p50 ms", "p99 ms"], rows


def _tables(report: Report) -> list[tuple[str, Rows]]:
    tables = [
        ("Deliveries, per CPU-second of the target's process", shape_rows(report.shapes)),
        ("Inside the gateway", inside_rows(report.shapes)),
        ("Idle connections", idle_rows(report.idle)),
        ("Connects (gateway: RS256 token each)", connect_rows(report.connects)),
    ]
    return [(title, rows) for title, rows in tables if rows[1]]


def conditions(report: Report) -> str:
    """One sentence: on what, when and how."""
    machine, options = report.machine, report.options
    return (
        f"{machine['date']}; {machine['cpu']}, {machine['cores']} cores (load client, producer and Kafka beside the"
        f" target), {machine['memory']}; {machine['kernel']}; Python {machine['python']}; {machine['packages']};"
        f" {options['kafka']}; load average before: {machine['load']}."
        f" Medians of {options['rounds']} rounds of {options['seconds']:g} s after"
        f" {options['warm_up']:g} s of warm-up, gateway and baseline in turn; load client: {options['engine']}."
    )


def print_report(report: Report, console: Console) -> None:
    for title, (heads, rows) in _tables(report):
        table = Table(title=title, title_justify="left", header_style="bold")
        for number, head in enumerate(heads):
            left = number < 1 or head in ("Target", "In the gateway")
            table.add_column(head, justify="left" if left else "right", no_wrap=left)
        previous = None
        for row in rows:
            if previous not in (None, row[0]):
                table.add_section()
            previous = row[0]
            style = "red" if heads[-1] == "Lost" and row[-1] != "0" else None
            table.add_row(*row, style=style)
        console.print(table)
    console.print(conditions(report), style="dim")


def markdown(report: Report) -> str:
    """The tables for README."""
    parts = []
    for _, (heads, rows) in _tables(report):
        parts.append("\n".join("| " + " | ".join(row) + " |" for row in (heads, ["---"] * len(heads), *rows)))
    return "\n\n".join([*parts, conditions(report)]) + "\n"
