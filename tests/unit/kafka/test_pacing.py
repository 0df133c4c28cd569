"""How long a broker is left alone between two fetches."""

import pytest

from tidings.kafka.pacing import EASY_S, Pacer


def after(pacer: Pacer, share: float, *, seconds: float, start: float = 0.0, round_s: float = 0.01) -> float:
    """The pause after some time of rounds that fill that share of it."""
    pause = 0.0
    for number in range(1, round(seconds / round_s) + 1):
        pause = pacer.pause_s(share * round_s, start + number * round_s)
    return pause + share * round_s


def test_a_node_at_ease_asks_soon() -> None:
    assert after(Pacer(0.01, 0.0), 0.2, seconds=5) == pytest.approx(EASY_S)


def test_a_busy_node_waits_up_to_the_limit_and_stays_busy_while_the_pause_helps() -> None:
    pacer = Pacer(0.01, 0.0)
    assert after(pacer, 0.5, seconds=3) == pytest.approx(0.01)
    assert after(pacer, 0.3, seconds=3, start=3.0) == pytest.approx(0.01)
    assert after(pacer, 0.1, seconds=3, start=6.0) == pytest.approx(EASY_S)


def test_a_short_burst_changes_nothing() -> None:
    pacer = Pacer(0.01, 0.0)
    after(pacer, 0.1, seconds=2)
    assert after(pacer, 0.9, seconds=0.1, start=2.0) == pytest.approx(max(EASY_S, 0.009))
    assert not pacer.busy


@pytest.mark.parametrize("limit_s", [0.0, EASY_S / 2])
def test_a_limit_below_the_least_pause_is_the_pause(limit_s: float) -> None:
    pacer = Pacer(limit_s, 0.0)
    assert pacer.pause_s(0.0, 1.0) == limit_s
    assert pacer.pause_s(1.0, 2.0) == 0.0
