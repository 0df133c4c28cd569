"""What a bench may not fall below."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.bench.test_pure import make_round
from tidings.cli.bench.floor import Floor, IdleFloor, ShapeFloor, below_floor, read_floor
from tidings.cli.bench.idle import Connects, Idle
from tidings.cli.bench.report import Report
from tidings.cli.bench.shapes import SHAPES
from tidings.cli.bench.summary import Compared
from tidings.errors import ConfigError

RECORDED = Path(__file__).parents[3] / "bench" / "floor.json"
FLOOR = Floor(
    shapes={"s": ShapeFloor(ratio=1.5, p99_ratio=1.0, p50_ms=10.0)},
    idle=IdleFloor(rss_per_connection=6144, cpu_us_per_s=2.5),
    connects_per_s=2000,
)


def compared(**changes: Any) -> Compared:
    rounds = {"gateway": [make_round("gateway", 2, 5, 1)]}
    given: dict[str, Any] = {"shape": "s", "rounds": rounds, "ratio": 2.0, "p99_ratio": 0.5} | changes
    return Compared(**given)


def idle(**changes: Any) -> Idle:
    given: dict[str, Any] = {
        "target": "gateway",
        "connections": 10_000,
        "rss_per_connection": 2000.0,
        "rss_per_further": 2000.0,
        "cpu_us_per_s": 1.0,
        "own_cpu_us_per_s": 1.0,
        "pings": 1,
        "seconds": 1.0,
    }
    return Idle(**(given | changes))


def connects(per_s: float, target: str = "gateway") -> Connects:
    return Connects(target, 4000, per_s, 100, 1, 2, 1)


def lines(**parts: Any) -> list[str]:
    return below_floor(Report(machine={}, options={}, **parts), FLOOR)


def test_what_holds_the_floor_says_nothing() -> None:
    assert lines() == []
    assert lines(shapes=[compared()], idle=[idle()], connects=[connects(2000)]) == []
    assert lines(shapes=[compared(shape="other", ratio=0.1)]) == []
    assert lines(idle=[idle(target="baseline", rss_per_connection=1e6)], connects=[connects(1, "baseline")]) == []
    assert lines(idle=[idle(rss_per_further=None, cpu_us_per_s=None)]) == []


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ({"shapes": [compared(ratio=1.4)]}, "1.40x"),
        ({"shapes": [compared(p99_ratio=1.2)]}, "p99 1.20x"),
        ({"shapes": [compared(ratio=None)]}, "not compared"),
        ({"shapes": [compared(rounds={"gateway": [make_round("gateway", 2, 1, 11, p50_ms=11.0)]})]}, "p50 11.00 ms"),
        ({"idle": [idle(rss_per_further=7000.0)]}, "7000 bytes"),
        ({"idle": [idle(rss_per_connection=7000.0)]}, "7000 bytes"),
        ({"idle": [idle(cpu_us_per_s=2.6)]}, "2.60 µs/s"),
        ({"connects": [connects(1999)]}, "1999 connects/s"),
    ],
)
def test_each_figure_below_the_floor_is_named(parts: dict[str, Any], named: str) -> None:
    (line,) = lines(**parts)
    assert named in line


def test_a_loss_is_named_without_a_floor_too() -> None:
    lossy = compared(rounds={"gateway": [make_round("gateway", 1, 1, 1, lost=3)]})
    report = Report(machine={}, options={}, shapes=[lossy])
    assert below_floor(report, None) == ["s: 3 frames lost, 0 too many"]
    assert below_floor(report, FLOOR) == ["s: 3 frames lost, 0 too many"]


def test_the_recorded_floor_is_one_for_every_shape() -> None:
    assert set(read_floor(RECORDED).shapes) == {shape.name for shape in SHAPES}


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"shapes": {}}', RECORDED.read_text().replace('"ratio"', '"ration"'), RECORDED.read_text() + "}"],
)
def test_a_damaged_floor_is_a_config_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "floor.json").write_text(text)
    with pytest.raises(ConfigError):
        read_floor(tmp_path / "floor.json")
