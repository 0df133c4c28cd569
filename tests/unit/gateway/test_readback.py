"""Older records read from a log that stands for Kafka's: shared, bounded, repeats left out."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, cast

import aiokafka.errors as kafka_errors
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from pydantic import SecretStr

from tests.gateway_fakes import record
from tidings.config import GatewaySettings, JwtSettings, KafkaSettings, TopicSettings
from tidings.errors import BrokerUnavailable
from tidings.gateway import lanes, readback
from tidings.gateway.app import Gateway
from tidings.gateway.readback import Expired, OverBudget, ReadBack
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
        self.during: Callable[[], object] = lambda: None
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
        self.during()
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


class Purse:
    """Pays for what is read; with nothing given, for everything."""

    def __init__(self, size: float = float("inf")) -> None:
        self.left = size
        self.paid = 0

    def affords(self) -> bool:
        return self.left > 0

    def pay(self, size: int) -> None:
        self.left -= size
        self.paid += size


RICH = Purse()


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


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what it waits for tells nobody
        await asyncio.sleep(0)


async def offsets(older: ReadBack, since: int, end: int) -> list[int]:
    found: list[int] = []
    while since < end:
        segment = older.find(0, since)
        if segment is None:
            await older.read(0, since, RICH)
            continue
        found += [kept.offset for kept in segment.since(since)]
        since = segment.end
    return [offset for offset in found if offset < end]


def test_what_is_asked_for_comes_without_a_gap() -> None:
    assert run(offsets(reader(FakeLog(1_000)), 333, 900)) == list(range(333, 900))


def test_what_the_log_does_not_hold_any_more_is_expired() -> None:
    older = reader(FakeLog(1_000, oldest=500))
    with pytest.raises(Expired):
        run(older.read(0, 499, RICH))
    assert run(offsets(older, 500, 1_000)) == list(range(500, 1_000))


def test_a_log_cut_while_it_is_read_is_expired() -> None:
    log = FakeLog(1_000)
    older = reader(log)
    run(older.read(0, 0, RICH))
    log.oldest = 800
    with pytest.raises(Expired):
        run(older.read(0, 100, RICH))


def test_an_offset_that_a_broker_does_not_hold_yet_is_not_expired() -> None:
    log = FakeLog(1_000)
    log.failures = [kafka_errors.OffsetOutOfRangeError.errno]
    older = reader(log)
    with pytest.raises(BrokerUnavailable):
        run(older.read(0, 333, RICH))
    assert run(offsets(older, 333, 900)) == list(range(333, 900))


def test_those_who_need_the_same_range_share_its_reads() -> None:
    log = FakeLog(2_000)
    older = reader(log)

    async def many() -> list[list[int]]:
        return await asyncio.gather(*(offsets(older, since, 2_000) for since in [0, 5, 100, 250, *[7] * 40]))

    for since, got in zip([0, 5, 100, 250, *[7] * 40], run(many()), strict=True):
        assert got == list(range(since, 2_000))
    assert len(log.fetched) <= 2_000 // 100 + 4


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_READBACKS")
def test_no_more_reads_at_once_than_allowed() -> None:
    log = FakeLog(40_000)

    async def many() -> None:
        older = reader(log, max_reads=2)
        await asyncio.gather(*(older.read(0, since, RICH) for since in range(0, 40_000, 2_000)))
        assert older.reading == 0

    run(many())
    assert log.most_at_once == 2


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_READBACKS")
def test_a_node_tells_how_many_reads_are_under_way() -> None:
    log, settings = FakeLog(40_000), GatewaySettings(max_readbacks=2)
    gateway = Gateway(settings, KafkaSettings(), TopicSettings(), JwtSettings(secret=SecretStr("x" * 32)))
    gateway.node.router.begin(0, 40_000, None)
    older = cast(ReadBack, gateway.node.resumes.older)
    older._cluster = cast(Any, log)
    told: list[float] = []

    async def pending() -> float:
        text, _ = await gateway.metrics.exposition()
        (line,) = [line for line in text.splitlines() if line.startswith(b"tidings_gateway_readbacks_pending ")]
        return float(line.split()[1])

    async def many() -> None:
        log.during = lambda: told.append(gateway.metrics.value("tidings_gateway_readbacks_pending"))
        await asyncio.gather(*(older.read(0, since, RICH) for since in range(0, 40_000, 10_000)))

    assert run(pending()) == 0
    run(many())
    assert (min(told), max(told)) == (1, 2)
    assert run(pending()) == 0


def test_what_is_kept_for_others_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "CACHE_BYTES", 300_000)
    log = FakeLog(5_000, size=1_000)
    older = reader(log)
    for since in range(0, 5_000, 100):
        run(older.read(0, since, RICH))
        assert older.bytes <= 300_000
    assert older.bytes > 100_000
    assert run(offsets(older, 0, 5_000)) == list(range(5_000))
    older.forget()
    assert (older.bytes, older.find(0, 4_999)) == (0, None)


def test_lanes_are_bounded_and_the_least_used_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "_LANES", 3)
    log = FakeLog(40_000)
    older = reader(log)
    for since in (0, 5_120, 10_240, 15_360):
        run(older.read(0, since, RICH))
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
    run(reader(log, Repeats(1e18)).read(0, 90_112, RICH))
    assert min(log.fetched) >= 90_112 - 2 * REPEAT_RECORDS


async def _answer(value: Any) -> Any:
    return value


def test_no_answer_is_an_error_for_all_who_wait_and_the_next_try_starts_afresh() -> None:
    log = FakeLog(1_000)
    log.failures = [kafka_errors.NotLeaderForPartitionError.errno]
    older = reader(log)

    async def both() -> list[Any]:
        return list(await asyncio.gather(older.read(0, 0, RICH), older.read(0, 3, RICH), return_exceptions=True))

    assert [type(error) for error in run(both())] == [BrokerUnavailable] * 2
    assert run(offsets(older, 0, 100)) == list(range(100))


def test_bytes_read_are_told() -> None:
    told: list[int] = []
    run(reader(FakeLog(100), on_bytes=told.append).read(0, 0, RICH))
    assert sum(told) > 5_000


# ---- Who pays, and until when


def test_whoever_starts_a_read_pays_for_it_the_ids_before_it_included() -> None:
    told: list[int] = []
    older = reader(FakeLog(5_000, size=100), Repeats(1e18), on_bytes=told.append)
    starts, shares = Purse(), Purse()

    async def both() -> None:
        await asyncio.gather(older.read(0, 2_560, starts), older.read(0, 2_570, shares))

    run(both())
    assert len(told) > 600 // 100, "the ten minutes before it were looked at"
    assert (starts.paid, shares.paid) == (sum(told), 0)


def test_the_look_at_earlier_ids_ends_with_the_budget_of_who_asked() -> None:
    told: list[int] = []
    older = reader(FakeLog(5_000, size=1_000), Repeats(1e18), on_bytes=told.append)
    with pytest.raises(OverBudget):
        run(older.read(0, 2_560, Purse(250_000)))
    assert 250_000 <= sum(told) <= 250_000 + max(told)
    assert older.bytes == 0, "what is half known is of no use"
    assert run(offsets(older, 2_560, 2_700)) == list(range(2_560, 2_700))


def test_who_shares_a_read_goes_on_alone_when_its_starter_can_pay_no_more() -> None:
    older = reader(FakeLog(5_000, size=1_000), Repeats(1e18))
    rich = Purse()

    async def both() -> list[Any]:
        poor = older.read(0, 2_560, Purse(250_000))
        return list(await asyncio.gather(poor, older.read(0, 2_560, rich), return_exceptions=True))

    poor, others = run(both())
    assert (type(poor), others) == (OverBudget, None)
    assert older.find(0, 2_560) is not None
    assert rich.paid > 600_000


def test_reads_at_once_on_one_purse_go_over_it_by_no_more_than_they_are() -> None:
    log = FakeLog(90_000, size=1_000)
    purse = Purse(300_000)

    async def many() -> list[Any]:
        older = reader(log, Repeats(1e18), max_reads=3)
        reads = (older.read(0, since, purse) for since in range(2_560, 90_000, 5_120))
        return list(await asyncio.gather(*reads, return_exceptions=True))

    assert {type(answer) for answer in run(many())} == {OverBudget}
    assert purse.paid <= 300_000 + 3 * 110_000


def test_when_nobody_waits_for_a_read_any_more_nothing_further_is_fetched() -> None:
    log = FakeLog(5_000, ids={2_300: b"same", 2_600: b"same"})
    older = reader(log, Repeats(1e18))

    async def hang_up() -> None:
        first, second = (asyncio.create_task(older.read(0, 2_560, RICH)) for _ in range(2))
        await until(lambda: len(log.fetched) == 2)
        first.cancel()
        await until(lambda: len(log.fetched) == 4)
        second.cancel()
        await asyncio.sleep(0.05)
        assert len(log.fetched) == 4, "the piece under way and no other"
        assert (older.reading, older.bytes) == (0, 0)
        # Whoever comes next begins anew, and knows all ids.
        assert await offsets(older, 2_560, 2_700) == [offset for offset in range(2_560, 2_700) if offset != 2_600]

    run(hang_up())


def test_who_leaves_while_the_read_waits_for_its_turn_takes_it_along() -> None:
    log = FakeLog(90_000)

    async def hang_up() -> None:
        older = reader(log, max_reads=1)
        reads = [asyncio.create_task(older.read(0, since, RICH)) for since in range(0, 90_000, 5_120)]
        await until(lambda: len(log.fetched) == 1)
        for read in reads:
            read.cancel()
        await asyncio.sleep(0.05)
        assert (log.fetched, older.reading) == ([0], 0)
        assert older.find(0, 0) is not None, "the piece that was under way is kept"
        assert await offsets(older, 5_120, 5_300) == list(range(5_120, 5_300))

    run(hang_up())


# ---- Memory


def many_ids(offsets: Iterable[int]) -> dict[int, bytes]:
    """To each its own."""
    return {offset: b"%016d" % offset for offset in offsets}


def test_the_ids_of_a_lane_count_as_memory_until_the_node_s_suffice() -> None:
    repeats = Repeats(1e18)
    repeats.settle(2_800)
    without = reader(FakeLog(3_000), repeats)
    with_ids = reader(FakeLog(3_000, ids=many_ids(range(3_000))), repeats)
    for older in (without, with_ids):
        run(older.read(0, 2_560, RICH))
    assert with_ids.bytes - without.bytes > 600 * 200
    for older in (without, with_ids):
        run(offsets(older, 2_560, 2_900))
    assert with_ids.bytes - without.bytes < 10_000


def test_idle_lanes_go_with_their_ids_when_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "_IDS_BYTES", 350_000)
    older = reader(FakeLog(40_000, ids=many_ids(range(40_000))), Repeats(1e18))
    for since in (2_560, 7_680, 12_800):
        run(older.read(0, since, RICH))
        assert older.bytes <= 350_000 + 2 * 15_000
    assert older.find(0, 2_560) is None
    assert older.find(0, 7_680) is not None
    assert older.find(0, 12_800) is not None
    held = older.bytes
    run(offsets(older, 12_800, 13_900))
    assert older.bytes > held, "a lane that is read on is not closed for its own ids"
    assert older.find(0, 7_680) is None


def test_lanes_that_look_up_ids_wait_for_room_and_those_in_use_are_not_closed_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lanes, "_IDS_BYTES", 300_000)
    monkeypatch.setattr(readback, "_RETRY_S", 0.02)
    starts = range(2_560, 33_000, 5_120)
    log = FakeLog(40_000, ids=many_ids(offset for start in starts for offset in range(start - 600, start)))

    async def many() -> None:
        older = reader(log, Repeats(1e18))

        async def use(since: int) -> None:
            for offset in range(since, since + 1_000, 100):
                while older.find(0, offset) is None:
                    await older.read(0, offset, RICH)
                assert older._lanes.ids_bytes <= 300_000
                await asyncio.sleep(0.002)

        await asyncio.gather(*map(use, starts))

    run(many())
    assert len(log.fetched) <= 6 * (1 + 7 + 10), "each was opened once"


def test_it_is_known_which_reads_are_dear() -> None:
    repeats = Repeats(1e18)
    repeats.settle(5_000)
    older = reader(FakeLog(9_000), repeats)
    assert older.at_hand(0, 5_400)
    assert not older.at_hand(0, 5_100), "it begins before"
    assert not older.at_hand(0, 2_560)
    run(older.read(0, 2_560, RICH))
    assert older.at_hand(0, 2_660)


def test_a_lane_that_nobody_needs_for_a_minute_is_closed() -> None:
    older = reader(FakeLog(40_000))
    for since in (0, 5_120):
        run(older.read(0, since, RICH))
    for now in (100.0, 130.0, 159.0):
        older.close_idle(now)
    assert older.find(0, 0) is not None
    older.close_idle(160.0)
    assert older.find(0, 5_120) is None
    older.close_idle(219.0)
    assert older.bytes > 0
    older.close_idle(220.0)
    assert older.bytes == 0


def test_a_lane_that_is_being_read_is_not_closed() -> None:
    log = FakeLog(1_000)

    async def slow() -> None:
        older = reader(log)
        reading = asyncio.create_task(older.read(0, 0, RICH))
        await until(lambda: len(log.fetched) == 1)
        for now in (0.0, 100.0):
            older.close_idle(now)
        await reading
        assert log.fetched == [0]

    run(slow())


# ---- What the node knows may change


def test_a_lane_does_not_ask_the_node_about_repeats_that_it_has_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidings.gateway.repeats._KEPT_OFFSETS", 10)
    log = FakeLog(3_000, ids={390: b"same", 400: b"same"} | dict.fromkeys(range(1_000, 1_100), b"often"))
    known = Repeats(None)
    position = 0

    def node_reads_up_to(end: int) -> None:
        nonlocal position
        for offset in range(position, end):
            known.at(offset, 0)
            known.is_repeat(log.ids.get(offset), offset, 0)
        position = end

    older = reader(log, known, position=lambda: position)
    node_reads_up_to(900)
    run(older.read(0, 256, RICH))
    assert older.find(0, 300) is not None
    assert older.find(0, 400) is None
    node_reads_up_to(1_200)
    assert known.exact_from is not None
    assert known.exact_from > 1_000
    assert run(offsets(older, 256, 500)) == [offset for offset in range(256, 500) if offset != 400]


def test_nothing_of_a_log_that_was_cut_since_is_given_out() -> None:
    log = FakeLog(300, ids={100: b"one", 150: b"one"})
    known = Repeats(None)
    for offset in range(300):
        known.at(offset, 0)
        known.is_repeat(log.ids.get(offset), offset, 0)
    older = reader(log, known)

    assert run(offsets(older, 0, 300)) == [offset for offset in range(300) if offset != 150]
    log.ids = {}  # another tail
    known.cut(120, 300)
    assert older.find(0, 130) is None
    assert run(offsets(older, 110, 300)) == list(range(110, 300))


def test_a_piece_that_comes_after_the_log_was_cut_is_not_kept() -> None:
    log = FakeLog(300)
    known = Repeats(None)
    older = reader(log, known)

    async def cut() -> None:
        reading = asyncio.create_task(older.read(0, 0, RICH))
        await until(lambda: len(log.fetched) == 1)
        known.cut(0, 300)
        log.size = 50
        await reading
        segment = older.find(0, 0)
        assert segment is not None
        assert all(len(kept.value) > 80 for kept in segment.since(0))
        assert log.fetched == [0, 0]

    run(cut())
