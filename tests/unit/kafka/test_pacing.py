"""How long a broker is left alone between two fetches."""

import pytest

from tidings.kafka.pacing import CREDIT_S, EASY_S, Load, Pacer


def after(pacer: Pacer, share: float, *, seconds: float, start: float = 0.0, round_s: float = 0.01) -> float:
    """The pause after some time of rounds that fill that share of it."""
    pause = 0.0
    for number in range(1, round(seconds / round_s) + 1):
        pause = pacer.pause_s(share * round_s, start + number * round_s)
    return pause


def test_on_a_node_at_ease_no_record_waits_while_rounds_are_rare() -> None:
    pacer = Pacer(0.01, Load(0.0), 0.0)
    assert after(pacer, 0.2, seconds=5) == 0.0
    for number in range(int(CREDIT_S / EASY_S) - 1):  # a burst of rounds, one right behind the other
        assert pacer.pause_s(0.0, 5.0) == 0.0, number


def test_a_node_at_ease_asks_no_more_often_on_average_than_agreed_on() -> None:
    pacer = Pacer(0.01, Load(0.0), 0.0)
    now, rounds = 0.0, 0
    while now < 10.0:
        rounds += 1
        now += 0.0002
        now += pacer.pause_s(0.0001, now)
    assert rounds <= 10.0 / EASY_S + CREDIT_S / EASY_S + 1
    assert rounds >= 10.0 / EASY_S * 0.99


def test_a_busy_node_waits_up_to_the_limit_and_stays_busy_while_the_pause_helps() -> None:
    pacer = Pacer(0.01, Load(0.0), 0.0)
    assert after(pacer, 0.6, seconds=3) == pytest.approx(0.01 - 0.006)
    assert after(pacer, 0.4, seconds=3, start=3.0) == pytest.approx(0.01 - 0.004)
    assert after(pacer, 0.1, seconds=3, start=6.0) == 0.0


def test_a_short_burst_changes_nothing() -> None:
    load = Load(0.0)
    pacer = Pacer(0.01, load, 0.0)
    after(pacer, 0.1, seconds=2)
    after(pacer, 0.9, seconds=0.1, start=2.0)
    assert not load.busy


def test_a_node_is_busy_by_what_all_its_readers_do_together() -> None:
    load = Load(0.0)
    readers = [Pacer(0.01, load, 0.0) for _ in range(3)]  # as of three brokers that lead a third each
    pauses = [0.0, 0.0, 0.0]
    for number in range(1, 301):
        for index, reader in enumerate(readers):
            pauses[index] = reader.pause_s(0.002, number * 0.01 + index * 0.003)
    assert load.busy
    assert pauses == pytest.approx([0.008] * 3)
    silent = Pacer(0.01, load, 3.0)
    assert silent.pause_s(0.0, 3.01) == pytest.approx(0.01), "of a topic with next to nothing in it"


@pytest.mark.parametrize("limit_s", [0.0, EASY_S / 2])
def test_a_limit_below_the_least_pause_is_the_pause(limit_s: float) -> None:
    load = Load(0.0)
    pacer = Pacer(limit_s, load, 0.0)
    now = pause = 0.0
    for _ in range(200):
        pause = pacer.pause_s(0.0, now)
        now += pause
    assert pause == pytest.approx(limit_s)
    after(pacer, 0.9, seconds=3, start=now)
    assert load.busy
    assert pacer.pause_s(1.0, now + 10.0) == 0.0
