"""Older records read from a log that stands for Kafka's: shared, bounded, repeats left out."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import aiokafka.errors as kafka_errors
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from tests.gateway_fakes import record
from tidings.errors import BrokerUnavailable
from tidings.gateway import readback
from tidings.gateway.readback import Expired, ReadBack
from tidings.gateway.repeats import REPEAT_RECORDS, Repeats
from tidings.kafka.cluster import Start
from tidings.kafka.fetch_session import Partition


class FakeLog:
    """One partition in batches of ten; `ids` names the id header of some offsets."""

    def __init__(self, end: int, oldest: int = 0, ids: dict[int, bytes] | None = None, size: int = 0) -> None:
        self.oldest = oldest
        self.end = end
        self.ids = ids or {}
        self.size = size
        self.fetched: list[int] = []
        self.at_once = 0
        self.most_at_once = 0
        self.failures: list[int | Exception] = []
        self.per_fetch = 100

    async def offsets(self, partitions: Sequence[Partition], at: int) -> dict[Partition, int | None]:
        if at == Start.EARLIEST:
            return dict.fromkeys(partitions, self.oldest)
        return dict.fromkeys(partitions, max(self.oldest, at // 1000) if at // 1000 < self.end else None)

    async def fetch_once(self, partition: Partition, offset: int, max_bytes: int) -> tuple[int, bytes, None]:
        self.fetched.append(offset)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0.001)
        self.at_once -= 1
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, Exception):
                raise failure
            return failure, b"", None
        if not self.oldest <= offset < self.end:
            return kafka_errors.OffsetOutOfRangeError.errno, b"", None
        first = offset - offset % 10
        return 0, b"".join(self._batch(n) for n in range(first, min(first + self.per_fetch, self.end), 10)), None

    def look_again(self) -> None:
        pass

    def _batch(self, first: int) -> bytes:
        builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1 << 20)
        for delta in range(10):
            offset = first + delta
            headers = [("id", self.ids[offset])] if offset in self.ids else []
            value = record(["alice"], data=str(offset)) + b" " * self.size
            builder.append(delta, timestamp=offset * 1000, key=None, value=value, headers=headers)
        batch = bytearray(builder.build())
        batch[0:8] = first.to_bytes(8, "big")
        return bytes(batch)


def reader(
    log: FakeLog,
    repeats: Repeats | None = None,
    max_reads: int = 4,
    on_bytes: Callable[[int], None] = lambda _: None,
    position: Callable[[], int] = lambda: 1 << 60,
) -> ReadBack:
    known = Repeats(None) if repeats is None else repeats
    return ReadBack(cast(Any, log), "modifications", lambda _: position(), lambda _: known, max_reads, on_bytes)


def run(work: Awaitable[Any]) -> Any:
    async def whole() -> Any:
        async with asyncio.timeout(10):
            return await work

    return asyncio.run(whole())


async def offsets(older: ReadBack, since: int, end: int) -> list[int]:
    found: list[int] = []
    while since < end:
        segment = older.find(0, since)
        if segment is None:
            await older.read(0, since)
            continue
        found += [kept.offset for kept in segment.since(since)]
        since = segment.end
    return [offset for offset in found if offset < end]


def test_what_is_asked_for_comes_without_a_gap() -> None:
    assert run(offsets(reader(FakeLog(1_000)), 333, 900)) == list(range(333, 900))


def test_what_the_log_does_not_hold_any_more_is_expired() -> None:
    older = reader(FakeLog(1_000, oldest=500))
    with pytest.raises(Expired):
        run(older.read(0, 499))
    assert run(offsets(older, 500, 1_000)) == list(range(500, 1_000))


def test_a_log_cut_while_it_is_read_is_expired() -> None:
    log = FakeLog(1_000)
    older = reader(log)
    run(older.read(0, 0))
    log.oldest = 800
    with pytest.raises(Expired):
        run(older.read(0, 100))


def test_those_who_need_the_same_range_share_its_reads() -> None:
    log = FakeLog(2_000)
    older = reader(log)

    async def many() -> list[list[int]]:
        return await asyncio.gather(*(offsets(older, since, 2_000) for since in [0, 5, 100, 250, *[7] * 40]))

    for since, got in zip([0, 5, 100, 250, *[7] * 40], run(many()), strict=True):
        assert got == list(range(since, 2_000))
    assert len(log.fetched) <= 2_000 // 100 + 4


@pytest.mark.limit("max_readbacks")
def test_no_more_reads_at_once_than_allowed() -> None:
    log = FakeLog(40_000)

    async def many() -> None:
        older = reader(log, max_reads=2)
        await asyncio.gather(*(older.read(0, since) for since in range(0, 40_000, 2_000)))
        assert older.reading == 0

    run(many())
    assert log.most_at_once == 2


def test_what_is_kept_for_others_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readback, "CACHE_BYTES", 300_000)
    log = FakeLog(5_000, size=1_000)
    older = reader(log)
    for since in range(0, 5_000, 100):
        run(older.read(0, since))
        assert older.bytes <= 300_000
    assert older.bytes > 100_000
    assert run(offsets(older, 0, 5_000)) == list(range(5_000))
    older.forget()
    assert (older.bytes, older.find(0, 4_999)) == (0, None)


def test_lanes_are_bounded_and_the_least_used_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readback, "_LANES", 3)
    log = FakeLog(40_000)
    older = reader(log)
    for since in (0, 5_120, 10_240, 15_360):
        run(older.read(0, since))
    assert older.find(0, 0) is None
    assert older.find(0, 15_360) is not None


def test_a_repeat_that_the_node_knows_of_is_left_out() -> None:
    known = Repeats(None)
    for offset in range(300):
        known.at(offset, 0)
        known.is_repeat(b"same" if offset in (50, 150) else None, offset, 0)
    log = FakeLog(300, ids={50: b"same", 150: b"same"})
    assert run(offsets(reader(log, known), 0, 300)) == [offset for offset in range(300) if offset != 150]
    assert run(offsets(reader(log, known), 100, 300)) == [offset for offset in range(100, 300) if offset != 150]


def test_nothing_is_read_that_the_node_has_not_looked_at_for_repeats() -> None:
    known = Repeats(None)
    position = 0
    older = reader(FakeLog(300, ids={40: b"same", 60: b"same"}), known, position=lambda: position)

    def node_reads_up_to(end: int) -> None:
        nonlocal position
        for offset in range(position, end):
            known.at(offset, 0)
            known.is_repeat(b"same" if offset in (40, 60) else None, offset, 0)
        position = end

    node_reads_up_to(50)
    assert run(offsets(older, 0, 50)) == list(range(50))
    assert older.find(0, 50) is None
    node_reads_up_to(100)
    assert run(offsets(older, 0, 100)) == [offset for offset in range(100) if offset != 60]


def test_a_repeat_of_a_record_before_the_range_is_left_out_also_if_the_node_was_not_there() -> None:
    unknown = Repeats(1e18)
    log = FakeLog(2_000, ids={300: b"same", 700: b"same"})
    assert run(offsets(reader(log, unknown), 600, 800)) == [offset for offset in range(600, 800) if offset != 700]
    beyond_ten_minutes = FakeLog(2_000, ids={300: b"same", 901: b"same"})
    assert 901 in run(offsets(reader(beyond_ten_minutes, unknown), 895, 950))


def test_the_look_at_earlier_ids_is_bounded() -> None:
    log = FakeLog(100_000)
    log.per_fetch = 1_000
    log.offsets = lambda partitions, at: _answer(dict.fromkeys(partitions, 0))  # type: ignore[method-assign]
    run(reader(log, Repeats(1e18)).read(0, 90_112))
    assert min(log.fetched) >= 90_112 - 2 * REPEAT_RECORDS


async def _answer(value: Any) -> Any:
    return value


def test_no_answer_is_an_error_for_all_who_wait_and_the_next_try_starts_afresh() -> None:
    log = FakeLog(1_000)
    log.failures = [kafka_errors.NotLeaderForPartitionError.errno]
    older = reader(log)

    async def both() -> list[Any]:
        return list(await asyncio.gather(older.read(0, 0), older.read(0, 3), return_exceptions=True))

    assert [type(error) for error in run(both())] == [BrokerUnavailable] * 2
    assert run(offsets(older, 0, 100)) == list(range(100))


def test_bytes_read_are_told() -> None:
    told: list[int] = []
    run(reader(FakeLog(100), on_bytes=told.append).read(0, 0))
    assert sum(told) > 5_000
