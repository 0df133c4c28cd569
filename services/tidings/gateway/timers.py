"""One timer wheel for all connections: no handle, no heap entry and no task per connection."""

from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["TimerWheel"]

T = TypeVar("T")


class TimerWheel(Generic[T]):
    """Things that are due at some time, found by the slot of time they fall into.

    An item may be entered again before it was due; the owner recognises an entry that no longer holds (the wheel never
    removes one early). Cost: constant per entry, and per turn only the slots that passed.

    Args:
        slot_s: Width of a slot in seconds: an item comes out at most this much late, never early.
        now: Seconds, any clock that never goes back.
    """

    __slots__ = ("_next_slot", "_slot_s", "_slots")

    def __init__(self, slot_s: float, now: float) -> None:
        self._slot_s = slot_s
        self._slots: dict[int, list[T]] = {}
        self._next_slot = int(now / slot_s)

    def enter(self, item: T, due_at: float) -> None:
        """Have `item` come out of `due` at or shortly after `due_at`."""
        slot = max(int(due_at / self._slot_s) + 1, self._next_slot)
        entries = self._slots.get(slot)
        if entries is None:
            self._slots[slot] = [item]
        else:
            entries.append(item)

    def due(self, now: float) -> Iterator[T]:
        """All that fell due since the last call. Items entered meanwhile are left for the next one."""
        last_slot = int(now / self._slot_s)
        first_slot, self._next_slot = self._next_slot, max(self._next_slot, last_slot + 1)
        if last_slot - first_slot >= len(self._slots):  # after a long pause: fewer slots in use than time has passed
            passed = sorted(slot for slot in self._slots if slot <= last_slot)
        else:
            passed = list(range(first_slot, last_slot + 1))
        for slot in passed:
            yield from self._slots.pop(slot, ())
