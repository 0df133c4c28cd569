"""All partitions of some topics, read from the broker without a group: records in, positions kept in memory.

Built on aiokafka's connections, metadata and record parser, not on its `AIOKafkaConsumer`:
`docs/decisions/0002-own-fetch-loop.md` has the reasons and the figures.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import aiokafka.errors as kafka_errors
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.protocol.offset import OffsetRequest
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential_jitter

from tidings.errors import BrokerUnavailable
from tidings.kafka.batches import LogRecord, SkippedRange, decode_batches
from tidings.kafka.fetch_session import FetchSession, Partition
from tidings.kafka.pacing import pause_s

__all__ = ["Fetched", "Partition", "RecordSource", "Start"]

log = logging.getLogger(__name__)

_READ_COMMITTED: Final = 1
_REQUEST_TIMEOUT_MS: Final = 10_000
_REBOOTSTRAP_S: Final = 15.0
_WATCH_S: Final = 0.5
_RETRY_S: Final = 0.2
_RETRY_MAX_S: Final = 2.0
"""Each try of a broker that is away costs four lines of log, most of them the library's."""


class Start(IntEnum):
    """Which offset of a partition is meant."""

    LATEST = -1
    EARLIEST = -2


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one fetch brought of one partition.

    Attributes:
        partition: Which.
        records: In order; may be empty where the log has only holes.
        next_offset: The position after them.
        end_offset: The partition's last stable offset as the broker saw it then.
        skipped: Batches that could not be decoded, between or behind the records.
    """

    partition: Partition
    records: Sequence[LogRecord]
    next_offset: int
    end_offset: int
    skipped: Sequence[SkippedRange]


class RecordSource:
    """Reads every partition of its topics, `read_committed`, from the end; partitions added later from their beginning.

    One task per broker fetches for all partitions that it leads. What comes is handed over synchronously, so a record
    waits in no queue between the socket of the broker and those of the clients.

    Args:
        options: aiokafka's connection options (`tidings.kafka.connection.aiokafka_options`).
        topics: Topics to read; all must exist, or `run` waits for them.
        deliver: Awaited with what each fetch brought, at least one partition, before the next fetch from that broker:
            that is the only backpressure. Partitions come in order, each from one broker at a time.
        linger_s: The longest pause between two fetches from a broker while records flow; see `pacing`.
        metadata_max_age_s: New partitions and leaders are noticed within this time.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        topics: Sequence[str],
        deliver: Callable[[Sequence[Fetched]], Awaitable[None]],
        *,
        linger_s: float,
        metadata_max_age_s: float,
    ) -> None:
        self._options = dict(options)
        self._topics = tuple(topics)
        self._deliver = deliver
        self._linger_s = linger_s
        self._metadata_max_age_s = metadata_max_age_s
        self._client: Any = None
        self._readers: dict[int, asyncio.Task[None]] = {}
        self._led: dict[int, list[Partition]] = {}
        self._in_flight: set[Partition] = set()
        self._sessions: dict[int, FetchSession] = {}
        self._lost_since: float | None = None
        self.positions: dict[Partition, int] = {}
        """Next offset to read of every partition known."""
        self.end_offsets: dict[Partition, int] = {}
        """Last stable offset as last seen."""
        self.connected = False
        """Whether the last fetch, of any broker, was answered."""

    def lag(self) -> dict[Partition, int]:
        """Records (holes included) between what was read and the end as last seen."""
        return {
            partition: max(0, self.end_offsets.get(partition, position) - position)
            for partition, position in self.positions.items()
        }

    async def start(self, first: Start = Start.LATEST) -> None:
        """Connect, find the topics and their positions; tries for ever, with backoff, and logs what it waits for."""
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type((BrokerUnavailable, kafka_errors.KafkaError, OSError, TimeoutError)),
            wait=wait_exponential_jitter(initial=0.2, max=5.0, jitter=0.3),
            before_sleep=_tell_wait,
        ):
            with attempt:
                await self._connect()
                await self._find_positions(first)

    async def run(self) -> None:
        """Read until cancelled. Call after `start`. Outages are waited out; positions stay."""
        try:
            while True:
                self._tend_readers()
                await asyncio.sleep(_WATCH_S)
                await self._adopt_new_partitions()
                await self._rebootstrap_if_lost()
        finally:
            for task in self._readers.values():
                task.cancel()
            await asyncio.gather(*self._readers.values(), return_exceptions=True)
            await self.close()

    async def close(self) -> None:
        """Close all connections to brokers."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    # Finding out

    async def _connect(self) -> None:
        if self._client is not None:
            await self._client.force_metadata_update()
        else:
            client = AIOKafkaClient(
                **self._options,
                client_id="tidings-gateway",
                metadata_max_age_ms=int(self._metadata_max_age_s * 1000),
                request_timeout_ms=_REQUEST_TIMEOUT_MS,
                connections_max_idle_ms=None,
            )
            try:
                await client.bootstrap()
            except BaseException:
                await client.close()
                raise
            self._client = client
            await client.set_topics(self._topics)
        missing = [topic for topic in self._topics if not self._client.cluster.partitions_for_topic(topic)]
        if missing:
            raise BrokerUnavailable(f"topic {', '.join(missing)} does not exist; `tidings topics create` makes it")
        self.connected = True

    def _known_partitions(self) -> list[Partition]:
        cluster = self._client.cluster
        return [
            Partition(topic, number)
            for topic in self._topics
            for number in sorted(cluster.partitions_for_topic(topic) or ())
        ]

    async def _find_positions(self, start: Start) -> None:
        wanted = [partition for partition in self._known_partitions() if partition not in self.positions]
        self.positions.update(await self.offsets(wanted, start))

    async def offsets(self, partitions: Sequence[Partition], which: Start) -> dict[Partition, int]:
        """Ask the leaders for offsets: `Start.LATEST` gives the last stable, `Start.EARLIEST` the first one kept.

        Raises:
            BrokerUnavailable: Some leader did not answer with an offset.
        """
        by_leader: dict[int, dict[str, list[tuple[int, int]]]] = {}
        for partition in partitions:
            leader = self._leader(partition)
            if leader is None:
                raise BrokerUnavailable(f"{partition.topic}/{partition.partition} has no leader")
            by_leader.setdefault(leader, {}).setdefault(partition.topic, []).append((partition.partition, int(which)))
        found: dict[Partition, int] = {}
        for leader, topics in by_leader.items():
            response = await self._client.send(leader, OffsetRequest(-1, _READ_COMMITTED, list(topics.items())))
            for topic, answers in response.topics:
                for number, error_code, _, offset in answers:
                    if error_code or offset < 0:
                        await self._client.force_metadata_update()
                        error = kafka_errors.for_code(error_code).__name__
                        raise BrokerUnavailable(f"{topic}/{number}: no offset ({error})")
                    found[Partition(topic, number)] = offset
        return found

    def _leader(self, partition: Partition) -> int | None:
        leader = self._client.cluster.leader_for_partition(partition)
        return None if leader is None or leader < 0 else int(leader)

    async def _adopt_new_partitions(self) -> None:
        fresh = [partition for partition in self._known_partitions() if partition not in self.positions]
        if not fresh:
            return
        try:
            # From the beginning: what was written to it before anybody here knew of it must not be lost.
            self.positions.update(await self.offsets(fresh, Start.EARLIEST))
        except (BrokerUnavailable, kafka_errors.KafkaError, OSError, TimeoutError) as error:
            log.warning("partitions were added but can't be read yet: %s", error)
        else:
            log.info("reading %d added partitions: %s", len(fresh), ", ".join(f"{t}/{n}" for t, n in fresh))

    async def _rebootstrap_if_lost(self) -> None:
        if self.connected:
            self._lost_since = None
            return
        now = asyncio.get_running_loop().time()
        if self._lost_since is None:
            self._lost_since = now
        elif now - self._lost_since > _REBOOTSTRAP_S:
            # All brokers may have come back under other addresses; only the bootstrap names are known to hold.
            self._lost_since = now
            try:
                await self._client.bootstrap()
            except (kafka_errors.KafkaError, OSError, TimeoutError) as error:
                log.warning("no broker answers: %s", error)

    # Reading

    def _tend_readers(self) -> None:
        """See that every broker that leads something is read from, and which partitions are whose."""
        led: dict[int, list[Partition]] = {}
        for partition in self.positions:
            leader = self._leader(partition)
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
                    await self._deliver(fetched)
            finally:
                in_flight.difference_update(wanted)
            if fetched is None:
                await asyncio.sleep(retry_s)
                retry_s = min(2 * retry_s, _RETRY_MAX_S)
                continue
            retry_s = _RETRY_S
            if fetched:
                work_s = time.perf_counter() - answered_at
                rest = pause_s(work_s, self._linger_s) - work_s
                if rest > 0:
                    await asyncio.sleep(rest)

    async def _fetch(self, node_id: int, wanted: Sequence[Partition]) -> list[Fetched] | None:
        """One fetch. None: the broker did not answer. Positions move before the records are handed over."""
        session = self._sessions.setdefault(node_id, FetchSession())
        request = session.request(wanted, self.positions)
        try:
            response = await self._client.send(node_id, request, group=ConnectionGroup.COORDINATION)
        except (kafka_errors.KafkaError, OSError, TimeoutError) as error:
            session.reset()
            if self.connected:
                log.warning("broker %s does not answer a fetch: %r", node_id, error)
            self.connected = False
            self._client.force_metadata_update()
            return None
        if not self.connected:
            log.info("broker %s answers again", node_id)
        self.connected = True
        fetched: list[Fetched] = []
        if not session.accepts(response):
            return fetched
        for topic, answers in response.topics:
            for number, error_code, _, end_offset, _, aborted, *_, data in answers:
                partition = Partition(topic, number)
                if error_code:
                    await self._on_error(partition, error_code)
                    continue
                self.end_offsets[partition] = end_offset
                if not data:
                    continue
                position = self.positions[partition]
                decoded = decode_batches(data, position, aborted)
                if decoded.next_offset > position:
                    self.positions[partition] = decoded.next_offset
                    fetched.append(
                        Fetched(partition, decoded.records, decoded.next_offset, end_offset, decoded.skipped)
                    )
        return fetched

    async def _on_error(self, partition: Partition, error_code: int) -> None:
        error = kafka_errors.for_code(error_code)
        if error is kafka_errors.OffsetOutOfRangeError:
            await self._find_position_again(partition)
            return
        log.warning("%s/%d: %s", partition.topic, partition.partition, error.__name__)
        self._client.force_metadata_update()
        await asyncio.sleep(0.1)

    async def _find_position_again(self, partition: Partition) -> None:
        """Retention passed us by, or the log is another one: go on from the oldest record that is there."""
        try:
            oldest = (await self.offsets([partition], Start.EARLIEST))[partition]
        except (BrokerUnavailable, kafka_errors.KafkaError, OSError, TimeoutError) as error:
            log.warning(
                "%s/%d: position out of range, and no answer yet: %s", partition.topic, partition.partition, error
            )
            return
        log.error(
            "%s/%d: offset %d is gone; going on from %d",
            partition.topic,
            partition.partition,
            self.positions[partition],
            oldest,
        )
        self.positions[partition] = oldest


def _tell_wait(attempt: RetryCallState) -> None:
    error = attempt.outcome.exception() if attempt.outcome is not None else None
    # aiokafka's errors repeat their name; ours are whole sentences.
    text = str(error) if isinstance(error, BrokerUnavailable | kafka_errors.KafkaError) else repr(error)
    log.warning("can't read yet, next try in %.1f s: %s", attempt.upcoming_sleep, text)
