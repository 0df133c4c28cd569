"""Does at once what was asked for at the same time."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Final, Generic, TypeVar

from tidings.errors import DatabaseUnavailable
from tidings.metrics import Metrics

__all__ = ["MAX_BATCHES", "MAX_ITEMS", "MAX_WAITING_ITEMS", "Gatherer"]

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

MAX_ITEMS: Final = 32
MAX_BATCHES: Final = 2
MAX_WAITING_ITEMS: Final = 2_000


class Gatherer(Generic[Item, Outcome]):
    """What comes while a batch is under way makes the next one: no item waits for company, and under load one
    transaction serves many. Event loop thread only.

    Args:
        do: Does a batch and returns the outcomes in its order; what it raises, all of the batch get.
        key: Items of one key are never done at the same time, and are done in the order in which they came.
        max_items: In a batch.
        max_batches: At the same time.
        max_waiting_items: Items beyond that are refused.
    """

    def __init__(
        self,
        do: Callable[[Sequence[Item]], Awaitable[Sequence[Outcome]]],
        key: Callable[[Item], Hashable],
        metrics: Metrics,
        *,
        max_items: int = MAX_ITEMS,
        max_batches: int = MAX_BATCHES,
        max_waiting_items: int = MAX_WAITING_ITEMS,
    ) -> None:
        self._do = do
        self._key = key
        self._max_items = max_items
        self._free_batches = max_batches
        self._max_waiting_items = max_waiting_items
        self._lines: dict[Hashable, deque[tuple[Item, asyncio.Future[Outcome]]]] = {}
        """Those who wait, by key; also of each key that is under way, with nobody in it perhaps."""
        self._ready: deque[Hashable] = deque()
        """Keys with somebody who waits and nobody under way, in the order in which they came to be so."""
        self._waiting_items = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._batches = metrics.counter("tidings_messaging_batches_total")
        self._items = metrics.counter("tidings_messaging_batched_total")
        metrics.on_scrape("tidings_messaging_batch_waiting", lambda: self._waiting_items)

    async def __call__(self, item: Item) -> Outcome:
        """Have it done.

        Raises:
            DatabaseUnavailable: Too many wait already, or the database failed those before.
            Exception: What `do` raised.
        Cost: constant, besides the batch's own.
        """
        if self._waiting_items >= self._max_waiting_items:
            raise DatabaseUnavailable(f"{self._waiting_items} wait to be written already")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()
        key = self._key(item)
        if key not in self._lines:
            self._lines[key] = deque()
            self._ready.append(key)
        self._lines[key].append((item, future))
        self._waiting_items += 1
        # Not at once: what this turn of the loop still brings goes along.
        loop.call_soon(self._start)
        return await future

    def _start(self) -> None:
        while self._free_batches and (batch := self._next()):
            self._free_batches -= 1
            task = asyncio.create_task(self._run(batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _next(self) -> list[tuple[Item, "asyncio.Future[Outcome]"]]:
        batch: list[tuple[Item, asyncio.Future[Outcome]]] = []
        while self._ready and len(batch) < self._max_items:
            key = self._ready.popleft()
            line = self._lines[key]
            while line:
                item, future = line.popleft()
                self._waiting_items -= 1
                if not future.done():  # else whoever asked has gone
                    batch.append((item, future))
                    break
            else:
                del self._lines[key]
        return batch

    async def _run(self, batch: list[tuple[Item, "asyncio.Future[Outcome]"]]) -> None:
        items = [item for item, _ in batch]
        try:
            outcomes = await self._do(items)
        except Exception as error:
            self._fail(batch, error)
            if isinstance(error, DatabaseUnavailable):  # nobody waits for the same answer again
                for line in self._lines.values():
                    self._waiting_items -= len(line)
                    self._fail(line, error)
                    line.clear()
        else:
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                if not future.done():
                    future.set_result(outcome)
        finally:
            self._batches.inc()
            self._items.inc(len(items))
            for key in map(self._key, items):
                if self._lines[key]:
                    self._ready.append(key)
                else:
                    del self._lines[key]
            self._free_batches += 1
            self._start()

    @staticmethod
    def _fail(those: "Sequence[tuple[Item, asyncio.Future[Outcome]]]", error: Exception) -> None:
        for _, future in those:
            if not future.done():
                future.set_exception(error)
