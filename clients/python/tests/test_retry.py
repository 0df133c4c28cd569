"""When the client comes back, and when it does not: without a clock, a socket or chance."""

import pytest

from tidings_client import Backoff, Disconnected, ProtocolViolation, Refused, TokenRefused
from tidings_client.retry import Retries, Retry, Silence

BACKOFF = Backoff(first_s=1, longest_s=30, steady_s=10, policy_s=60, retry_after_s=120)


def retries(*, can_renew: bool = True, chance: float = 1.0) -> Retries:
    return Retries(BACKOFF, can_renew=can_renew, random=lambda: chance)


def test_waits_double_up_to_the_longest_and_never_overflow() -> None:
    r = retries()
    assert [r.failed().delay_s for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    assert BACKOFF.wait_s(100_000, 1.0) == 30


def test_the_whole_wait_is_jittered() -> None:
    assert BACKOFF.wait_s(3, 0.0) == 0
    assert BACKOFF.wait_s(3, 0.25) == 2


def test_a_connection_that_held_makes_the_count_begin_anew() -> None:
    r = retries()
    for _ in range(4):
        r.failed()
    r.welcomed(100)
    assert r.closed(None, "", 110) == Retry(1)


def test_a_connection_that_did_not_hold_does_not() -> None:
    r = retries()
    for _ in range(4):
        r.failed()
    r.welcomed(100)
    assert r.closed(None, "", 109) == Retry(16)


@pytest.mark.parametrize("code", [1001, 4008, 4011])
def test_an_orderly_end_means_at_once_but_not_again_and_again(code: int) -> None:
    r = retries()
    r.welcomed(0)
    assert r.closed(code, "", 1) == Retry(0)
    r.welcomed(2)
    assert r.closed(code, "", 3) == Retry(2)
    r.welcomed(4)
    assert r.closed(code, "", 14) == Retry(0)


def test_a_drain_is_waited_for_as_told_and_even_if_the_node_dies_before_it_closes() -> None:
    for code in (1001, None, 1005):
        r = retries()
        r.welcomed(0)
        r.draining(2.5)
        assert r.closed(code, "", 20) == Retry(2.5)
        r.welcomed(30)
        assert r.closed(1001, "", 50) == Retry(0), "the word of the node before does not count any more"


def test_a_drain_is_waited_for_by_a_connection_that_came_to_nothing_and_by_no_later_one() -> None:
    r = retries()
    r.draining(2.5)
    assert r.failed() == Retry(2.5)
    r.welcomed(0)
    assert r.closed(None, "", 20) == Retry(1), "not an orderly end"


def test_a_drain_that_would_last_for_ever_is_bounded() -> None:
    r = retries()
    r.welcomed(0)
    r.draining(1e9)
    assert r.closed(1001, "", 20) == Retry(120)


def test_4001_asks_for_a_new_token_first() -> None:
    r = retries()
    r.welcomed(0)
    assert r.closed(4001, "", 20) == Retry(0, new_token=True)


def test_4001_stops_a_client_that_has_only_one_token() -> None:
    with pytest.raises(TokenRefused):
        retries(can_renew=False).closed(4001, "", 0)


def test_4002_stops_with_the_operators_reason() -> None:
    with pytest.raises(Disconnected, match="maintenance"):
        retries().closed(4002, "maintenance", 0)


@pytest.mark.parametrize("code", [1002, 1003, 1007])
def test_a_client_that_has_to_be_mended_does_not_come_back(code: int) -> None:
    with pytest.raises(ProtocolViolation, match=str(code)):
        retries().closed(code, "", 0)


@pytest.mark.parametrize("code", [1008, 1009])
def test_after_a_broken_limit_the_client_comes_back_slowly(code: int) -> None:
    assert retries(chance=0).closed(code, "", 0) == Retry(60)
    assert retries(chance=1).closed(code, "", 0) == Retry(90)


@pytest.mark.parametrize("code", [None, 1000, 1005, 1011, 1012, 4099])
def test_any_other_end_means_backoff(code: int | None) -> None:
    assert retries().closed(code, "", 0) == Retry(1)


def test_401_is_answered_with_one_new_token_then_it_stops() -> None:
    r = retries()
    assert r.refused(401, "invalid_token", "", None) == Retry(0, new_token=True)
    with pytest.raises(TokenRefused) as caught:
        r.refused(401, "invalid_token", "it is wrong", None)
    assert caught.value.status == 401
    assert caught.value.error == "invalid_token"


def test_after_a_welcome_a_new_token_may_be_tried_again() -> None:
    r = retries()
    r.refused(401, "", "", None)
    r.welcomed(0)
    assert r.refused(401, "", "", None).new_token


def test_401_stops_a_client_that_has_only_one_token() -> None:
    with pytest.raises(TokenRefused):
        retries(can_renew=False).refused(401, "", "", None)


@pytest.mark.parametrize("status", [200, 301, 400, 403, 404, 426, 431])
def test_what_will_not_change_by_waiting_stops(status: int) -> None:
    with pytest.raises(Refused) as caught:
        retries().refused(status, "e", "r", None)
    assert not isinstance(caught.value, TokenRefused)


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_obeyed_and_bounded(status: int) -> None:
    assert retries().refused(status, "", "", 7) == Retry(7)
    assert retries().refused(status, "", "", 86_400) == Retry(120)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_without_retry_after_a_busy_gateway_means_backoff(status: int) -> None:
    r = retries()
    assert [r.refused(status, "", "", wait).delay_s for wait in (None, 0)] == [1, 2]


def test_silence_is_first_asked_about_then_deadly() -> None:
    silence = Silence(margin_s=2)
    silence.told(10)
    assert silence.look(now=105, heard_at=100, asked_at=0) == 6
    assert silence.look(now=111, heard_at=100, asked_at=0) == "ping"
    assert silence.look(now=112, heard_at=100, asked_at=111) == 10
    assert silence.look(now=122, heard_at=100, asked_at=111) == "dead"
    assert silence.look(now=122, heard_at=121, asked_at=111) == 10


def test_a_gateway_that_does_not_ping_is_asked_all_the_same() -> None:
    silence = Silence(margin_s=2)
    silence.told(0)
    assert silence.look(now=126, heard_at=100, asked_at=0) == "ping"
