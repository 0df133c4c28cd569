"""How long a broker is left alone between two fetches."""

import pytest

from tidings.kafka.pacing import EASY_S, pause_s


@pytest.mark.parametrize(
    ("work_s", "limit_s", "pause"),
    [(0.0, 0.02, EASY_S), (0.0005, 0.02, EASY_S), (0.004, 0.02, 0.012), (0.02, 0.02, 0.02), (1.0, 0.005, 0.005)],
)
def test_a_node_at_ease_asks_soon_and_a_busy_one_waits_up_to_the_limit(
    work_s: float, limit_s: float, pause: float
) -> None:
    assert pause_s(work_s, limit_s) == pytest.approx(pause)


@pytest.mark.parametrize("limit_s", [0.0, EASY_S / 2])
def test_a_limit_below_the_least_pause_is_the_pause(limit_s: float) -> None:
    assert pause_s(0.0, limit_s) == limit_s
    assert pause_s(1.0, limit_s) == limit_s
