"""A connection's life by the clock."""

import math
from itertools import pairwise

import pytest

from tidings.closing import CloseCode
from tidings.gateway.session import Due, Session, SessionLimits

LIMITS = SessionLimits(ping_interval_s=25.0, idle_timeout_s=75.0, frames_per_s=2.0, frames_burst=5)


def session(number: int = 0, expires_at: float | None = None) -> Session:
    return Session(number, "alice", expires_at, 0.0, LIMITS)


def test_pings_come_every_interval() -> None:
    one = session()
    times = []
    for _ in range(3):
        one.on_bytes(one.due_at)
        times.append(one.due_at)
        assert one.on_due(one.due_at, LIMITS) is Due.PING
    assert times == [25.0, 50.0, 75.0]


def test_first_pings_of_sessions_begun_together_are_spread() -> None:
    due = sorted(session(number).due_at for number in range(1000))
    assert due[0] >= 12.5
    assert due[-1] <= 25.0
    assert max(later - sooner for sooner, later in pairwise(due)) < 0.05


def test_asked_too_early_it_does_nothing() -> None:
    one = session()
    assert one.on_due(24.9, LIMITS) is Due.NOTHING
    assert one.due_at == 25.0


@pytest.mark.limit("TIDINGS_GATEWAY_IDLE_TIMEOUT_S")
def test_silence_is_4011_at_the_first_ping_after_the_timeout() -> None:
    one = session()
    one.on_bytes(1.0)
    verdicts = [one.on_due(one.due_at, LIMITS) for _ in range(4)]
    assert verdicts == [Due.PING, Due.PING, Due.PING, CloseCode.IDLE]
    never = SessionLimits(25.0, 0, 2.0, 5)
    one = session()
    assert {one.on_due(one.due_at, never) for _ in range(100)} == {Due.PING}


def test_a_sign_of_life_keeps_it_open() -> None:
    one = session()
    for _ in range(100):
        one.on_bytes(one.due_at - 60)
        assert one.on_due(one.due_at, LIMITS) is Due.PING


def test_the_tokens_end_is_4001_to_the_moment() -> None:
    one = session(expires_at=10.0)
    assert one.due_at == 10.0
    assert one.on_due(9.99, LIMITS) is Due.NOTHING
    assert one.on_due(10.0, LIMITS) is CloseCode.TOKEN_ENDED


def test_a_renewed_token_moves_the_end_both_ways() -> None:
    one = session(expires_at=10.0)
    one.renew(100.0)
    assert one.due_at == 25.0
    assert one.on_due(10.0, LIMITS) is Due.NOTHING
    one.renew(12.0)
    assert one.due_at == 12.0
    assert one.on_due(12.0, LIMITS) is CloseCode.TOKEN_ENDED


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_CLIENT_FRAMES_PER_S")
@pytest.mark.limit("TIDINGS_GATEWAY_MAX_CLIENT_FRAMES_BURST")
def test_a_burst_is_allowed_then_the_rate_counts() -> None:
    one = session()
    assert one.may_send(0.0, LIMITS) == 5
    one.sent(5)
    assert one.may_send(0.4, LIMITS) < 1
    assert one.may_send(0.5, LIMITS) == 1
    slow = session()
    for number in range(100):
        assert slow.may_send(number / 2, LIMITS) >= 1
        slow.sent(1)


def test_an_allowance_saved_up_is_never_more_than_the_burst() -> None:
    one = session()
    assert one.may_send(1e6, LIMITS) == 5
    unlimited = SessionLimits(25.0, 75.0, 0, 1)
    assert one.may_send(1e6, unlimited) == math.inf
