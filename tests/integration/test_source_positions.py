"""Where reading starts and goes on, and what is believed after a silence. The cluster is a fake, without a broker."""

import asyncio
import math
import struct
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from tidings.kafka.availability import Place
from tidings.kafka.cluster import Start
from tidings.kafka.fetch_session import Partition
from tidings.kafka.positions import History, Positions
from tidings.kafka.reader import Fetched
from tidings.kafka.source import RecordSource

PARTITION = Partition("modifications", 3)
PLACE = Place(1, PARTITION.topic)


async def stop_reading(source: RecordSource) -> None:
    for task in source._readers.values():
        task.cancel()
    await asyncio.gather(*source._readers.values(), return_exceptions=True)


class ShortLog:
    """A partition that holds the offsets from `oldest` to `end`, and since `young_from` records younger than asked."""

    def __init__(self, oldest: int, end: int, young_from: int | None) -> None:
        self.oldest = oldest
        self.end = end
        self.young_from = young_from
        self.asked_ms: list[int] = []

    def partitions(self) -> list[Partition]:
        return [PARTITION]

    async def offsets(self, partitions: Sequence[Partition], at: int) -> dict[Partition, int | None]:
        if not partitions:
            return {}
        assert list(partitions) == [PARTITION]
        if at == Start.EARLIEST:
            return {PARTITION: self.oldest}
        if at == Start.LATEST:
            return {PARTITION: self.end}
        self.asked_ms.append(at)
        return {PARTITION: self.young_from}

    async def fetch_once(self, partition: Partition, offset: int, max_bytes: int) -> tuple[int, bytes, None]:
        assert offset == self.end - 1
        builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1 << 20)
        builder.append(0, timestamp=1_000_000, key=None, value=b"{}", headers=[])
        return 0, bytes(builder.build()), None


class Jumps:
    """Notes where reading went on."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def begin(self, partition: Partition, offset: int, since_ms: float | None) -> None:
        raise AssertionError("nothing begins here")

    def jump(self, partition: Partition, offset: int, position: int) -> None:
        self.seen.append((offset, position))

    async def deliver(self, _: Sequence[Fetched], more_in_s: float) -> None:
        raise AssertionError("nothing is fetched here")


def reading(log: ShortLog, position: int) -> tuple[Positions, list[tuple[int, int]]]:
    """Positions with one that was read up to, at the time 1,000 ms, and the list of jumps from there."""
    jumps = Jumps()
    positions = Positions(log, jumps, {})  # type: ignore[arg-type]
    positions.advance(PARTITION, position, 1_000)
    return positions, jumps.seen


async def test_what_retention_has_cut_is_passed_over_at_once() -> None:
    log = ShortLog(oldest=500, end=900, young_from=None)
    positions, jumps = reading(log, 100)
    assert await positions.find_again(PARTITION)
    assert positions.next_offset == {PARTITION: 500}
    assert jumps == [(100, 500)]
    assert log.asked_ms == []


@pytest.mark.parametrize(
    ("young_from", "expected"),
    [(None, 8), (8, 8), (0, 0)],
    ids=["nothing written since: from the end", "the first new record", "the topic was made anew: all of it is new"],
)
async def test_after_the_log_became_shorter_nothing_old_is_shown_and_nothing_new_left_out(
    young_from: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidings.kafka.positions._CUT_AFTER_S", 0.0)
    log = ShortLog(oldest=0, end=8, young_from=young_from)
    positions, jumps = reading(log, 10)
    assert await positions.find_again(PARTITION)
    assert positions.next_offset == {PARTITION: expected}
    assert jumps == [(10, expected)]
    assert log.asked_ms == [1_001]


@pytest.mark.parametrize("position", [5, 8, 10], ids=["the oldest offset", "between", "the end"])
async def test_a_position_that_the_leader_has_is_not_moved(position: int) -> None:
    positions, jumps = reading(ShortLog(oldest=5, end=10, young_from=5), position)
    assert not await positions.find_again(PARTITION)
    assert positions.next_offset == {PARTITION: position}
    assert jumps == []


class Clock:
    """In place of `time.monotonic`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        monkeypatch.setattr("tidings.kafka.positions.time.monotonic", lambda: self.now)


