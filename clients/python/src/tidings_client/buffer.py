"""What waits between the socket and the program, within bounds."""

import asyncio
from collections import deque
from typing import Generic, TypeVar

__all__ = ["Buffer"]

T = TypeVar("T")


class Buffer(Generic[T]):
    """A queue that asks its producer to wait while it is full.

    Args:
        max_items: It is full with so many items,
        max_bytes: or with so many bytes. One item more than that fits, however large, or nothing would ever pass.
    """

    def __init__(self, max_items: int, max_bytes: int) -> None:
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._items: deque[tuple[T, int]] = deque()
        self._arrived = asyncio.Event()
        self._taken = asyncio.Event()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def full(self) -> bool:
        """Whether nothing should be put now."""
        return len(self._items) >= self._max_items or self.bytes >= self._max_bytes

    @property
    def head(self) -> T | None:
        """The oldest item."""
        return self._items[0][0] if self._items else None

    def put(self, item: T, size: int) -> None:
        """Append; call it after `room`."""
        self._items.append((item, size))
        self.bytes += size
        self._arrived.set()

    def pop(self) -> None:
        """Drop the oldest item."""
        self.bytes -= self._items.popleft()[1]
        self._taken.set()

    def clear(self) -> None:
        """Drop everything."""
        self._items.clear()
        self.bytes = 0
        self._taken.set()

    def wake(self) -> None:
        """Let `arrival` return although nothing has come."""
        self._arrived.set()

    async def room(self) -> None:
        """Until it is not full."""
        while self.full:
            self._taken.clear()
            await self._taken.wait()

    async def arrival(self) -> None:
        """Until something was put since this was called, or `wake`."""
        self._arrived.clear()
        await self._arrived.wait()
