"""Wall clocks that jump, of nodes and of brokers: positions are offsets, so nobody's stream may notice."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.arena import Arena, arena
from tests.chaos.clocks import WallClock, compile_shim
from tests.chaos.faults import Storm, strike
from tests.chaos.feed import Mix
from tests.chaos.loops import fast_loop
from tests.chaos.recoveries import Recoveries
from tidings.kafka.apache import ApacheKafka

pytestmark = [pytest.mark.slow, pytest.mark.kafka]

HOUR_S = 3600.0
FAR_S = 2 * HOUR_S
"""Further than the window reaches in time, and than a repeat from its first."""
HOUSEKEEPING_S = 5.0
"""So often nodes look for what is too old."""


def test_the_shim_moves_the_wall_clock_and_no_other(tmp_path: Path) -> None:
    clock = WallClock(compile_shim(tmp_path), tmp_path / "offset")
    clock.jump_to(-HOUR_S)
    code = "import time; print(time.time(), time.monotonic())"
    environ = {**os.environ, **clock.environ}
    shown = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True).stdout
    wall, monotonic = map(float, shown.split())
    assert abs(wall - (time.time() - HOUR_S)) < 30
    assert abs(monotonic - time.monotonic()) < 30


async def under_load(own: Arena, jumps: Callable[[float], None], *, restart: bool) -> None:
    """Both ways and back while records flow and clients resume on either node."""
    own.populate(100)
    await own.crowd.start()
    own.feed.begin(Mix(rate=200, repeats=0.1))
    for ahead_s in (FAR_S, 0.0, -FAR_S, 0.0):
        await asyncio.sleep(1)
        jumps(ahead_s)
        await asyncio.sleep(0.5)
        for index in range(len(own.nodes)):
            await strike(Storm(own, Recoveries(), index), 1)
        if restart:
            await own.nodes[0].kill()
            await own.nodes[0].start()
    await asyncio.sleep(1)
    own.feed.stop()
    verdict = await own.verdict()
    print(verdict, dict(own.crowd.counts))
    assert verdict.ok, verdict
    await asyncio.sleep(HOUSEKEEPING_S + 1)
    for node in own.nodes:
        held = await asyncio.to_thread(node.gateway.metric, "tidings_gateway_window_bytes")
        assert held > 0, "once the clock is right again, what came since can be resumed from"


@pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])
@fast_loop
async def test_the_clock_of_a_node_jumps(cluster: ApacheKafka, tmp_path: Path, restart: bool) -> None:
    """Restarted where its clock is wrong, it has to know the ids of the last ten minutes of the broker's time."""
    clock = WallClock(compile_shim(tmp_path), tmp_path / "offset")
    async with arena(cluster, tmp_path, environ={0: clock.environ}) as own:
        await under_load(own, clock.jump_to, restart=restart)


@pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])
@fast_loop
async def test_the_clock_of_the_brokers_jumps(
    kafka_factory: Callable[..., ApacheKafka], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restart: bool
) -> None:
    """The timestamps of the log jump by two hours, forward and back."""
    clock = WallClock(compile_shim(tmp_path), tmp_path / "offset")
    with monkeypatch.context() as changed:
        for name, value in clock.environ.items():
            changed.setenv(name, value)
        cluster = kafka_factory()
    async with arena(cluster, tmp_path) as own:
        await under_load(own, clock.jump_to, restart=restart)
