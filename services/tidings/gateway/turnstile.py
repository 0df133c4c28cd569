"""Handshakes in a storm: a few in each turn of the event loop, so that live records pass between them."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

__all__ = ["PER_TURN", "Turnstile"]

PER_TURN: Final = 2
"""Half a millisecond of work. A record comes through in some five turns, and waits for them in each."""
_AT_EASE_S: Final = 0.005


def _call_soon(callback: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(callback)


class Turnstile:
    """Does work at once while there is little of it, and else in the order in which it came, turn by turn. It limits
    how long the loop is held up, not how much is done in a second.

    Args:
        per_turn: So many in one turn of the loop, and in 5 ms that began with none waiting.
        call_soon: As the event loop's.
    """

    def __init__(self, per_turn: int = PER_TURN, call_soon: Callable[[Callable[[], None]], None] = _call_soon) -> None:
        self._per_turn = per_turn
        self._call_soon = call_soon
        self._waiting: OrderedDict[Callable[[], None], None] = OrderedDict()
        self._since = 0.0
        self._done = 0
        self._scheduled = False

    @property
    def waiting(self) -> int:
        """How many wait for a turn: some of the handshakes under way, which the node limits."""
        return len(self._waiting)

    def enter(self, work: Callable[[], None], now: float) -> None:
        """Do it, now or in one of the next turns of the loop.

        Args:
            now: Seconds, any clock that never goes back.
        Cost: constant, besides the work.
        """
        if self._waiting:
            self._waiting[work] = None
            return
        if now - self._since >= _AT_EASE_S:
            self._since, self._done = now, 0
        if self._done < self._per_turn:
            self._done += 1
            work()
        else:
            self._waiting[work] = None
            self._schedule()

    def leave(self, work: Callable[[], None]) -> None:
        """It need not be done any more; harmless if it was done or never came. Cost: constant."""
        self._waiting.pop(work, None)

    def _schedule(self) -> None:
        if self._waiting and not self._scheduled:
            self._scheduled = True
            self._call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        try:
            for _ in range(min(self._per_turn, len(self._waiting))):
                work, _none = self._waiting.popitem(last=False)
                work()
        finally:  # one that fails keeps nobody else out
            self._schedule()
