"""The waves in which connections are told to go."""

import pytest

from tidings.gateway.drain import WAVE_S, waves


@pytest.mark.parametrize("connections", [1, 2, 31, 32, 33, 1_000, 20_000])
@pytest.mark.parametrize("drain_s", [0.0, 0.1, 1.0, 10.0, 60.0])
def test_every_connection_is_in_one_wave_and_all_are_told_in_time(connections: int, drain_s: float) -> None:
    plan = waves(connections, drain_s)
    assert sum(plan) == connections
    assert (len(plan) - 1) * WAVE_S <= drain_s * 0.8
    assert max(plan) - min(plan) <= 1
    assert min(plan) >= 1


@pytest.mark.parametrize("connections", [0, -1])
def test_nobody_there_needs_no_wave(connections: int) -> None:
    assert waves(connections, 10.0) == []


def test_without_time_all_go_at_once() -> None:
    assert waves(500, 0.0) == [500]
