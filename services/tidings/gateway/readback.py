"""Records that are older than the window, read from Kafka again: bounded, and shared by those who need the same."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

import aiokafka.errors as kafka_errors

from tidings.contract.record import decode
from tidings.errors import BrokerUnavailable, ContractError
from tidings.gateway.repeats import REPEAT_RECORDS, REPEAT_SECONDS, Repeats, id_of
from tidings.gateway.window import Segment
from tidings.kafka.batches import LogRecord, decode_batches
from tidings.kafka.cluster import Cluster, Start
from tidings.kafka.fetch_session import Partition

__all__ = ["CACHE_BYTES", "READ_BYTES", "Expired", "ReadBack"]

log = logging.getLogger(__name__)

CACHE_BYTES: Final = 32 * 1024 * 1024
"""What was read stays this long in memory, all lanes together, for others who need it; the least used goes first."""

READ_BYTES: Final = 1024 * 1024
"""One read brings this much, or one larger batch."""
_ALIGNED: Final = 256
"""A lane starts at a multiple of this, so that those who need nearly the same range share it."""
_NEAR: Final = 1_024
"""Who needs an offset this little ahead of a lane waits for it instead of opening another."""
_LANES: Final = 64
"""Lanes at once; one that nobody reads on goes for a new one, else the new one waits."""
_RETRY_S: Final = 0.2
_EMPTY_READS: Final = 10


class Expired(Exception):
    """The log does not hold that offset any more."""


class _Lane:
    """One run of consecutive segments of a partition, read from its start on."""

    __slots__ = ("next", "oldest", "opened", "partition", "reading", "repeats", "segments", "used")

    def __init__(self, partition: Partition, start: int) -> None:
        self.partition = partition
        self.next = start
        self.oldest = 0
        """Where the log began when the lane was opened."""
        self.opened = False
        self.repeats: Repeats | None = None
        """Its own, where the node's do not reach back that far."""
        self.segments: list[Segment] = []
        self.reading: asyncio.Task[None] | None = None
        self.used = 0

    def find(self, offset: int) -> Segment | None:
        for segment in self.segments:
            if segment.first <= offset < segment.end:
                return segment
        return None

    def leads_to(self, offset: int) -> bool:
        return self.next <= offset < self.next + _NEAR


