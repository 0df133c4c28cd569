"""The timer wheel."""

import pytest

from tidings.gateway.timers import TimerWheel


def test_nothing_is_due_early_and_nothing_later_than_one_slot() -> None:
    wheel: TimerWheel[str] = TimerWheel(0.25, 100.0)
    wheel.enter("x", 101.1)
    assert list(wheel.due(101.1)) == []
    assert list(wheel.due(101.25)) == ["x"]
    assert list(wheel.due(200.0)) == []


def test_what_is_due_in_the_past_comes_out_at_the_next_turn() -> None:
    wheel: TimerWheel[str] = TimerWheel(0.25, 100.0)
    list(wheel.due(110.0))
    wheel.enter("late", 50.0)
    assert list(wheel.due(110.25)) == ["late"]


def test_an_item_entered_twice_comes_out_twice() -> None:
    wheel: TimerWheel[str] = TimerWheel(1.0, 0.0)
    wheel.enter("x", 1.0)
    wheel.enter("x", 3.0)
    assert list(wheel.due(2.0)) == ["x"]
    assert list(wheel.due(4.0)) == ["x"]


def test_what_is_entered_while_the_due_are_taken_waits_for_the_next_turn() -> None:
    wheel: TimerWheel[int] = TimerWheel(1.0, 0.0)
    wheel.enter(0, 0.5)
    taken = []
    for item in wheel.due(5.0):
        taken.append(item)
        wheel.enter(item + 1, 0.5)
    assert taken == [0]
    assert list(wheel.due(6.0)) == [1]


@pytest.mark.parametrize("pause_s", [10.0, 100_000.0])
def test_after_a_pause_all_comes_out_in_the_order_of_slots(pause_s: float) -> None:
    wheel: TimerWheel[int] = TimerWheel(0.25, 0.0)
    for number in (5, 1, 3, 9):
        wheel.enter(number, float(number))
    assert list(wheel.due(pause_s)) == [1, 3, 5, 9]


def test_a_clock_that_stands_still_gives_nothing_twice() -> None:
    wheel: TimerWheel[str] = TimerWheel(0.25, 0.0)
    wheel.enter("x", 1.0)
    assert list(wheel.due(2.0)) == ["x"]
    assert list(wheel.due(2.0)) == []
    assert list(wheel.due(1.0)) == []
