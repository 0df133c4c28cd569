"""Records that are older than the window, read from Kafka again: bounded, and shared by those who need the same."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import aiokafka.errors as kafka_errors

from tidings.contract.record import decode
from tidings.errors import BrokerUnavailable, ContractError
from tidings.gateway.lanes import Lane, Lanes, aligned
from tidings.gateway.repeats import ID_BYTES, REPEAT_RECORDS, REPEAT_SECONDS, Repeats, id_of
from tidings.gateway.window import Segment
from tidings.kafka.batches import LogRecord, decode_batches
from tidings.kafka.cluster import Cluster, Start
from tidings.kafka.fetch_session import Partition

__all__ = ["READ_BYTES", "Expired", "OverBudget", "Payer", "ReadBack"]

log = logging.getLogger(__name__)

READ_BYTES: Final = 1024 * 1024
"""One read brings this much, or one larger batch."""
_FIRST_BYTES: Final = 65_536
"""Enough to see of which time a lane's first records are."""
_RETRY_S: Final = 0.2
_EMPTY_READS: Final = 10


class Expired(Exception):
    """The log does not hold that offset any more."""


class OverBudget(Exception):
    """Whoever wants it read has nothing left to pay for it."""


class _Gone(Exception):
    """The lane is given up, or nobody waits for it: whoever needs it has to look again."""


