"""Unsent frames of one connection: order, bytes, and when they are too many."""

import pytest

from tidings.gateway.backlog import Backlog, Verdict


def backlog(limit_bytes: int = 100, slow_bytes: int = 50, slow_after_s: float = 5.0) -> Backlog:
    return Backlog(limit_bytes, slow_bytes, slow_after_s, now=0.0)


def test_frames_leave_in_push_order_and_are_the_same_objects() -> None:
    waiting = backlog()
    frames = [bytes([number]) * 10 for number in range(5)]
    for frame in frames:
        assert waiting.push(frame, 0) is Verdict.KEEP
    taken = waiting.take(25) + waiting.take(1000)
    assert all(one is other for one, other in zip(taken, frames, strict=True))


def test_take_gives_what_fits_but_at_least_one() -> None:
    waiting = backlog()
    for _ in range(3):
        waiting.push(b"x" * 10, 0)
    assert len(waiting.take(1)) == 1
    assert len(waiting.take(19)) == 1
    assert (len(waiting), waiting.bytes) == (1, 10)
    assert len(waiting.take(10)) == 1
    assert waiting.take(10) == []
    assert waiting.bytes == 0


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_UNSENT_BYTES")
def test_one_byte_over_the_limit_is_too_slow_and_the_transports_bytes_count() -> None:
    waiting = backlog(limit_bytes=100)
    assert waiting.push(b"x" * 60, 40) is Verdict.KEEP
    assert waiting.push(b"x", 40) is Verdict.CLOSE_SLOW
    assert backlog(limit_bytes=0).push(b"x" * 1000, 0) is Verdict.KEEP


@pytest.mark.limit("TIDINGS_GATEWAY_SLOW_UNSENT_BYTES")
@pytest.mark.limit("TIDINGS_GATEWAY_SLOW_AFTER_S")
def test_over_the_lower_limit_only_standing_still_is_too_slow() -> None:
    waiting = backlog(slow_bytes=50, slow_after_s=5.0)
    waiting.push(b"x" * 41, 10)
    assert waiting.check(4.9, 10) is Verdict.KEEP
    assert waiting.check(5.0, 10) is Verdict.CLOSE_SLOW
    waiting.progressed(5.0)
    assert waiting.check(9.9, 10) is Verdict.KEEP
    assert waiting.check(10.0, 10) is Verdict.CLOSE_SLOW


def test_a_transport_that_holds_less_than_before_is_progress() -> None:
    waiting = backlog(slow_bytes=50)
    waiting.push(b"x" * 60, 0)
    waiting.check(4.0, 30)
    assert waiting.check(6.0, 29) is Verdict.KEEP
    assert waiting.check(10.9, 29) is Verdict.KEEP
    assert waiting.check(11.0, 29) is Verdict.CLOSE_SLOW


def test_a_little_unsent_may_stand_for_ever() -> None:
    waiting = backlog(slow_bytes=50)
    waiting.push(b"x" * 50, 0)
    assert waiting.check(1e9, 0) is Verdict.KEEP
    unlimited = backlog(limit_bytes=0, slow_bytes=0)
    unlimited.push(b"x" * 1000, 0)
    assert unlimited.check(1e9, 0) is Verdict.KEEP
