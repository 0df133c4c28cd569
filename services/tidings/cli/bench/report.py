"""What a bench says: tables for a terminal, the same as Markdown for README, everything as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from tidings.cli.bench.idle import Connects, Idle
from tidings.cli.bench.keeping import WindowCpu, WindowMemory
from tidings.cli.bench.messaging import Messaging
from tidings.cli.bench.resume import Resume, ResumeRate
from tidings.cli.bench.summary import Compared
from tidings.cli.bench.targets import GATEWAY
from tidings.cli.bench.writes import Writes

__all__ = ["Report", "Rows", "markdown", "print_report"]

Rows = tuple[list[str], list[list[str]]]
"""Heads and rows of a table, as text."""

_OFF: Final = "The limits on resumes per second and per user and on bytes read back are off."
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
    writes: list[Writes] = field(default_factory=list)
    idle: list[Idle] = field(default_factory=list)
    connects: list[Connects] = field(default_factory=list)
    resumes: list[Resume] = field(default_factory=list)
    resume_rates: list[ResumeRate] = field(default_factory=list)
    window_memory: list[WindowMemory] = field(default_factory=list)
    window_cpu: list[WindowCpu] = field(default_factory=list)
    messaging: list[Messaging] = field(default_factory=list)

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
            "writes": [each.as_dict() for each in self.writes],
            "idle": [asdict(each) for each in self.idle],
            "connects": [asdict(each) for each in self.connects],
            "resumes": [asdict(each) for each in self.resumes],
            "resume_rates": [asdict(each) for each in self.resume_rates],
            "window_memory": [each.as_dict() for each in self.window_memory],
            "window_cpu": [each.as_dict() for each in self.window_cpu],
            "messaging": [each.as_dict() for each in self.messaging],
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


def write_rows(found: Sequence[Writes]) -> Rows:
    rows = [
        [
            each.way,
            f"{each.connections:,}",
            str(each.frame_bytes),
            f"{each.median_us:.2f} ({min(each.cpu_us):.2f} to {max(each.cpu_us):.2f})",
            f"{each.median_kernel_us:.2f}",
            f"{1e6 / each.median_us:,.0f}",
        ]
        for each in found
    ]
    return ["Way", "Connections", "Bytes", "µs a write", "of it in the kernel", "Per CPU-s"], rows


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


def resume_rows(found: Sequence[Resume]) -> Rows:
    rows = [
        [
            f"{each.missed:,}",
            each.source,
            f"{each.repeats:,}",
            *(f"{ms:.2f}" for ms in (each.welcome_p50_ms, each.welcome_p99_ms, each.last_p50_ms, each.last_p99_ms)),
        ]
        for each in sorted(found, key=lambda each: each.missed)
    ]
    return [
        "Missed", "Served from", "Resumes", "$welcome p50 ms", "$welcome p99 ms", "Last frame p50 ms",
        "Last frame p99 ms",
    ], rows  # fmt: skip


def resume_rate_rows(found: Sequence[ResumeRate]) -> Rows:
    rows = [
        [
            f"{each.users:,}", each.source, f"{each.per_s:,.0f}", f"{each.cpu_us_each:.0f}", f"{each.p50_ms:.1f}",
            f"{each.p99_ms:.1f}",
        ]
        for each in found
    ]  # fmt: skip
    return ["Users", "Served from", "Resumes/s", "CPU µs each", "p50 ms", "p99 ms"], rows


def window_memory_rows(found: Sequence[WindowMemory]) -> Rows:
    rows = [
        [
            str(each.receivers),
            f"{each.record_bytes:,.0f}",
            f"{each.records:,}",
            *(f"{size / 1e6:.1f}" for size in (
                each.median(each.kept), each.median(each.without), each.window_rss_bytes,
                each.median(each.kept, "window_bytes"),
            )),
        ]
        for each in found
    ]  # fmt: skip
    return [
        "Receivers", "Bytes each", "Records", "RSS MB more, window", "RSS MB more, none", "Window, MB",
        "`_window_bytes`, MB",
    ], rows  # fmt: skip


def window_cpu_rows(found: Sequence[WindowCpu]) -> Rows:
    """A difference that is not above zero says that the noise was larger than the cost, so nothing follows from it."""
    rows = [
        [
            each.shape,
            f"{each.connected:,}",
            f"{each.median(each.kept):.1f}",
            f"{each.median(each.without):.1f}",
            f"{each.difference_us:.1f} ({min(each.differences_us):.1f} to {max(each.differences_us):.1f})",
            "–" if each.records_per_s is None else f"{each.records_per_s:,.0f}",
        ]
        for each in found
    ]
    return ["Shape", "Connected", "µs a record, window", "none", "Difference", "Records/s for 10 % of a core"], rows


def messaging_rows(found: Sequence[Messaging]) -> Rows:
    rows = [
        [one.what, f"{one.count:,}", f"{one.per_s:,.0f}", f"{one.p50_ms:.1f}", f"{one.p99_ms:.1f}"]
        for each in found
        for one in each.timed
    ]
    rows += [["outbox into Kafka", "", f"{each.relayed_per_s:,.0f}", "", ""] for each in found]
    return ["What", "Count", "Per second", "p50 ms", "p99 ms"], rows


def _tables(report: Report) -> list[tuple[str, Rows, str]]:
    """Title, rows, and what has to be said with them."""
    others = {each.others for each in report.resumes}
    among = f"among {max(others):,} records for others" if others else ""
    tables = [
        ("Deliveries, per CPU-second of the target's process", shape_rows(report.shapes), ""),
        ("Inside the gateway", inside_rows(report.shapes), ""),
        (
            "Nothing but writes",
            write_rows(report.writes),
            "A process that writes a frame to each connection in turn and does nothing else, on the same event loop as"
            " the gateway: by its transport, or past it with os.write, or with a socket's send as the gateway does."
            " More per CPU-second than that has only who puts several frames into one write, and so keeps the first of"
            " them waiting.",
        ),
        ("Idle connections", idle_rows(report.idle), ""),
        ("Connects (gateway: RS256 token each)", connect_rows(report.connects), ""),
        (
            "Resume latency",
            resume_rows(report.resumes),
            f"One user comes back with a cursor, its missed records {among} of 10 receivers each, over all partitions."
            " From the start of the TCP connect to the read that brought `$welcome` and the last missed frame. Kafka:"
            " `TIDINGS_GATEWAY_WINDOW_BYTES=0` and a gap that nobody has asked for yet; read before: the next who asks"
            f" for it. {_OFF}",
        ),
        (
            "Resumes per second of one node",
            resume_rate_rows(report.resume_rates),
            "All users come back at once, 64 at a time and with one missed record each; CPU of the gateway's process."
            f" No cursor: they only connect and wait for `$welcome`. {_OFF}",
        ),
        (
            "Memory of the window",
            window_memory_rows(report.window_memory),
            "Growth of a fresh gateway's resident memory over the records, nobody connected: with a window that keeps"
            " them all, and with `TIDINGS_GATEWAY_WINDOW_BYTES=0`; the window is the difference, beside it what the"
            " gateway's metric says.",
        ),
        (
            "CPU of the window",
            window_cpu_rows(report.window_cpu),
            "CPU of the gateway's process per record, with the default window (full, so that it drops what it takes)"
            " and with `TIDINGS_GATEWAY_WINDOW_BYTES=0`. The difference is the median of the rounds, in brackets the"
            " lowest and highest.",
        ),
        (
            "Messaging",
            messaging_rows(report.messaging),
            "".join(
                f"{each.postgres}; one process of the service, its relay included, used {each.cpu_ms_per_send:.2f} ms"
                " of CPU per message while it took as many as it could."
                for each in report.messaging
            ),
        ),
    ]
    return [(title, rows, note) for title, rows, note in tables if rows[1]]


def conditions(report: Report) -> str:
    """One sentence: on what, when and how."""
    machine, options = report.machine, report.options
    rounds = f" Medians of {options['rounds']} rounds"
    if report.shapes:
        rounds += (
            f" of {options['seconds']:g} s after {options['warm_up']:g} s of warm-up, gateway and baseline in turn;"
            f" load client: {options['engine']}"
        )
    elif report.messaging:
        rounds = f" One round of {options['seconds']:g} s after {options['warm_up']:g} s of warm-up"
    return (
        f"{machine['date']}; {machine['cpu']}, {machine['cores']} cores (load client, producer and Kafka beside the"
        f" target), {machine['memory']}; {machine['kernel']}; Python {machine['python']}; {machine['packages']};"
        f" {options['kafka']}; load average before: {machine['load']}."
        f"{rounds}."
    )


def print_report(report: Report, console: Console) -> None:
    for title, (heads, rows), note in _tables(report):
        table = Table(
            title=title, title_justify="left", header_style="bold", caption=note or None, caption_justify="left"
        )
        for number, head in enumerate(heads):
            left = number < 1 or head in ("Target", "In the gateway", "Served from")
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
    for _, (heads, rows), note in _tables(report):
        parts += [note] if note else []
        parts.append("\n".join("| " + " | ".join(row) + " |" for row in (heads, ["---"] * len(heads), *rows)))
    return "\n\n".join([*parts, conditions(report)]) + "\n"
