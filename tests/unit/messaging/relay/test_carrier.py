"""The loop that carries shards to Kafka, with an outbox in memory and a Kafka that does what it is told."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from tidings.errors import DatabaseUnavailable
from tidings.messaging.relay.carrier import Batching, Carrier
from tidings.messaging.relay.producing import ProduceFailed
from tidings.messaging.relay.rows import Row
from tidings.metrics import Metrics

GATHER_S = 0.05


class Outbox:
    """Rows of shards, each with its number as id."""

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}
        self.deleted: list[int] = []
        self._next = 1

    def add(self, shard: int, count: int = 1) -> list[int]:
        ids = list(range(self._next, self._next + count))
        self._next += count
        self.rows.update((id_, Row(id_, shard, "chat", f"event-{id_}", b"{}")) for id_ in ids)
        return ids

    async def advance(self, done: Sequence[int], shards: Sequence[int], *, limit: int, limit_bytes: int) -> list[Row]:
        assert limit_bytes > 0
        await self.delete(done)
        return [row for _, row in sorted(self.rows.items()) if row.shard in shards][:limit]

    async def delete(self, ids: Sequence[int]) -> None:
        await asyncio.sleep(0)
        self.deleted += ids
        for id_ in ids:
            self.rows.pop(id_, None)

    def close(self) -> None: ...


class Kafka:
    """What was committed, by transaction, and what is to go wrong."""

    def __init__(self) -> None:
        self.committed: list[list[int]] = []
        self.begun_s: list[float] = []
        self.opened = 0
        self.closed = 0
        self.refuses: Callable[[Row], bool] = lambda row: False
        self.fails_commits = 0
        self.hold: asyncio.Event | None = None
        self._rows: list[Row] = []

    async def open(self) -> None:
        self.opened += 1

    async def send(self, rows: list[Row]) -> None:
        self.begun_s.append(asyncio.get_running_loop().time())
        self._rows = list(rows)

    async def commit(self) -> None:
        if self.hold is not None:
            await self.hold.wait()
        if any(map(self.refuses, self._rows)):
            raise ProduceFailed("refused", "too big")
        if self.fails_commits:
            self.fails_commits -= 1
            raise ProduceFailed("kafka", "away")
        self.committed.append([row.id for row in self._rows])

    def close(self) -> None:
        self.closed += 1


class Rig:
    def __init__(self, **batching: float) -> None:
        self.outbox, self.kafka, self.metrics = Outbox(), Kafka(), Metrics()
        self.freed = 0
        self.would_be_repeated: set[int] = set()
        """What was in Kafka and still in the outbox when a shard was given free."""
        self.lost = False
        self.carrier = Carrier(
            self.outbox,
            lambda: self.kafka,
            self._verify,
            self._free,
            self.metrics,
            Batching(**{"gather_s": GATHER_S, "poll_s": 5.0, **batching}),  # type: ignore[arg-type]
        )

    async def _verify(self) -> None:
        if self.lost:
            raise DatabaseUnavailable("the lock session is lost")

    def _free(self) -> None:
        self.freed += 1
        self.would_be_repeated |= self.outbox.rows.keys() & {id_ for ids in self.kafka.committed for id_ in ids}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.carrier.run())
        try:
            yield
        finally:
            self.carrier.stop()
            async with asyncio.timeout(5):
                await task

    def news(self, shard: int, count: int = 1) -> list[int]:
        ids = self.outbox.add(shard, count)
        self.carrier.wake()
        return ids

    async def until(self, reached: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not reached():  # noqa: ASYNC110 - tasks change it
                await asyncio.sleep(0.001)

    async def drained(self) -> None:
        await self.until(lambda: not self.outbox.rows)


async def test_rows_of_all_shards_held_go_in_one_transaction_in_the_order_of_their_ids() -> None:
    rig = Rig()
    ids = [id_ for shard in (2, 0, 1, 2) for id_ in rig.outbox.add(shard)]
    rig.outbox.add(3)
    rig.carrier.add([0, 1, 2])
    async with rig.running():
        await rig.until(lambda: len(rig.outbox.rows) == 1)
    assert rig.kafka.committed == [ids]
    assert rig.outbox.deleted == ids
    assert rig.metrics.value("tidings_relay_records_total") == 4


async def test_a_few_rows_never_wait_for_more() -> None:
    rig = Rig()
    rig.carrier.add([0])
    async with rig.running():
        for turn in range(1, 6):
            rig.news(0, 3)
            await rig.until(lambda turn=turn: len(rig.kafka.committed) == turn)  # type: ignore[misc]
    assert rig.kafka.begun_s[-1] - rig.kafka.begun_s[0] < 4 * GATHER_S / 2


async def test_under_load_two_transactions_begin_some_time_apart_unless_the_first_was_full() -> None:
    rig = Rig(rows=20)
    rig.carrier.add([0])
    async with rig.running():
        rig.news(0, 10)
        await rig.until(lambda: rig.kafka.committed)
        rig.news(0, 45)
        await rig.drained()
    assert list(map(len, rig.kafka.committed)) == [10, 20, 20, 5]
    first, second, third, fourth = rig.kafka.begun_s
    assert second - first > GATHER_S * 0.9
    assert fourth - second < GATHER_S / 2, "nothing is gathered behind a full one"
    assert third < fourth


async def test_no_row_is_deleted_before_its_commit_and_after_a_failure_it_is_sent_again() -> None:
    rig = Rig()
    rig.carrier.add([0])
    rig.kafka.fails_commits = 2
    async with rig.running():
        ids = rig.news(0, 3)
        await rig.until(lambda: rig.metrics.value("tidings_relay_failures_total", reason="kafka"))
        assert rig.outbox.deleted == []
        await rig.drained()
    assert rig.kafka.committed == [ids]
    assert rig.kafka.opened == rig.kafka.closed == 3, "a new producer after each failure"


async def test_what_the_broker_refuses_stops_its_own_shard_and_no_other() -> None:
    rig = Rig()
    rig.carrier.add([0, 1, 2, 3])
    bad = rig.outbox.add(1)[0]
    rig.kafka.refuses = lambda row: row.id == bad
    good = [id_ for shard in (0, 2, 3) for id_ in rig.outbox.add(shard, 2)]
    async with rig.running():
        await rig.until(lambda: sorted(rig.outbox.rows) == [bad])
        later = rig.news(0) + rig.news(3)
        behind = rig.news(1)
        await rig.until(lambda: sorted(rig.outbox.rows) == [bad, *behind])
        assert rig.metrics.value("tidings_relay_failures_total", reason="refused") >= 2
        rig.kafka.refuses = lambda row: False
        await rig.drained()
        rig.news(1)
        rig.news(2)
        await rig.drained()
    order = [id_ for batch in rig.kafka.committed for id_ in batch]
    assert sorted(order) == sorted({*order}), "nothing twice"
    assert {*good, *later, bad, *behind} <= {*order}
    assert order.index(bad) < order.index(behind[0])
    assert len(rig.kafka.committed[-1]) <= 2


async def test_a_shard_that_is_dropped_is_free_once_nothing_of_it_is_under_way() -> None:
    rig = Rig()
    rig.carrier.add([0, 1])
    rig.kafka.hold = asyncio.Event()
    async with rig.running():
        first = rig.news(0)
        await rig.until(lambda: rig.kafka.begun_s)
        rig.carrier.drop(0)
        left = rig.outbox.add(0)
        await asyncio.sleep(0.01)
        assert rig.carrier.shards == {0, 1}
        assert not rig.freed
        rig.kafka.hold.set()
        await rig.until(lambda: rig.carrier.shards == {1})
        assert rig.freed
        assert rig.carrier.settled(0)
        assert rig.outbox.deleted == first
        assert not rig.would_be_repeated
        rig.news(1)
        await rig.until(lambda: list(rig.outbox.rows) == left)


async def test_a_shard_that_is_dropped_in_doubt_is_free_but_not_settled() -> None:
    """Its last transaction may still come to Kafka: whoever holds it next must shut us out."""
    rig = Rig()
    rig.carrier.add([0, 1])
    async with rig.running():
        rig.kafka.fails_commits = 1_000
        rig.news(0)
        await rig.until(lambda: rig.metrics.value("tidings_relay_failures_total", reason="kafka"))
        assert not rig.carrier.decided
        rig.carrier.drop(0)
        await rig.until(lambda: rig.carrier.shards == {1})
        assert not rig.carrier.settled(0)
        rig.kafka.fails_commits = 0
        rig.news(1)
        await rig.until(lambda: rig.carrier.decided)


@pytest.mark.parametrize("lost", [True, False])
async def test_whoever_lost_its_locks_while_it_opened_its_producer_reads_nothing(lost: bool) -> None:
    rig = Rig()
    rig.carrier.add([0])
    rig.outbox.add(0)
    rig.lost = lost
    async with rig.running():
        await rig.until(lambda: rig.kafka.opened)
        await asyncio.sleep(0.02)
        assert bool(rig.kafka.begun_s) is not lost