class ReadBack:
    """Reads pieces of one topic on request.

    Args:
        cluster: The brokers.
        topic: Its name.
        position_of: How far the node has come in a partition. Nothing is read beyond it: what it will find to be a
            repeat is not known yet.
        repeats_of: What the node knows of repeated ids in a partition.
        max_reads: Reads of the whole process at once; the others wait.
        on_bytes: Told how much each read brought.
    """

    def __init__(
        self,
        cluster: Cluster,
        topic: str,
        position_of: Callable[[int], int],
        repeats_of: Callable[[int], Repeats],
        max_reads: int,
        on_bytes: Callable[[int], None],
    ) -> None:
        self._cluster = cluster
        self._topic = topic
        self._position_of = position_of
        self._repeats_of = repeats_of
        self._reads = asyncio.Semaphore(max_reads)
        self._on_bytes = on_bytes
        self._lanes: list[_Lane] = []
        self._clock = 0
        self.bytes = 0
        """Of all segments that are kept."""
        self.reading = 0
        """Reads under way."""

    def find(self, partition: int, offset: int) -> Segment | None:
        """A segment that was read and holds or follows the offset."""
        for lane in self._lanes:
            if lane.partition.partition == partition and (segment := lane.find(offset)) is not None:
                self._clock += 1
                lane.used = self._clock
                return segment
        return None

    async def read(self, partition: int, offset: int) -> None:
        """See that `find` has that offset, or at least that what leads to it has come nearer.

        Raises:
            Expired: The log starts behind it.
            BrokerUnavailable, KafkaError, OSError: No answer; try again.
        """
        lanes = [one for one in self._lanes if one.partition.partition == partition and one.leads_to(offset)]
        lane = lanes[0] if lanes else await self._new_lane(partition, offset)
        if lane.reading is None or lane.reading.done():
            lane.reading = asyncio.create_task(self._read_on(lane), name="read-back")
        try:
            await asyncio.shield(lane.reading)
        except Exception:
            if lane in self._lanes:
                self._drop(lane)
            raise
        if offset < lane.oldest:
            raise Expired

    async def _new_lane(self, partition: int, offset: int) -> _Lane:
        while len(self._lanes) >= _LANES:
            idle = [lane for lane in self._lanes if lane.reading is None or lane.reading.done()]
            if idle:
                self._drop(min(idle, key=lambda one: one.used))
            else:
                await asyncio.sleep(_RETRY_S)  # whoever asks has a limit of time
        lane = _Lane(Partition(self._topic, partition), offset - offset % _ALIGNED)
        self._clock += 1
        lane.used = self._clock
        self._lanes.append(lane)
        return lane

    def _drop(self, lane: _Lane) -> None:
        self._lanes.remove(lane)
        self.bytes -= sum(segment.bytes for segment in lane.segments)

    def forget(self) -> None:
        """The topic is another one: what was read is of no use."""
        self._lanes.clear()
        self.bytes = 0

    async def _open(self, lane: _Lane) -> None:
        """Find where to start, and what the ids before it were if the node can't know."""
        partition = lane.partition
        oldest = lane.oldest = (await self._cluster.offsets([partition], Start.EARLIEST))[partition] or 0
        lane.next = max(oldest, lane.next)
        lane.opened = True
        exact_from = self._repeats_of(partition.partition).exact_from
        if exact_from is not None and lane.next >= exact_from:
            return
        # Records before the lane may be what some in it repeat. Offsets have holes (a marker behind each transaction),
        # so twice the number of records is looked at.
        lane.repeats = Repeats(None)
        position = max(oldest, lane.next - 2 * REPEAT_RECORDS)
        _, first = await self._fetch(partition, lane.next)
        if first and first[0].timestamp >= 0:
            since_ms = max(0, int(first[0].timestamp - REPEAT_SECONDS * 1000))
            young = (await self._cluster.offsets([partition], since_ms))[partition]
            position = max(position, lane.next if young is None else young)
        while position < lane.next:
            position, records = await self._fetch(partition, position)
            for record in records:
                if record.offset < lane.next:
                    _is_repeat(lane.repeats, record)

    async def _read_on(self, lane: _Lane) -> None:
        if not lane.opened:
            await self._open(lane)
        start = lane.next
        next_offset, records = await self._fetch(lane.partition, start)
        segment = Segment(start)
        known = self._repeats_of(lane.partition.partition)
        next_offset = min(next_offset, self._position_of(lane.partition.partition))
        for record in records:
            if record.offset >= next_offset:
                break
            repeat = known.was_repeat(record.offset) if lane.repeats is None else _is_repeat(lane.repeats, record)
            if record.value is not None and not repeat:
                segment.append(record.offset, record.value, record.timestamp)
        segment.end = lane.next = next_offset
        lane.segments.append(segment)
        self._clock += 1
        lane.used = self._clock
        if lane in self._lanes:
            self.bytes += segment.bytes
            self._shed(segment)

    async def _fetch(self, partition: Partition, offset: int) -> tuple[int, Sequence[LogRecord]]:
        """Records from an offset on, and the offset behind them."""
        async with self._reads:
            self.reading += 1
            try:
                for attempt in range(_EMPTY_READS):
                    # The first piece of a record that is larger than this comes whole all the same.
                    error_code, data, aborted = await self._cluster.fetch_once(partition, offset, READ_BYTES)
                    if error_code:
                        error = kafka_errors.for_code(error_code)
                        if error is kafka_errors.OffsetOutOfRangeError:
                            raise Expired
                        self._cluster.look_again()
                        raise BrokerUnavailable(f"{partition.topic}/{partition.partition}: {error.__name__}")
                    self._on_bytes(len(data))
                    decoded = decode_batches(data, offset, aborted)
                    for skipped in decoded.skipped:
                        log.error("%s/%d: read back over a damaged batch: %s", *partition, skipped)
                    if decoded.next_offset > offset:
                        return decoded.next_offset, decoded.records
                    await asyncio.sleep(_RETRY_S * attempt)
                raise BrokerUnavailable(f"{partition.topic}/{partition.partition}: nothing at offset {offset}")
            finally:
                self.reading -= 1

    def _shed(self, newest: Segment) -> None:
        while self.bytes > CACHE_BYTES:
            filled = [lane for lane in self._lanes if lane.segments and lane.segments != [newest]]
            if not filled:
                return
            lane = min(filled, key=lambda one: one.used)
            self.bytes -= lane.segments.pop(0).bytes


def _is_repeat(repeats: Repeats, record: LogRecord) -> bool:
    repeats.at(record.offset, record.timestamp)
    identity = id_of(record.headers) if record.headers else None
    if identity is None or record.value is None:
        return False
    try:
        decode(record.value)
    except ContractError:
        return False  # as on the way of a live record: a refused record hides nothing
    return repeats.is_repeat(identity, record.offset, record.timestamp)
