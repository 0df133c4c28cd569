"""One round: a target, its load client and the producer, from the first connect to the last frame."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from tidings.cli.bench.handshakes import Wanted, write_plan
from tidings.cli.bench.histogram import quantile_ms
from tidings.cli.bench.processes import Child, module
from tidings.cli.bench.shapes import Load, Shape
from tidings.cli.bench.targets import Target, measured_s

__all__ = ["EngineName", "LoadClient", "Round", "arrived", "load_client", "measure", "send"]

EngineName = Literal["native", "python"]

_POLL_S = 0.05
_SETTLE_S = 0.3
_CONNECTING = 64


@dataclass(frozen=True, slots=True)
class LoadClient:
    """How the load client is to run."""

    engine: EngineName
    library: Path | None
    directory: Path
    patience_s: float
    """Without a new frame for so long after the last record, the rest counts as lost."""


@dataclass(frozen=True, slots=True)
class Round:
    """One target under one shape. Times in ms, sizes in bytes.

    Attributes:
        deliveries: Stamped frames that arrived in the measured part.
        lost: Frames due and not arrived, over all connections and both parts; `extra` those beyond what was due.
        cpu_s: CPU of the target's process over the measured part, its threads and children included.
        wall_s: From the first record to the last frame.
        late_ms: By how much the producer missed its own schedule at worst.
        inside: Quantiles of the gateway's own histograms over the measured part, in seconds.
    """

    target: str
    deliveries: int
    lost: int
    extra: int
    cpu_s: float
    wall_s: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    rss_bytes: int
    connect_s: float
    client_cpu_s: float
    frames_per_read: float
    late_ms: float
    inside: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def per_cpu_s(self) -> float:
        """Deliveries per CPU-second: the measure."""
        return self.deliveries / self.cpu_s if self.cpu_s else 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"per_cpu_s": self.per_cpu_s}


@contextlib.contextmanager
def load_client(client: LoadClient, port: int, plan: list[Wanted], parallel: int = _CONNECTING) -> Iterator[Child]:
    """The load client with all connections of the plan open; its first answer is left to be read by `hear`."""
    path = client.directory / f"plan-{port}"
    write_plan(str(path), plan)
    command = module("load", port, path, "--engine", client.engine, "--parallel", parallel)
    if client.library is not None:
        command += ["--library", str(client.library)]
    try:
        with Child("load client", command, client.directory / "load.log") as child:
            yield child
    finally:
        path.unlink(missing_ok=True)


def measure(
    target: Target,
    shape: Shape,
    people: list[str],
    load: Load,
    producer: Child,
    client: LoadClient,
    *,
    first: int,
    warm_up: int,
    count: int,
) -> Round:
    """Warm up with `warm_up` records, then measure over `count` records, until the last frame of each is there.

    Args:
        producer: Has sent `first` records so far.
    Raises:
        BenchFault: A process failed, or a record was not acknowledged.
    """
    with load_client(client, target.port, target.plan(people)) as sockets:
        opened = sockets.hear()
        send(producer, warm_up)
        before = arrived(sockets, warm_up * shape.receivers, client.patience_s)
        # Also what was in the buckets goes with the reset: the measured part begins at nothing.
        sockets.ask("reset")
        inside_before = target.metrics()
        cpu_before, began = target.cpu_s(), time.monotonic()
        sent = send(producer, count)
        after = arrived(sockets, (warm_up + count) * shape.receivers, client.patience_s)
        cpu, wall = target.cpu_s() - cpu_before, time.monotonic() - began
        inside_after = target.metrics()
        rss = target.rss_bytes()
        time.sleep(_SETTLE_S)
        counts = sockets.ask("counts")
        latencies = {int(bucket): number for bucket, number in sockets.ask("latencies").items()}
        target.child.drain()
    due = load.expected(len(people), first, warm_up + count)
    reads = after["reads"] - before["reads"]
    return Round(
        target=target.name,
        deliveries=after["frames"] - before["frames"],
        lost=sum(max(0, wanted - got) for wanted, got in zip(due, counts, strict=True)),
        extra=sum(max(0, got - wanted) for wanted, got in zip(due, counts, strict=True)),
        cpu_s=cpu,
        wall_s=wall,
        p50_ms=quantile_ms(latencies, 0.5),
        p99_ms=quantile_ms(latencies, 0.99),
        p999_ms=quantile_ms(latencies, 0.999),
        max_ms=quantile_ms(latencies, 1.0),
        rss_bytes=rss,
        connect_s=opened["connect_s"],
        client_cpu_s=(after["cpu_ms"] - before["cpu_ms"]) / 1000,
        frames_per_read=(after["frames"] - before["frames"]) / reads if reads else 0.0,
        late_ms=sent["late_ms"],
        inside=_inside(inside_before, inside_after),
    )


def _inside(before: dict[str, dict[float, float]], after: dict[str, dict[float, float]]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for name in after:
        for label, q in (("p50", 0.5), ("p99", 0.99)):
            if (value := measured_s(before, after, name, q)) is not None:
                found.setdefault(name, {})[label] = value
    return found


def send(producer: Child, count: int, rate: float | None = None) -> dict[str, Any]:
    """Have `count` records sent, at the shape's rate unless another is given; returns what the producer says of it.

    Raises:
        BenchFault: Not all were acknowledged.
    """
    answer: dict[str, Any] = producer.ask(str(count) if rate is None else f"{count} {rate}", timeout_s=600)
    if answer["errors"]:
        raise producer.fault(f"{answer['errors']} of {count} records not acknowledged")
    return answer


def arrived(sockets: Child, wanted: int, patience_s: float) -> dict[str, Any]:
    """Totals once `wanted` frames are there, or none came for `patience_s`."""
    seen, moved = -1, time.monotonic()
    while True:
        totals: dict[str, Any] = sockets.ask("totals")
        now = time.monotonic()
        if totals["frames"] >= wanted:
            return totals
        if totals["frames"] > seen:
            seen, moved = totals["frames"], now
        elif now - moved > patience_s:
            return totals
        time.sleep(_POLL_S)
