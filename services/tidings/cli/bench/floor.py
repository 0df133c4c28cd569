"""The recorded floor that a bench must not fall below, and what of a report does."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from tidings.cli.bench.idle import Connects, Idle
from tidings.cli.bench.report import Report
from tidings.cli.bench.summary import Compared
from tidings.cli.bench.targets import GATEWAY
from tidings.errors import ConfigError

__all__ = ["Floor", "IdleFloor", "ShapeFloor", "below_floor", "read_floor"]


class ShapeFloor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a shape must reach: the least ratio, the highest of p99 to the baseline's, the highest p50."""

    ratio: float
    p99_ratio: float
    p50_ms: float


class IdleFloor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an idle connection may cost, as in `Idle`."""

    rss_per_connection: float
    cpu_us_per_s: float


class Floor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it; a part that was not measured says nothing."""

    shapes: dict[str, ShapeFloor]
    idle: IdleFloor
    connects_per_s: float


def read_floor(path: Path) -> Floor:
    """The recorded floor.

    Raises:
        ConfigError: The file can't be read or is not one.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Floor)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError([f"{path}: not a floor file: {error}"]) from error


def below_floor(report: Report, floor: Floor | None) -> list[str]:
    """One line for each loss, and for each number of the gateway that is worse than the floor, if there is one."""
    lost = [
        f"{each.shape}: {each.lost} frames lost, {each.extra} too many"
        for each in report.shapes
        if each.lost or each.extra
    ]
    if floor is None:
        return lost
    return [
        *lost,
        *_shapes(report.shapes, floor.shapes),
        *_idle([each for each in report.idle if each.target == GATEWAY], floor.idle),
        *_connects([each for each in report.connects if each.target == GATEWAY], floor.connects_per_s),
    ]


def _shapes(found: Sequence[Compared], floor: dict[str, ShapeFloor]) -> list[str]:
    lines = []
    for each in found:
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
        if (p50_ms := each.median(GATEWAY, "p50_ms")) > least.p50_ms:
            lines.append(f"{each.shape}: p50 {p50_ms:.2f} ms, at most {least.p50_ms:.2f} ms")
    return lines


def _idle(found: Sequence[Idle], floor: IdleFloor) -> list[str]:
    lines = []
    for each in found:
        rss = max(each.rss_per_connection, each.rss_per_further or 0.0)
        if rss > floor.rss_per_connection:
            lines.append(
                f"{each.connections} idle: {rss:.0f} bytes a connection, at most {floor.rss_per_connection:.0f}"
            )
        if each.cpu_us_per_s is not None and each.cpu_us_per_s > floor.cpu_us_per_s:
            lines.append(
                f"{each.connections} idle: {each.cpu_us_per_s:.2f} µs/s a connection, at most {floor.cpu_us_per_s:.2f}"
            )
    return lines


def _connects(found: Sequence[Connects], floor: float) -> list[str]:
    return [f"{each.per_s:.0f} connects/s, floor {floor:.0f}" for each in found if each.per_s < floor]
