"""Medians and ratios of the rounds, and the recorded floor that they must not fall below."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidings.cli.bench.measure import Round
from tidings.cli.bench.targets import GATEWAY
from tidings.errors import ConfigError

__all__ = ["Compared", "Floor", "below_floor", "compare", "read_floor"]


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


@dataclass(frozen=True, slots=True)
class Floor:
    """The least that a shape must reach: ratios, since absolute numbers belong to a machine."""

    ratio: float
    p99_ratio: float


def read_floor(path: Path) -> dict[str, Floor]:
    """The recorded floor by shape.

    Raises:
        ConfigError: The file can't be read or is not one.
    """
    try:
        return {name: Floor(**numbers) for name, numbers in json.loads(path.read_text())["shapes"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError([f"{path}: not a floor file: {error}"]) from error


def below_floor(found: Sequence[Compared], floor: Mapping[str, Floor]) -> list[str]:
    """One line for each number below the floor, and for each loss. A shape that was not measured says nothing."""
    lines = []
    for each in found:
        if each.lost or each.extra:
            lines.append(f"{each.shape}: {each.lost} frames lost, {each.extra} too many")
        least = floor.get(each.shape)
        if least is None:
            continue
        if each.ratio is None or each.p99_ratio is None:
            lines.append(f"{each.shape}: not compared with the baseline")
            continue
        if each.ratio < least.ratio:
            lines.append(f"{each.shape}: {each.ratio:.2f}x the baseline per CPU-second, floor {least.ratio:.2f}x")
        if each.p99_ratio > least.p99_ratio:
            lines.append(f"{each.shape}: p99 {each.p99_ratio:.2f}x the baseline's, at most {least.p99_ratio:.2f}x")
    return lines