class Payer(Protocol):
    """On whose account older records are fetched."""

    def affords(self) -> bool:
        """Whether one more piece may be fetched, whatever its size."""

    def pay(self, size: int) -> None:
        """A piece of that many bytes was fetched."""


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
        self._lanes = Lanes(lambda partition: repeats_of(partition).cuts)
        self.reading = 0
        """Reads under way."""

    @property
    def bytes(self) -> int:
        """Of all segments that are kept and of the lanes' ids: at most 32 MiB, and what one read brought."""
        return self._lanes.bytes

    def find(self, partition: int, offset: int) -> Segment | None:
        """A segment that was read and holds or follows the offset."""
        return self._lanes.find(partition, offset)

    def at_hand(self, partition: int, offset: int) -> bool:
        """Whether a read of it need not look up ids of before it. Those that must are dear, and wait for room: whoever
        needs several does best to ask for one after the other."""
        if _knows(self._repeats_of(partition), aligned(offset)):
            return True
        return self._lanes.leading_to(partition, offset) is not None

    async def read(self, partition: int, offset: int, payer: Payer) -> None:
        """See that `find` has that offset, or at least that what leads to it has come nearer.

        Several who need the same share one read. Whoever's call started it pays for all that it fetches, also for what
        is only looked at for its ids; each piece is paid for when it is there. When nobody waits for the read any more,
        nothing further is fetched.

        Raises:
            Expired: The log starts behind it.
            OverBudget: The payer could not afford the next piece, and nobody else had started to read it.
            BrokerUnavailable, KafkaError, OSError: No answer; try again.
        """
        while True:
            lane = self._lanes.leading_to(partition, offset)
            if lane is None:
                lane = await self._new_lane(partition, offset)
            starts = not lane.busy
            if starts:
                reading = asyncio.create_task(self._read_on(lane, payer), name="read-back")
                reading.add_done_callback(_see)
                lane.reading = reading
            if await self._wait_for(lane, starts=starts):
                break
        if offset < lane.oldest:
            raise Expired

    async def _wait_for(self, lane: Lane, *, starts: bool) -> bool:
        """Returns False where one has to look again: another's read ended without a result."""
        reading = lane.reading
        assert reading is not None
        lane.waiting += 1
        try:
            await asyncio.shield(reading)
        except _Gone:
            return False
        except OverBudget:
            if starts:
                raise
            return False
        finally:
            lane.waiting -= 1
            # A piece on its way comes all the same: it is paid for when it is there, and kept for others.
            if not lane.waiting and not reading.done() and not lane.on_its_way:
                reading.cancel()
                lane.reading = None
                if not lane.opened:
                    self._lanes.drop(lane)
        return True

    def close_idle(self, now: float) -> None:
        """Drop what nobody has needed for a minute. Call it every few seconds."""
        self._lanes.close_idle(now)

    def forget(self) -> None:
        """The topic is another one: what was read is of no use."""
        self._lanes.clear()

    async def _new_lane(self, partition: int, offset: int) -> Lane:
        lane = self._lanes.open(partition, offset)
        while lane is None:
            await asyncio.sleep(_RETRY_S)  # whoever asks has a limit of time
            lane = self._lanes.open(partition, offset)
        return lane

    async def _read_on(self, lane: Lane, payer: Payer) -> None:
        try:
            await self._read(lane, payer)
        except BaseException as error:
            if not lane.opened or isinstance(error, Expired):
                self._lanes.drop(lane)
            raise

    async def _read(self, lane: Lane, payer: Payer) -> None:
        if not lane.opened:
            await self._open(lane, payer)
            lane.opened = True
        start = lane.next
        next_offset, records = await self._fetch(lane, start, READ_BYTES, payer)
        known = self._known(lane)
        if lane.repeats is None and not _knows(known, start):
            # What the node remembers of repeats moved on since the lane was opened.
            self._lanes.drop(lane)
            raise _Gone
        segment = Segment(start)
        next_offset = min(next_offset, self._position_of(lane.partition))
        for record in records:
            if record.offset >= next_offset:
                break
            repeat = known.was_repeat(record.offset) if lane.repeats is None else _is_repeat(lane.repeats, record)
            if record.value is not None and not repeat:
                segment.append(record.offset, record.value, record.timestamp)
        segment.end = lane.next = next_offset
        if _knows(known, next_offset):
            lane.repeats = None  # it has come to where the node's suffice
        self._lanes.keep(lane, segment)

    async def _open(self, lane: Lane, payer: Payer) -> None:
        """Find where to start, and what the ids before it were if the node can't know.

        Cost: then, up to twice the records that a repeat may be away from its first, as far as the payer affords it.
        """
        partition = Partition(self._topic, lane.partition)
        lane.oldest = oldest = await self._oldest(partition)
        lane.next = max(oldest, lane.next)
        if _knows(self._known(lane), lane.next):
            return
        # Records before the lane may be what some in it repeat. Offsets have holes (a marker behind each transaction),
        # so twice the number of records is looked at.
        position = max(oldest, lane.next - 2 * REPEAT_RECORDS)
        _, first = await self._fetch(lane, lane.next, _FIRST_BYTES, payer)
        if first and first[0].timestamp >= 0:
            since_ms = max(0, int(first[0].timestamp - REPEAT_SECONDS * 1000))
            young = (await self._cluster.offsets([partition], since_ms))[partition]
            position = max(position, lane.next if young is None else young)
        await self._reserve(lane, min(lane.next - position, REPEAT_RECORDS) * ID_BYTES)
        lane.repeats = Repeats(None)
        while position < lane.next:
            position, records = await self._fetch(lane, position, READ_BYTES, payer)
            for record in records:
                if record.offset < lane.next:
                    _is_repeat(lane.repeats, record)
        lane.reserved_bytes = 0

    async def _oldest(self, partition: Partition) -> int:
        return (await self._cluster.offsets([partition], Start.EARLIEST))[partition] or 0

    async def _reserve(self, lane: Lane, size: int) -> None:
        """Wait until there is room for the lane's ids; whoever asks has a limit of time."""
        used: Mapping[Lane, int] = {}
        while not self._lanes.reserve(lane, size, used):
            used = self._lanes.uses()
            await asyncio.sleep(_RETRY_S)

    def _known(self, lane: Lane) -> Repeats:
        """What the node knows of the lane's log, unless that log is no more."""
        if not self._lanes.holds(lane):
            raise _Gone
        return self._repeats_of(lane.partition)

    async def _fetch(self, lane: Lane, offset: int, max_bytes: int, payer: Payer) -> tuple[int, Sequence[LogRecord]]:
        """Records from an offset on, and the offset behind them."""
        partition = Partition(self._topic, lane.partition)
        async with self._reads:
            self.reading += 1
            try:
                for attempt in range(_EMPTY_READS):
                    if not lane.waiting or lane not in self._lanes:
                        raise _Gone
                    if not payer.affords():
                        raise OverBudget
                    # The first piece of a record that is larger than this comes whole all the same.
                    lane.on_its_way = True
                    try:
                        error_code, data, aborted = await self._cluster.fetch_once(partition, offset, max_bytes)
                    finally:
                        lane.on_its_way = False
                    payer.pay(len(data))
                    self._on_bytes(len(data))
                    if error_code:
                        error = kafka_errors.for_code(error_code)
                        # Not so where the log seems to end before the offset: whoever was asked is not its leader.
                        if error is kafka_errors.OffsetOutOfRangeError and offset < await self._oldest(partition):
                            raise Expired
                        self._cluster.look_again()
                        raise BrokerUnavailable(f"{partition.topic}/{partition.partition}: {error.__name__}")
                    decoded = decode_batches(data, offset, aborted)
                    for skipped in decoded.skipped:
                        log.error("%s/%d: read back over a damaged batch: %s", *partition, skipped)
                    if decoded.next_offset > offset:
                        return decoded.next_offset, decoded.records
                    await asyncio.sleep(_RETRY_S * attempt)
                raise BrokerUnavailable(f"{partition.topic}/{partition.partition}: nothing at offset {offset}")
            finally:
                self.reading -= 1


def _see(task: "asyncio.Task[None]") -> None:
    """What became of it concerns those who wait, if anybody does."""
    if not task.cancelled():
        task.exception()


def _knows(known: Repeats, offset: int) -> bool:
    """Whether the node knows which of the records at that offset and behind it are repeats."""
    return known.exact_from is not None and offset >= known.exact_from


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
