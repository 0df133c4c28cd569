"""What the window costs: the memory of what it keeps, and the CPU of keeping it."""

import contextlib
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from tidings.cli.bench.measure import LoadClient, arrived, load_client, send
from tidings.cli.bench.processes import Child
from tidings.cli.bench.shapes import TS_DIGITS, Load
from tidings.cli.bench.targets import Target

__all__ = [
    "KEEPS_ALL", "Cost", "Grown", "WindowCpu", "WindowMemory", "fill", "flood_rate", "grow", "spend", "value_bytes",
]  # fmt: skip

KEEPS_ALL: Final = {"TIDINGS_GATEWAY_WINDOW_BYTES": str(4 << 30)}

_CORE_SHARE: Final = 0.1
_POLL_S: Final = 0.2
_READ_S: Final = 120.0
_FLOOD_RECEIVERS_PER_S: Final = 400_000
_FLOOD_PER_S: Final = 20_000
_SETTLE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Grown:
    """A fresh gateway, with or without a window, that read records which nobody here receives.

    Attributes:
        rss_bytes: Resident bytes more than before the first of them.
        window_bytes: What the gateway itself says that its window holds.
    """

    rss_bytes: int
    window_bytes: int


@dataclass(frozen=True, slots=True)
class WindowMemory:
    """All rounds with one kind of record, `records` of `record_bytes` each, with a window that keeps all and without.

    Attributes:
        record_bytes: Mean size of a value, as the log has it.
    """

    receivers: int
    records: int
    record_bytes: float
    kept: Sequence[Grown]
    without: Sequence[Grown]

    def median(self, rounds: Sequence[Grown], name: str = "rss_bytes") -> float:
        return float(statistics.median(getattr(each, name) for each in rounds))

    @property
    def window_rss_bytes(self) -> float:
        """What the window takes: the difference of the medians."""
        return self.median(self.kept) - self.median(self.without)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"window_rss_bytes": self.window_rss_bytes}


@dataclass(frozen=True, slots=True)
class Cost:
    """What a gateway spent on the measured records.

    Attributes:
        cpu_us: CPU microseconds per record, threads included.
        deliveries: Frames that came to the connected users.
    """

    cpu_us: float
    deliveries: int


@dataclass(frozen=True, slots=True)
class WindowCpu:
    """All rounds of one shape with as many of its users connected; the default window, full, and none at all."""

    shape: str
    connected: int
    records: int
    kept: Sequence[Cost]
    without: Sequence[Cost]

    def median(self, rounds: Sequence[Cost]) -> float:
        return float(statistics.median(each.cpu_us for each in rounds))

    @property
    def differences_us(self) -> list[float]:
        """Per round, where both met the same machine: CPU microseconds per record that the window costs."""
        return [kept.cpu_us - without.cpu_us for kept, without in zip(self.kept, self.without, strict=True)]

    @property
    def difference_us(self) -> float:
        """The median of the rounds; below the noise it may be negative."""
        return float(statistics.median(self.differences_us))

    @property
    def records_per_s(self) -> float | None:
        """Records per second at which the window takes a tenth of a core; None: too little to be seen."""
        return _CORE_SHARE * 1e6 / self.difference_us if self.difference_us > 0 else None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"difference_us": self.difference_us, "records_per_s": self.records_per_s}


def value_bytes(load: Load) -> float:
    """Mean size of the values of a load, in bytes."""
    return statistics.fmean(
        len(head) + TS_DIGITS + len(tail) for head, tail in zip(load.heads, load.tails, strict=True)
    )


def flood_rate(receivers: int) -> float:
    """Records per second that a gateway takes without falling far behind, for what is not measured."""
    return max(1, min(_FLOOD_PER_S, _FLOOD_RECEIVERS_PER_S // receivers))


def grow(target: Target, producer: Child, *, count: int, rate: float) -> Grown:
    """Send `count` records to a gateway that has seen none and see by how much its process grew."""
    time.sleep(_SETTLE_S)
    before = target.rss_bytes()
    send(producer, count, rate)
    _read(target, count)
    time.sleep(_SETTLE_S)
    return Grown(target.rss_bytes() - before, int(target.total("tidings_gateway_window_bytes")))


def fill(target: Target, producer: Child, *, count: int, rate: float) -> None:
    """Send `count` records that are not measured to a gateway that has seen none."""
    send(producer, count, rate)
    _read(target, count)


def spend(
    target: Target, producer: Child, load: Load, people: list[str], client: LoadClient, *,
    connected: int, first: int, count: int,
) -> Cost:  # fmt: skip
    """Send `count` records at the shape's rate while the first `connected` of `people` are connected.

    Args:
        first: Records sent so far.
    Raises:
        BenchFault: A frame was lost, or one too many came.
    """
    due = load.expected(len(people), first, count)[:connected]
    with contextlib.ExitStack() as stack:
        sockets = None
        if connected:
            sockets = stack.enter_context(load_client(client, target.port, target.plan(people[:connected])))
            sockets.hear()
        time.sleep(_SETTLE_S)
        cpu = target.cpu_s()
        send(producer, count)
        if sockets is not None:
            arrived(sockets, sum(due), client.patience_s)
        _read(target, first + count)
        cpu = target.cpu_s() - cpu
        if sockets is not None and (counts := sockets.ask("counts")) != due:
            raise target.child.fault(f"{sum(counts)} frames came and {sum(due)} were due")
    return Cost(cpu * 1e6 / count, sum(due))


def _read(target: Target, count: int) -> None:
    """Wait until the gateway has read that many records since its start."""
    deadline = time.monotonic() + _READ_S
    while (seen := target.total("tidings_gateway_records_total")) < count:
        if time.monotonic() > deadline:
            raise target.child.fault(f"{seen:.0f} of {count} records read after {_READ_S:.0f} s")
        time.sleep(_POLL_S)
