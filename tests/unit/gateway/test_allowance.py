"""Rates: what is saved up, what comes back, and how a storm is spread."""

import pytest

from tidings.gateway.allowance import Allowance, Allowances, Storm


def test_a_burst_then_a_rate() -> None:
    allowance = Allowance(rate=2, burst=5, now=0)
    assert [allowance.take(1, 0) for _ in range(6)] == [True] * 5 + [False]
    assert allowance.wait_s(1, 0) == pytest.approx(0.5)
    assert not allowance.take(1, 0.4)
    assert allowance.take(1, 0.5)
    assert allowance.left(100) == 5


def test_what_was_spent_already_is_owed() -> None:
    allowance = Allowance(rate=10, burst=100, now=0)
    allowance.spend(150, 0)
    assert allowance.left(4) == pytest.approx(-10)
    assert allowance.left(6) == pytest.approx(10)


def test_a_clock_that_stands_gives_nothing() -> None:
    allowance = Allowance(rate=1, burst=1, now=10)
    allowance.take(1, 10)
    assert not allowance.take(1, 9)
    assert not allowance.take(1, 10)


def test_each_key_has_its_own_and_a_bounded_number_is_known() -> None:
    allowances = Allowances(rate=1, burst=1, limit=10)
    assert allowances.of("a", 0).take(1, 0)
    assert not allowances.of("a", 0).take(1, 0)
    assert allowances.of("b", 0).take(1, 0)
    for number in range(100):
        allowances.of(number, 0)
    assert len(allowances) == 10
    assert allowances.of("a", 0).take(1, 0), "the one not asked for longest is forgotten"


def test_a_storm_comes_in_at_the_rate_and_the_rest_is_spread_over_the_time_it_needs() -> None:
    storm = Storm(rate=100, now=0)
    answers = [storm.admit(0.0) for _ in range(600)]
    assert answers.count(None) == 100
    spreads = [spread for spread in answers if spread is not None]
    assert spreads == sorted(spreads)
    assert spreads[-1] == pytest.approx(5.0), "500 were turned away, 100 fit into each second"
    later = storm.admit(5.0)
    assert later is None
