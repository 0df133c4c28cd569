"""What comes while a batch is under way makes the next one."""

import asyncio
from collections.abc import Sequence

import pytest

from tidings.errors import DatabaseUnavailable
from tidings.messaging.commands.gathering import MAX_ITEMS, MAX_WAITING_ITEMS, Gatherer
from tidings.metrics import Metrics


class Work:
    """Batches that end when they are let go; items are (key, number), answered with their number."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[str, int]]] = []
        self.ends: list[asyncio.Future[None]] = []
        self.metrics = Metrics()

    async def __call__(self, items: Sequence[tuple[str, int]]) -> list[int]:
        self.batches.append(list(items))
        self.ends.append(asyncio.get_running_loop().create_future())
        await self.ends[-1]
        return [number for _, number in items]

    def gatherer(self, **limits: int) -> "Gatherer[tuple[str, int], int]":
        return Gatherer(self, lambda item: item[0], self.metrics, **limits)

    def end(self, error: Exception | None = None) -> None:
        """Let the oldest batch end."""
        end = self.ends.pop(0)
        if error is None:
            end.set_result(None)
        else:
            end.set_exception(error)


async def ask(gatherer: "Gatherer[tuple[str, int], int]", *items: tuple[str, int]) -> "list[asyncio.Task[int]]":
    tasks = [asyncio.create_task(gatherer(item)) for item in items]
    await turns()
    return tasks


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_comes_together_is_done_together_and_each_gets_its_own_outcome() -> None:
    work = Work()
    asked = await ask(work.gatherer(), ("a", 1), ("b", 2), ("c", 3))
    assert work.batches == [[("a", 1), ("b", 2), ("c", 3)]]
    work.end()
    assert await asyncio.gather(*asked) == [1, 2, 3]
    assert work.metrics.value("tidings_messaging_batches_total") == 1
    assert work.metrics.value("tidings_messaging_batched_total") == 3


async def test_a_lone_item_waits_for_nobody() -> None:
    work = Work()
    (first,) = await ask(work.gatherer(), ("a", 1))
    assert work.batches == [[("a", 1)]]
    work.end()
    assert await first == 1


async def test_what_comes_while_all_batches_are_under_way_makes_the_next_one() -> None:
    work = Work()
    gatherer = work.gatherer(max_batches=2)
    asked = [*await ask(gatherer, ("a", 1)), *await ask(gatherer, ("b", 2))]
    asked += await ask(gatherer, ("c", 3))
    asked += await ask(gatherer, ("d", 4), ("e", 5))
    assert len(work.batches) == 2
    assert work.metrics.value("tidings_messaging_batch_waiting") == 3
    work.end()
    await turns()
    assert work.batches[2:] == [[("c", 3), ("d", 4), ("e", 5)]]
    work.end()
    work.end()
    assert await asyncio.gather(*asked) == [1, 2, 3, 4, 5]


async def test_of_one_key_one_is_under_way_at_a_time_and_they_keep_their_order() -> None:
    work = Work()
    gatherer = work.gatherer()
    asked = await ask(gatherer, ("a", 1), ("a", 2), ("b", 3), ("a", 4))
    assert work.batches == [[("a", 1), ("b", 3)]]
    asked += await ask(gatherer, ("b", 5), ("c", 6))
    assert work.batches[1:] == [[("c", 6)]], "others pass those that wait for their key"
    work.end()
    await turns()
    assert work.batches[2:] == [[("a", 2), ("b", 5)]]
    work.end()
    work.end()
    await turns()
    assert work.batches[3:] == [[("a", 4)]]
    work.end()
    assert await asyncio.gather(*asked) == [1, 2, 3, 4, 5, 6]


async def test_a_batch_has_no_more_than_its_limit() -> None:
    work = Work()
    await ask(work.gatherer(max_batches=1), *((str(number), number) for number in range(MAX_ITEMS + 1)))
    assert [len(batch) for batch in work.batches] == [MAX_ITEMS]
    work.end()
    await turns()
    assert [len(batch) for batch in work.batches] == [MAX_ITEMS, 1]
    work.end()
    await turns()


async def test_beyond_its_limit_nobody_may_wait_and_those_who_wait_are_done() -> None:
    work = Work()
    gatherer = work.gatherer(max_batches=1)
    first = await ask(gatherer, ("first", 0))
    waiting = await ask(gatherer, *((str(number), number) for number in range(MAX_WAITING_ITEMS)))
    assert work.metrics.value("tidings_messaging_batch_waiting") == MAX_WAITING_ITEMS
    with pytest.raises(DatabaseUnavailable):
        async with asyncio.timeout(5):
            await gatherer(("late", 1))
    while work.ends:
        work.end()
        await turns()
    assert await asyncio.gather(*first, *waiting) == [0, *range(MAX_WAITING_ITEMS)]


async def test_what_a_batch_raises_all_of_it_get_and_the_others_go_on() -> None:
    work = Work()
    gatherer = work.gatherer(max_batches=1)
    failed = await ask(gatherer, ("a", 1), ("b", 2))
    later = await ask(gatherer, ("a", 3))
    work.end(RuntimeError("broken"))
    await turns()
    assert [str(task.exception()) for task in failed] == ["broken", "broken"]
    work.end()
    assert await asyncio.gather(*later) == [3]


async def test_without_a_database_those_who_wait_are_told_at_once() -> None:
    """Each batch on its own would wait for a connection, one after the other."""
    work = Work()
    gatherer = work.gatherer(max_batches=1)
    asked = [*await ask(gatherer, ("a", 1)), *await ask(gatherer, ("b", 2), ("c", 3))]
    work.end(DatabaseUnavailable("away"))
    await turns()
    assert [type(task.exception()) for task in asked] == [DatabaseUnavailable] * 3
    assert len(work.batches) == 1
    asked = await ask(gatherer, ("a", 4))
    work.end()
    assert await asyncio.gather(*asked) == [4]


async def test_who_has_gone_before_its_turn_is_not_done_and_after_it_harms_nobody() -> None:
    work = Work()
    gatherer = work.gatherer(max_batches=1)
    under_way, other = await ask(gatherer, ("a", 1), ("b", 2))
    waiting = await ask(gatherer, ("c", 3), ("d", 4))
    under_way.cancel()
    waiting[0].cancel()
    work.end()
    await turns()
    assert await other == 2
    assert work.batches[1:] == [[("d", 4)]]
    work.end()
    assert await waiting[1] == 4