async def test_a_log_that_ends_before_the_position_is_believed_to_be_cut_only_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    positions, jumps = reading(ShortLog(oldest=0, end=8, young_from=None), 10)
    for _ in range(5):
        assert not await positions.find_again(PARTITION)
        clock.now += 1.0
    assert jumps == []
    assert await positions.find_again(PARTITION)
    assert jumps == [(10, 8)]


@pytest.mark.parametrize("between", ["the leader has it", "a record was read", "nobody said so for long"])
async def test_a_log_that_was_found_whole_in_between_has_to_be_short_for_as_long_again(
    between: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    log = ShortLog(oldest=0, end=8, young_from=None)
    positions, jumps = reading(log, 10)
    assert not await positions.find_again(PARTITION)
    clock.now += 4.0
    if between == "the leader has it":
        log.end = 10
        assert not await positions.find_again(PARTITION)
        log.end = 8
    elif between == "a record was read":
        positions.advance(PARTITION, 11, 1_000)
    else:
        clock.now += 2.0
    clock.now += 1.0
    assert not await positions.find_again(PARTITION)
    clock.now += 4.9
    assert not await positions.find_again(PARTITION)
    clock.now += 0.2
    assert await positions.find_again(PARTITION)
    assert len(jumps) == 1


class Begun:
    """Notes where reading starts."""

    def __init__(self) -> None:
        self.at: dict[Partition, tuple[int, float | None]] = {}

    def begin(self, partition: Partition, offset: int, since_ms: float | None) -> None:
        self.at[partition] = (offset, since_ms)

    def jump(self, partition: Partition, offset: int, position: int) -> None:
        raise AssertionError("nothing jumps here")

    async def deliver(self, _: Sequence[Fetched], more_in_s: float) -> None:
        raise AssertionError("nothing is fetched here")


@pytest.mark.parametrize(
    ("oldest", "end", "young_from", "expected"),
    [
        (0, 100, 40, (40, 400_000)),
        (0, 100, 0, (0, None)),
        (50, 100, 40, (50, None)),
        (0, 100, None, (100, 400_000)),
        (0, 5_000, 40, (4_000, math.inf)),
        (0, 0, None, (0, None)),
    ],
    ids=["by age", "the whole log", "what retention left", "nothing young", "at most so many offsets", "an empty log"],
)
async def test_a_topic_with_a_history_is_read_from_before_its_end(
    oldest: int, end: int, young_from: int | None, expected: tuple[int, Any]
) -> None:
    log, reader = ShortLog(oldest, end, young_from), Begun()
    positions = Positions(log, reader, {PARTITION.topic: History(age_s=600, offsets=1_000)})  # type: ignore[arg-type]
    await positions.start()
    offset, _ = reader.at[PARTITION]
    assert reader.at[PARTITION] == expected, "600 s before the newest record, whatever our own clock says"
    assert positions.next_offset == {PARTITION: offset}
    assert positions.ends_at_start == {PARTITION: end}


async def test_a_topic_made_anew_is_read_whole_whatever_its_partitions_are_now() -> None:
    class Anew(ShortLog):
        async def refresh(self) -> None:
            pass

        def leader(self, partition: Partition) -> int | None:
            return None

    reader = Begun()
    source = RecordSource({}, [PARTITION.topic, "signals"], reader, linger_s=0.0, metadata_max_age_s=1.0)
    source.cluster = Anew(0, 8, None)  # type: ignore[assignment]
    source._positions = Positions(source.cluster, reader, {})
    source._positions.next_offset = {PARTITION: 500, Partition(PARTITION.topic, 4): 7, Partition("signals", 0): 3}
    forgotten: list[dict[Partition, int]] = []
    await source.start_anew(PARTITION.topic, lambda: forgotten.append(dict(source.positions)))
    assert forgotten[0][PARTITION] == 500, "told before anything begins again"
    assert source.positions == {PARTITION: 0, Partition("signals", 0): 3}
    assert reader.at == {PARTITION: (0, None)}


class Answers:
    """A broker that answers fetches from a list: bytes, an error code, or nothing new."""

    def __init__(self, *answers: bytes | int) -> None:
        self.answers = list(answers)

    async def fetch(self, node_id: int, topic: str, request: Any) -> Any:
        answer = self.answers.pop(0)
        code, data = (answer, b"") if isinstance(answer, int) else (0, answer)
        topics: list[Any] = [(PARTITION.topic, [(PARTITION.partition, code, 10, 10, 0, [], -1, data)])]
        return SimpleNamespace(error_code=0, session_id=7, topics=topics)

    def look_again(self) -> None:
        pass


async def test_a_silent_topic_is_not_asked_for_with_a_busy_one_and_does_not_hold_it_up() -> None:
    asked: list[tuple[str, list[str]]] = []

    class TwoTopics(Answers):
        def leader(self, _: Partition) -> int:
            return 1

        async def fetch(self, node_id: int, topic: str, request: Any) -> Any:
            asked.append((topic, [partition.topic for partition, _ in request._moved]))
            if topic == "signals":
                await asyncio.sleep(60)
            if not self.answers:
                busy_is_through.set()
                await asyncio.sleep(60)
            return await super().fetch(node_id, topic, request)

    class Nobody(Begun):
        async def deliver(self, _: Sequence[Fetched], more_in_s: float) -> None:
            pass

    busy_is_through = asyncio.Event()
    source = RecordSource({}, [PARTITION.topic, "signals"], Nobody(), linger_s=0.0, metadata_max_age_s=1.0)
    source.cluster = TwoTopics(batch(0), batch(1), batch(2))  # type: ignore[assignment]
    source._positions.next_offset = {PARTITION: 0, Partition("signals", 0): 0, Partition("signals", 1): 0}
    source._tend_readers()
    async with asyncio.timeout(5):
        await busy_is_through.wait()
    for task in source._readers.values():
        task.cancel()
    await asyncio.gather(*source._readers.values(), return_exceptions=True)
    assert source.positions[PARTITION] == 3
    assert [topics for topic, topics in asked if topic == "signals"] == [["signals", "signals"]]
    assert {topic for asking, topics in asked if asking == PARTITION.topic for topic in topics} == {PARTITION.topic}


UNKNOWN_TOPIC = 3


def batch(offset: int) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1 << 20)
    builder.append(0, timestamp=1_000_000, key=None, value=b"{}", headers=[])
    return offset.to_bytes(8, "big") + bytes(builder.build())[8:]


