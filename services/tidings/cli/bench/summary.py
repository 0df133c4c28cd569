"""Medians and ratios of the rounds."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tidings.cli.bench.measure import Round
from tidings.cli.bench.targets import GATEWAY

__all__ = ["Compared", "compare"]


@dataclass(frozen=True, slots=True)
class Compared:
    """All rounds of one shape.

    Attributes:
        rounds: Per target, in the order in which they ran.
        ratio: Median over the rounds of gateway ÷ baseline in deliveries per CPU-second; None with one target only.
        p99_ratio: The same of p99: below 1 the gateway is quicker.
    """

    shape: str
    rounds: Mapping[str, Sequence[Round]]
    ratio: float | None
    p99_ratio: float | None

    def median(self, target: str, name: str) -> float:
        """The median of a number of the rounds, by its attribute's name."""
        return float(statistics.median(getattr(each, name) for each in self.rounds[target]))

    @property
    def lost(self) -> int:
        return sum(each.lost for rounds in self.rounds.values() for each in rounds)

    @property
    def extra(self) -> int:
        return sum(each.extra for rounds in self.rounds.values() for each in rounds)


def compare(shape: str, rounds: Mapping[str, Sequence[Round]]) -> Compared:
    """Ratios are taken inside a round, where both met the same machine, and only then the median."""
    ours, theirs = rounds.get(GATEWAY, ()), rounds.get("baseline", ())
    pairs = list(zip(ours, theirs, strict=False))
    ratio = [a.per_cpu_s / b.per_cpu_s for a, b in pairs if b.per_cpu_s]
    p99 = [a.p99_ms / b.p99_ms for a, b in pairs if b.p99_ms]
    return Compared(shape, rounds, statistics.median(ratio) if ratio else None, statistics.median(p99) if p99 else None)
