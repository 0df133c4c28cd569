"""A few handshakes in each turn of the event loop; the loop here is a list."""

from collections.abc import Callable

import pytest

from tests.gateway_fakes import Party, request
from tidings.gateway.turnstile import Turnstile


class Loop:
    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def turn(self) -> None:
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()


def test_in_a_storm_a_few_are_done_in_each_turn_in_the_order_in_which_they_came() -> None:
    loop, done = Loop(), list[int]()
    stile = Turnstile(3, loop.call_soon)
    for number in range(8):
        stile.enter(lambda number=number: done.append(number), 1.0)  # type: ignore[misc]
    assert done == [0, 1, 2]
    assert stile.waiting == 5
    loop.turn()
    assert done == [0, 1, 2, 3, 4, 5]
    stile.enter(lambda: done.append(8), 9.0)  # later, but others wait
    loop.turn()
    assert done == list(range(9))
    assert stile.waiting == 0
    assert not loop.soon


def test_at_ease_nobody_waits() -> None:
    done = list[int]()
    stile = Turnstile(2, Loop().call_soon)
    for number in range(10):
        stile.enter(lambda number=number: done.append(number), number * 0.003)  # type: ignore[misc]
    assert done == list(range(10))


def test_one_that_fails_keeps_nobody_else_out() -> None:
    loop, done = Loop(), list[int]()
    stile = Turnstile(1, loop.call_soon)

    def fail() -> None:
        raise ValueError("a bug")

    stile.enter(lambda: done.append(1), 1.0)
    stile.enter(fail, 1.0)
    stile.enter(lambda: done.append(2), 1.0)
    with pytest.raises(ValueError, match="a bug"):
        loop.turn()
    loop.turn()
    assert done == [1, 2]


def test_who_leaves_or_times_out_before_its_turn_is_passed_over() -> None:
    party, loop = Party(handshake_timeout_s=5.0), Loop()
    party.node.turnstile = Turnstile(1, loop.call_soon)
    alice, ben, carol = (party.dial() for _ in range(3))
    for transport, name in ((alice, "alice"), (ben, "ben"), (carol, "carol")):
        transport.connection.data_received(request(token=name))
    assert party.node.turnstile.waiting == 2
    ben.lose()
    assert party.node.turnstile.waiting == 1, "who comes and goes must not fill the queue"
    assert alice.sent.startswith(b"HTTP/1.1 101 ")
    assert not carol.sent
    loop.turn()
    loop.turn()
    assert not ben.sent
    assert carol.sent.startswith(b"HTTP/1.1 101 ")
    assert sorted(member.user for member in party.node.registry) == ["alice", "carol"]