class Away(ShortLog):
    """A broker that answers no fetch until `back` is set; notes who asked."""

    def __init__(self) -> None:
        super().__init__(0, 8, None)
        self.back = False
        self.asked: list[str] = []
        self.leads = True
        self.down: list[bool] = []

    def leader(self, partition: Partition) -> int | None:
        return 1 if self.leads or partition.topic == "signals" else None

    async def fetch(self, node_id: int, topic: str, request: Any) -> Any:
        self.asked.append(topic)
        if not self.back:
            raise OSError("nobody listens")
        await asyncio.sleep(60)

    async def is_reachable(self, node_id: int, topic: str) -> bool:
        self.asked.append(topic)
        return self.back

    def look_again(self) -> None:
        pass


async def test_kafka_counts_as_there_when_all_that_lead_something_answer() -> None:
    class Broker(Away):
        leader_id: int | None = 1

        def leader(self, partition: Partition) -> int | None:
            return self.leader_id

        async def fetch(self, node_id: int, topic: str, request: Any) -> Any:
            if self.down[topic != PARTITION.topic]:
                raise OSError("nobody listens")
            await asyncio.sleep(0)
            return SimpleNamespace(error_code=0, session_id=7, topics=[])

    cluster = Broker()
    cluster.down = [False, False]
    source = RecordSource({}, [PARTITION.topic, "signals"], Begun(), linger_s=0.0, metadata_max_age_s=1.0)
    source.cluster = cluster  # type: ignore[assignment]
    source._positions.next_offset = {PARTITION: 0, Partition("signals", 0): 0}

    async def seen() -> bool:
        source._tend_readers()
        for _ in range(30):
            await asyncio.sleep(0)
        return source.connected

    try:
        assert await seen()
        cluster.down[0] = True
        assert not await seen(), "one topic's fetches are answered, the other's are not"
        cluster.leader_id = None
        assert not await seen(), "nobody leads anything"
        cluster.down[0] = False
        assert not await seen()
        cluster.leader_id = 1
        cluster.back = True
        assert source.reconnects == 0
        assert await seen()
        assert source.reconnects == 2, "whatever was known of the topics is to be asked again"
        cluster.down = [True, True]
        cluster.back = False
        assert not await seen()
        cluster.down = [False, False]
        cluster.leader_id = 2
        assert await seen(), "another broker leads all of it"
        assert source.reconnects >= 3
    finally:
        await stop_reading(source)


