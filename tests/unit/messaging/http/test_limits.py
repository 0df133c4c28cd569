"""A rate for each user."""

from tidings.messaging.http.limits import Rates


def test_a_burst_is_let_through_and_then_the_rate_counts() -> None:
    rates = Rates(2, 3)
    assert [rates.wait_s("alice", 10.0) for _ in range(3)] == [0, 0, 0]
    assert rates.wait_s("alice", 10.0) == 0.5
    assert rates.wait_s("alice", 10.25) == 0.25
    assert rates.wait_s("alice", 10.5) == 0
    assert rates.wait_s("alice", 10.5) == 0.5


def test_what_is_refused_is_not_counted() -> None:
    rates = Rates(1, 1)
    assert rates.wait_s("alice", 0.0) == 0
    assert [rates.wait_s("alice", 0.5) for _ in range(100)] == [0.5] * 100
    assert rates.wait_s("alice", 1.0) == 0


def test_a_rest_saves_up_no_more_than_the_burst() -> None:
    rates = Rates(1, 2)
    assert rates.wait_s("alice", 0.0) == 0
    assert [rates.wait_s("alice", 1_000.0) for _ in range(3)] == [0, 0, 1]


def test_users_do_not_share_a_rate() -> None:
    rates = Rates(1, 1)
    assert rates.wait_s("alice", 0.0) == rates.wait_s("bob", 0.0) == 0


def test_the_number_of_remembered_users_is_bounded() -> None:
    rates = Rates(1, 1, kept=2)
    for user in ("alice", "bob", "carol"):
        assert rates.wait_s(user, 0.0) == 0
    assert len(rates) == 2
    assert rates.wait_s("carol", 0.0) > 0
    assert rates.wait_s("alice", 0.0) == 0


def test_a_rate_of_nothing_is_no_limit() -> None:
    rates = Rates(0, 1)
    assert [rates.wait_s("alice", 0.0) for _ in range(10)] == [0] * 10
    assert len(rates) == 0
