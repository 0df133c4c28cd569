"""All partitions of some topics, read from the brokers without a group: records in, positions kept in memory.

Built on aiokafka's connections, metadata and record parser, not on its `AIOKafkaConsumer`:
`docs/decisions/0002-own-fetch-loop.md` has the reasons.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import aiokafka.errors as kafka_errors
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential_jitter

from tidings.errors import BrokerUnavailable
from tidings.kafka.batches import LogRecord, SkippedRange, decode_batches, newest_ms
from tidings.kafka.cluster import AWAY, Cluster, Start
from tidings.kafka.fetch_session import FetchSession, Partition
from tidings.kafka.pacing import Pacer

__all__ = ["Fetched", "History", "Partition", "Reader", "RecordSource"]

log = logging.getLogger(__name__)

_WATCH_S: Final = 0.5
_RETRY_S: Final = 0.2
_RETRY_MAX_S: Final = 2.0
_STUCK_FETCHES: Final = 10
_UNSEEN_S: Final = 1.0
"""Brokers answer a fetch within 0.5 s. After a longer silence, as of a process that was frozen, what happened meanwhile
is not known."""
_TOLD_WITHIN_S: Final = 2.0
"""So long records wait at most, and so often at most, for an answer about their topic that does not come."""
_CLOCKS_APART_MS: Final = 5_000
_LAST_BATCH_BYTES: Final = 4_096
"""A larger batch comes whole all the same."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one fetch brought of one partition.

    Attributes:
        partition: Which.
        records: In order; may be empty where the log has only holes.
        next_offset: The position after them.
        skipped: Batches that could not be decoded, between or behind the records.
    """

    partition: Partition
    records: Sequence[LogRecord]
    next_offset: int
    skipped: Sequence[SkippedRange]


@dataclass(frozen=True, slots=True)
class History:
    """How far before the end of a topic reading starts.

    Attributes:
        age_s: Records up to this much older than the newest one are read again.
        offsets: But no more than this many offsets of a partition.
    """

    age_s: float
    offsets: int


class Reader(Protocol):
    """Who is told what a source reads. The calls for one partition come in order and never at once."""

    def begin(self, partition: Partition, offset: int, since_ms: float | None) -> None:
        """Reading starts here: at the start, with a partition that was added, or with a topic that was made anew.

        Args:
            since_ms: All that came to the partition from this time on will be shown. None: everything it ever held.
        """

    def jump(self, partition: Partition, offset: int, position: int) -> None:
        """Reading goes on from `position` in place of `offset`: what is between them, if anything, was lost."""

    async def deliver(self, fetched: Sequence[Fetched]) -> None:
        """What one fetch brought, at least one partition; awaited before the next fetch from that broker."""


class RecordSource:
    """Reads every partition of its topics, `read_committed`, from the end; partitions added later from their beginning.

    One task per broker fetches for all partitions that it leads. What comes is handed over at once, so a record waits
    in no queue between the socket of the broker and those of the clients.

    Args:
        options: aiokafka's connection options (`tidings.kafka.connection.aiokafka_options`).
        topics: Topics to read; all must exist, or `start` waits for them.
        reader: Told everything. That `deliver` is awaited before the next fetch is the only backpressure.
        history: Topics that are read from before their end.
        replaced: Asked, in bounded time, when a position is out of its log, and before anything is believed that comes
            after a partition was away: whether the topic is another one now. If it is, whoever answers has called
            `start_anew`. None: nobody could tell.
        linger_s: The longest pause between two fetches from a broker while records flow; see `pacing`.
        metadata_max_age_s: New partitions and leaders are noticed within this time.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        topics: Sequence[str],
        reader: Reader,
        *,
        linger_s: float,
        metadata_max_age_s: float,
        history: Mapping[str, History] | None = None,
        replaced: Callable[[], Awaitable[bool | None]] | None = None,
    ) -> None:
        self.cluster = Cluster(options, topics, metadata_max_age_s)
        self._reader = reader
        self._history = history or {}
        self._replaced = replaced
        self._epoch = 0
        self._linger_s = linger_s
        self._readers: dict[int, asyncio.Task[None]] = {}
        self._led: dict[int, list[Partition]] = {}
        self._in_flight: set[Partition] = set()
        self._sessions: dict[int, FetchSession] = {}
        self._stuck: dict[Partition, int] = {}
        self._doubted: set[Partition] = set()
        self._ask_from = 0.0
        self._answered_at: dict[int, float] = {}
        self._last_ms: dict[Partition, int] = {}
        self._ends: dict[Partition, int] = {}
        self.ends_at_start: dict[Partition, int] = {}
        """Of the partitions with a history: where the log ended when reading started."""
        self.positions: dict[Partition, int] = {}
        """Next offset to read of every partition known."""
        self.connected = False
        """Whether the last fetch, of any broker, was answered."""
        self.reconnects = 0
        """How often a broker answered again after it had not."""
        self.waiting_for: str | None = "the first answer"
        """What `start` waits for, in words; None once it is there."""

    def lag(self) -> dict[Partition, int]:
        """Offsets between what was read and the end of the log as last seen, records of open transactions included."""
        return {
            partition: max(0, self._ends.get(partition, position) - position)
            for partition, position in self.positions.items()
        }

    async def start(self) -> None:
        """Connect, find the topics and their ends; tries for ever, with backoff, and logs what it waits for."""
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(AWAY),
            wait=wait_exponential_jitter(initial=0.2, max=5.0, jitter=0.3),
            before_sleep=self._tell_wait,
        ):
            with attempt:
                await self.cluster.open()
                known = self.cluster.partitions()
                await self._adopt([one for one in known if one.topic not in self._history], Start.LATEST)
                for topic, history in self._history.items():
                    await self._adopt_with_history([one for one in known if one.topic == topic], history)
        self.connected = True
        self.waiting_for = None

    async def run(self) -> None:
        """Read until cancelled. Call after `start`. Outages are waited out; positions stay."""
        try:
            while True:
                self._tend_readers()
                await asyncio.sleep(_WATCH_S)
                await self._adopt_added()
                await self.cluster.find_again(silent=not self.connected)
        finally:
            for task in self._readers.values():
                task.cancel()
            await asyncio.gather(*self._readers.values(), return_exceptions=True)
            await self.close()

    async def close(self) -> None:
        """Close all connections to brokers."""
        await self.cluster.close()

    # Positions

    async def _adopt(self, partitions: Sequence[Partition], start: Start) -> None:
        now_ms = int(time.time() * 1000)
        for partition, offset in (await self.cluster.offsets(partitions, start)).items():
            if offset is None:
                raise BrokerUnavailable(f"{partition.topic}/{partition.partition}: no offset")
            self._begin(partition, offset, None if start is Start.EARLIEST else now_ms)

    async def _adopt_with_history(self, partitions: Sequence[Partition], history: History) -> None:
        ends = await self.cluster.offsets(partitions, Start.LATEST)
        oldest = await self.cluster.offsets(partitions, Start.EARLIEST)
        for partition in partitions:
            end, first = ends[partition], oldest[partition]
            if end is None or first is None:
                raise BrokerUnavailable(f"{partition.topic}/{partition.partition}: no offset")
            offset, since_ms = first, None
            if end > first:
                offset, since_ms = await self._before_end(partition, first, end, history)
            self.ends_at_start[partition] = end
            self._begin(partition, offset, since_ms)

    async def _before_end(
        self, partition: Partition, first: int, end: int, history: History
    ) -> tuple[int, float | None]:
        """Where to start, and from which time on everything is shown then; None for the latter: from the beginning.

        Counted back from the newest record: only the broker's clock says how far records are apart.
        """
        error_code, data, _ = await self.cluster.fetch_once(partition, end - 1, _LAST_BATCH_BYTES)
        if error_code:
            self.cluster.look_again()
            error = kafka_errors.for_code(error_code).__name__
            raise BrokerUnavailable(f"{partition.topic}/{partition.partition}: its last record can't be read ({error})")
        newest = newest_ms(data)
        since_ms = max(0, int((time.time() * 1000 if newest is None else newest) - history.age_s * 1000))
        young = (await self.cluster.offsets([partition], since_ms))[partition]
        offset = end if young is None else max(first, young)
        shown_since: float = since_ms
        if offset < end - history.offsets:
            offset, shown_since = end - history.offsets, math.inf
        return (first, None) if offset <= first else (offset, shown_since)

    def _begin(self, partition: Partition, offset: int, since_ms: float | None) -> None:
        self.positions[partition] = offset
        self._last_ms[partition] = int(time.time() * 1000) - _CLOCKS_APART_MS
        self._reader.begin(partition, offset, since_ms)

    async def start_anew(self, topic: str, forget: Callable[[], None]) -> None:
        """The topic was deleted and made anew: read all of it, whatever its number of partitions is now.

        Args:
            forget: Called just before reading begins again.
        Raises:
            One of `AWAY`, and then nothing has changed.
        """
        await self.cluster.refresh()
        partitions = [one for one in self.cluster.partitions() if one.topic == topic]
        oldest = await self.cluster.offsets(partitions, Start.EARLIEST)
        forget()
        self._epoch += 1  # what is being fetched was asked for with positions of the old topic
        self._doubted.clear()
        for gone in [one for one in self.positions if one.topic == topic]:
            del self.positions[gone]
        for partition in partitions:
            self._begin(partition, oldest[partition] or 0, None)
        self._tend_readers()

    async def look_for_partitions(self) -> None:
        """Fetch metadata now and start to read what was added.

        Raises:
            One of `AWAY`.
        """
        await self.cluster.refresh()
        await self._adopt_added()

    async def _adopt_added(self) -> None:
        added = [partition for partition in self.cluster.partitions() if partition not in self.positions]
        if not added:
            return
        try:
            # From the beginning: what was written to it before anybody here knew of it must not be lost.
            await self._adopt(added, Start.EARLIEST)
        except AWAY as error:
            log.warning("partitions were added but can't be read yet: %s", error)
        else:
            log.info("reading %d added partitions: %s", len(added), ", ".join(f"{t}/{n}" for t, n in added))

    async def _find_position_again(self, partition: Partition) -> None:
        """The position is out of the log's range: retention passed it by, or the log is shorter or another one.

        Behind the log's start: go on from the start. Ahead of its end (an unclean election cut it, or the topic was
        made anew): go on from the first record younger than the last one read, so that nothing old is shown again and
        nothing new is left out.
        """
        position = self.positions[partition]
        try:
            oldest = (await self.cluster.offsets([partition], Start.EARLIEST))[partition]
            going_on = oldest
            if oldest is not None and position > oldest:
                younger_ms = self._last_ms[partition] + 1
                going_on = (await self.cluster.offsets([partition], younger_ms))[partition]
                if going_on is None:
                    going_on = (await self.cluster.offsets([partition], Start.LATEST))[partition]
        except AWAY as error:
            log.warning("%s/%d: position out of range, and no answer yet: %s", *partition, error)
            return
        if going_on is not None:
            log.error("%s/%d: offset %d is out of range; going on from %d", *partition, position, going_on)
            self.positions[partition] = going_on
            self._reader.jump(partition, position, going_on)

    # Reading

    def _tend_readers(self) -> None:
        """See that every broker that leads something is read from, and which partitions are whose."""
        led: dict[int, list[Partition]] = {}
        for partition in self.positions:
            leader = self.cluster.leader(partition)
            if leader is not None:
                led.setdefault(leader, []).append(partition)
        self._led = led
        for node_id in led:
            task = self._readers.get(node_id)
            if task is not None and task.done() and not task.cancelled() and (failure := task.exception()) is not None:
                raise failure
            if task is None or task.done():
                self._readers[node_id] = asyncio.create_task(self._read(node_id), name=f"fetch-{node_id}")

    async def _read(self, node_id: int) -> None:
        in_flight = self._in_flight
        retry_s = _RETRY_S
        pacer = Pacer(self._linger_s, time.perf_counter())
        while led := self._led.get(node_id):
            # A partition whose leader changed may still be in the hands of the other broker's reader.
            wanted = [partition for partition in led if partition not in in_flight] if in_flight else led
            if not wanted:
                await asyncio.sleep(_WATCH_S)
                continue
            in_flight.update(wanted)
            try:
                fetched = await self._fetch(node_id, wanted)
                answered_at = time.perf_counter()
                if fetched:
                    await self._reader.deliver(fetched)
            finally:
                in_flight.difference_update(wanted)
            if fetched is None:
                await asyncio.sleep(retry_s)
                retry_s = min(2 * retry_s, _RETRY_MAX_S)
                continue
            retry_s = _RETRY_S
            if fetched:
                done_at = time.perf_counter()
                pause_s = pacer.pause_s(done_at - answered_at, done_at)
                if pause_s > 0:
                    await asyncio.sleep(pause_s)
            elif self._stuck:
                await asyncio.sleep(_RETRY_S)

    async def _fetch(self, node_id: int, wanted: Sequence[Partition]) -> list[Fetched] | None:
        """One fetch. None: the broker did not answer. Positions move before the records are handed over."""
        session = self._sessions.setdefault(node_id, FetchSession())
        epoch = self._epoch
        request = session.request(wanted, self.positions)
        try:
            response = await self.cluster.fetch(node_id, request)
        except AWAY as error:
            session.reset()
            if self.connected:
                log.warning("broker %s does not answer a fetch: %r", node_id, error)
            self.connected = False
            self.cluster.look_again()
            return None
        if not self.connected:
            log.info("broker %s answers again", node_id)
            self.reconnects += 1
            self._doubted.update(self.positions)
        self.connected = True
        now = time.monotonic()
        if now - self._answered_at.get(node_id, now) > _UNSEEN_S:
            self._doubted.update(wanted)
        self._answered_at[node_id] = now
        if self._doubted:
            await self._settle_doubts(response)
        if epoch != self._epoch:
            session.reset()
            return []
        fetched: list[Fetched] = []
        failed: list[tuple[Partition, int]] = []
        if session.accepts(response):
            for topic, answers in response.topics:
                for number, error_code, end, _, _, aborted, *_, data in answers:
                    partition = Partition(topic, number)
                    if error_code:
                        failed.append((partition, error_code))
                        continue
                    self._ends[partition] = end
                    if data and (part := self._decode(partition, data, aborted, end)) is not None:
                        fetched.append(part)
        for partition, error_code in failed:
            await self._on_error(partition, error_code)
            if epoch != self._epoch:
                return []
        return fetched

    async def _settle_doubts(self, response: Any) -> None:
        """Records of a partition that was away may be those of another topic of the same name.

        Asked once there are some: a topic that is there again with the id it had was never gone. Where nobody can tell
        they are believed, and it is asked again later: no fetch waits for brokers that only answer fetches.
        """
        if self._replaced is None:
            self._doubted.clear()
            return
        if time.monotonic() < self._ask_from:
            return
        came = {
            partition
            for topic, answers in response.topics
            for number, error_code, *_, data in answers
            if data and not error_code and (partition := Partition(topic, number)) in self._doubted
        }
        if not came:
            return
        answer = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_TOLD_WITHIN_S):
                answer = await self._replaced()
        if answer is None:
            self._ask_from = time.monotonic() + _TOLD_WITHIN_S
        else:
            self._doubted -= came

    def _decode(self, partition: Partition, data: bytes, aborted: Any, end: int) -> Fetched | None:
        position = self.positions[partition]
        decoded = decode_batches(data, position, aborted)
        if decoded.next_offset > position:
            self._stuck.pop(partition, None)
        else:
            # Bytes but no whole batch: a length that reaches past the end. It may be about to be written; if not, the
            # rest of the partition can't be read, and standing still for ever would be the greater loss.
            self._stuck[partition] = self._stuck.get(partition, 0) + 1
            if self._stuck[partition] < _STUCK_FETCHES or end <= position:
                return None
            del self._stuck[partition]
            decoded.skipped.append(SkippedRange(position, end, "format", "no whole batch in what the broker sends"))
            decoded.next_offset = end
        self.positions[partition] = decoded.next_offset
        if decoded.records:
            self._last_ms[partition] = decoded.records[-1].timestamp
        return Fetched(partition, decoded.records, decoded.next_offset, decoded.skipped)

    async def _on_error(self, partition: Partition, error_code: int) -> None:
        error = kafka_errors.for_code(error_code)
        if error is kafka_errors.OffsetOutOfRangeError:
            if self._replaced is None or not await self._replaced():
                await self._find_position_again(partition)
            return
        log.warning("%s/%d: %s", *partition, error.__name__)
        self._doubted.add(partition)
        self.cluster.look_again()
        await asyncio.sleep(_RETRY_S)

    def _tell_wait(self, attempt: RetryCallState) -> None:
        error = attempt.outcome.exception() if attempt.outcome is not None else None
        # aiokafka's errors repeat their name; ours are whole sentences.
        self.waiting_for = str(error) if isinstance(error, BrokerUnavailable | kafka_errors.KafkaError) else repr(error)
        log.warning("can't read yet, next try in %.1f s: %s", attempt.upcoming_sleep, self.waiting_for)