async def test_a_broker_that_refuses_every_fetch_is_asked_now_and_then_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A session that it has forgotten is no such refusal: that is asked for again at once."""
    monkeypatch.setattr("tidings.kafka.source._RETRY_S", 0.05)

    class Refusing(Away):
        async def fetch(self, node_id: int, topic: str, request: Any) -> Any:
            self.asked.append(topic)
            await asyncio.sleep(0)
            return SimpleNamespace(error_code=29, session_id=0, topics=[])

    cluster = Refusing()
    source = RecordSource({}, [PARTITION.topic], Begun(), linger_s=0.0, metadata_max_age_s=1.0)
    source.cluster = cluster  # type: ignore[assignment]
    source._positions.next_offset = {PARTITION: 0}
    source._tend_readers()
    try:
        await asyncio.sleep(0.3)
        assert 3 <= len(cluster.asked) <= 8
        assert "broker 1 refuses a fetch of modifications: TopicAuthorizationFailedError" in caplog.text
    finally:
        await stop_reading(source)


async def test_the_first_fetch_after_a_silence_is_answered_at_once() -> None:
    """A broker that waits for a record before it says that it is there would be taken for away until then."""
    waits: list[bool] = []

    class Quiet(Away):
        async def fetch(self, node_id: int, topic: str, request: Any) -> Any:
            (max_wait_ms,) = struct.unpack_from(">4xi", request.prepare({1: (4, 17)}).encode())
            waits.append(max_wait_ms > 0)
            if not self.back:
                raise OSError("nobody listens")
            await asyncio.sleep(60 if max_wait_ms else 0)
            return SimpleNamespace(error_code=0, session_id=7, topics=[])

    cluster = Quiet()
    source = RecordSource({}, [PARTITION.topic], Begun(), linger_s=0.0, metadata_max_age_s=1.0)
    source.cluster = cluster  # type: ignore[assignment]
    source._positions.next_offset = {PARTITION: 0}
    source._tend_readers()
    try:
        await reading_from(cluster, 10)
        assert not source.connected
        cluster.back = True
        await reading_from(cluster, 50)
        assert source.connected
        assert waits == [True, False, True]
    finally:
        await stop_reading(source)


async def reading_from(cluster: Away, turns: int) -> list[str]:
    """Who asked, in that many turns of the loop more."""
    cluster.asked.clear()
    for _ in range(turns):
        await asyncio.sleep(0)
    return cluster.asked


async def test_one_reader_asks_whether_a_broker_is_back_and_then_all_read_on() -> None:
    cluster = Away()
    source = RecordSource({}, [PARTITION.topic, "signals"], Begun(), linger_s=0.0, metadata_max_age_s=1.0)
    source.cluster = cluster  # type: ignore[assignment]
    source._positions.next_offset = {PARTITION: 0, Partition("signals", 0): 0}
    source._tend_readers()
    try:
        assert set(await reading_from(cluster, 10)) == {PARTITION.topic, "signals"}, (
            "each finds out for itself that it is gone"
        )
        assert set(await reading_from(cluster, 50)) == {PARTITION.topic}
        cluster.leads = False  # another broker leads the asker's partitions now
        source._tend_readers()
        await reading_from(cluster, 10)
        assert set(await reading_from(cluster, 50)) == {"signals"}
        cluster.leads = True
        source._tend_readers()
        await reading_from(cluster, 10)
        assert set(await reading_from(cluster, 50)) == {"signals"}
        cluster.back = True
        assert set(await reading_from(cluster, 50)) == {PARTITION.topic, "signals"}
    finally:
        await stop_reading(source)


async def fetched(
    *answers: bytes | int,
    replaced: list[bool | None],
    silence_s: float = 0.0,
    between_s: float = 0.0,
    hangs: bool = False,
) -> tuple[int, int]:
    """How many records were believed, and how often somebody was asked whether the topic is another one."""
    asked = 0

    async def ask() -> bool | None:
        nonlocal asked
        asked += 1
        if hangs:
            await asyncio.sleep(10)
        answer = replaced.pop(0)
        if answer:
            source._epoch += 1  # as `start_anew` does
        return answer

    source = RecordSource({}, [PARTITION.topic], Begun(), linger_s=0.0, metadata_max_age_s=1.0, replaced=ask)
    source.cluster = Answers(*answers)  # type: ignore[assignment]
    source._positions.advance(PARTITION, 5, None)
    source._answered_at[PLACE] = time.monotonic() - silence_s
    believed = 0
    for _ in answers:
        believed += len(await source._fetch(PLACE, [PARTITION]) or ())
        await asyncio.sleep(between_s)
    return believed, asked


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidings.kafka.source._RETRY_S", 0.0)
    monkeypatch.setattr("tidings.kafka.availability._RETRY_S", 0.0)
    monkeypatch.setattr("tidings.kafka.source._TOLD_WITHIN_S", 0.02)


async def test_records_of_a_partition_that_was_away_are_believed_once_its_topic_is_known_to_be_the_same() -> None:
    assert await fetched(UNKNOWN_TOPIC, batch(5), batch(6), replaced=[False]) == (2, 1)


async def test_records_of_another_topic_of_the_same_name_are_not_believed() -> None:
    assert await fetched(UNKNOWN_TOPIC, batch(5), replaced=[True]) == (0, 1)


async def test_nor_after_a_silence_in_which_anything_may_have_happened() -> None:
    assert await fetched(batch(5), replaced=[True], silence_s=1.5) == (0, 1)


async def test_a_node_at_work_asks_nobody() -> None:
    assert await fetched(batch(5), batch(6), replaced=[], silence_s=0.6) == (2, 0)


async def test_where_nobody_can_tell_it_is_believed_and_asked_again_but_not_for_every_fetch() -> None:
    answers = (UNKNOWN_TOPIC, batch(5), batch(6), batch(7))
    assert await fetched(*answers, replaced=[None]) == (3, 1)
    assert await fetched(*answers, replaced=[None, False], between_s=0.03) == (3, 2)


async def test_records_wait_only_so_long_for_an_answer_that_does_not_come() -> None:
    began = time.monotonic()
    assert await fetched(UNKNOWN_TOPIC, batch(5), batch(6), replaced=[], hangs=True) == (2, 1)
    assert time.monotonic() - began < 1
