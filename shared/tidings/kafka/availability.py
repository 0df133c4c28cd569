"""Which brokers answer, of those that a node reads from: what its readers know of it together."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Final, NamedTuple

__all__ = ["Availability", "Place"]

_RETRY_S: Final = 0.2
_RETRY_MAX_S: Final = 2.0


class Place(NamedTuple):
    """Where one reader reads."""

    broker: int
    topic: str


class Availability:
    """Told of every answer and of every one that did not come.

    Args:
        is_reachable: Tries, in bounded time, to connect a reader's place again.
    """

    def __init__(self, is_reachable: Callable[[Place], Awaitable[bool]]) -> None:
        self._is_reachable = is_reachable
        self._led: Collection[Place] = ()
        self._all_led = False
        self._silent: set[Place] = set()
        self._knocking: dict[int, asyncio.Event] = {}
        self._retry_s: dict[int, float] = {}
        self.comebacks = 0
        """How often a broker answered again after it had not, or no longer led what it did."""

    @property
    def all_answer(self) -> bool:
        """Whether every partition has a leader, and the last fetch from each was answered."""
        return self._all_led and not self._silent

    @property
    def some_silent(self) -> bool:
        """Whether the last fetch of any place was not answered, or nobody leads anything any more."""
        return bool(self._silent)

    def is_silent(self, place: Place) -> bool:
        """Whether the last fetch of that place was not answered."""
        return place in self._silent

    def note_places(self, led: Collection[Place], *, all_led: bool) -> bool:
        """Note which places there are now.

        Args:
            all_led: Whether they are all that there should be: every partition has a leader.
        Returns:
            Whether some that were silent lead nothing any more: who leads that now is another one.
        """
        if not led:
            self._silent.update(self._led)
        moved = self._silent.difference(led) if led else ()
        self._led = led
        self._all_led = all_led and bool(led)
        if not moved:
            return False
        for place in moved:
            self._retry_s.pop(place.broker, None)
        self._silent.difference_update(moved)
        self.comebacks += 1
        return True

    def failed(self, place: Place) -> bool:
        """A fetch was not answered. True: the silence begins."""
        if place in self._silent:
            return False
        self._silent.add(place)
        return True

    def answered(self, place: Place) -> bool:
        """A fetch was answered. True: for the first time after a silence."""
        if place not in self._silent or place not in self._led:
            return False
        self._silent.discard(place)
        self._retry_s.pop(place.broker, None)
        self.comebacks += 1
        return True

    async def until_reachable(self, place: Place) -> None:
        """Wait for a broker that does not answer: one of its readers knocks, the others wait for what comes of that.

        Ends when it can be connected, and when nothing is read at that place any more. It knocks after 0.2 s, then
        ever more rarely, up to every 2 s, until a fetch is answered.
        """
        if (settled := self._knocking.get(place.broker)) is not None:
            await settled.wait()
            return
        settled = self._knocking[place.broker] = asyncio.Event()
        try:
            while place in self._led:
                retry_s = self._retry_s.get(place.broker, _RETRY_S)
                self._retry_s[place.broker] = min(2 * retry_s, _RETRY_MAX_S)
                await asyncio.sleep(retry_s)
                if await self._is_reachable(place):
                    return
        finally:
            del self._knocking[place.broker]
            settled.set()
