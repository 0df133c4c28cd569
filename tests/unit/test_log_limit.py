"""At most so many lines per key and interval, then how many there were."""

from tidings.log_limit import LogLimiter


def test_the_first_lines_pass_then_they_are_counted() -> None:
    limiter = LogLimiter(limit=2, interval_s=10)
    assert [limiter.admit("a", now) for now in (0, 1, 2, 3)] == [True, True, False, False]
    assert limiter.admit("b", 3)
    assert limiter.summaries(9.9) == []
    assert limiter.summaries(10) == [("a", 2)]
    assert limiter.summaries(20) == []


def test_a_new_interval_admits_again() -> None:
    limiter = LogLimiter(limit=1, interval_s=10)
    assert limiter.admit("a", 0)
    assert limiter.admit("a", 10)
    assert not limiter.admit("a", 11)
    assert limiter.summaries(20) == [("a", 1)]
    assert limiter.admit("a", 21)


def test_what_was_held_back_is_not_forgotten_before_it_is_told() -> None:
    limiter = LogLimiter(limit=1, interval_s=10)
    assert limiter.admit("a", 0)
    assert not limiter.admit("a", 1)
    assert not limiter.admit("a", 15)  # nobody asked for the summary yet
    assert limiter.summaries(15) == [("a", 2)]
    assert limiter.admit("a", 16)


def test_keys_are_bounded() -> None:
    limiter = LogLimiter(limit=1, interval_s=10, max_keys=3)
    assert [limiter.admit(key, 0) for key in range(6)] == [True, True, True, True, False, False]
    assert limiter.summaries(10) == [(None, 2)]
    assert limiter.admit("new", 11)
