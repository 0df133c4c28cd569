"""All partitions of some topics, read from the brokers without a group: the loop that fetches, decodes and hands over.

Built on aiokafka's connections, metadata and record parser, not on its `AIOKafkaConsumer`:
`docs/decisions/0002-own-fetch-loop.md` has the reasons.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import aiokafka.errors as kafka_errors
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential_jitter

from tidings.errors import BrokerUnavailable
from tidings.kafka.availability import Availability, Place
from tidings.kafka.batches import SkippedRange, decode_batches
from tidings.kafka.cluster import AWAY, Cluster
from tidings.kafka.fetch_session import FetchSession, Partition
from tidings.kafka.pacing import Load, Pacer
from tidings.kafka.positions import History, Positions
from tidings.kafka.reader import Fetched, Reader

__all__ = ["RecordSource"]

log = logging.getLogger(__name__)

_WATCH_S: Final = 0.5
_RETRY_S: Final = 0.2
_STUCK_FETCHES: Final = 10
_UNSEEN_S: Final = 1.0
"""Brokers answer a fetch within 0.5 s. After a longer silence, as of a process that was frozen, what happened meanwhile
is not known."""
_TOLD_WITHIN_S: Final = 2.0
"""So long records wait at most, and so often at most, for an answer about their topic that does not come."""


class RecordSource:
    """Reads every partition of its topics, `read_committed`, from the end; partitions added later from their beginning.

    One task per broker and topic fetches for all partitions of the topic that the broker leads: a broker looks at each
    partition of a fetch whenever one of them has something, so a topic where little happens is not asked for together
    with one where much does. What comes is handed over at once, so a record waits in no queue between the socket of
    the broker and those of the clients.

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
        self._positions = Positions(self.cluster, reader, history or {})
        self._replaced = replaced
        self._epoch = 0
        self._linger_s = linger_s
        self._load = Load(time.perf_counter())
        self._readers: dict[Place, asyncio.Task[None]] = {}
        self._led: dict[Place, list[Partition]] = {}
        self._in_flight: set[Partition] = set()
        self._sessions: dict[Place, FetchSession] = {}
        self._availability = Availability(lambda place: self.cluster.is_reachable(*place))
        self._stuck: dict[Partition, int] = {}
        self._doubted: set[Partition] = set()
        self._ask_from = 0.0
        self._answered_at: dict[Place, float] = {}
        self._ends: dict[Partition, int] = {}
        self.waiting_for: str | None = "the first answer"
        """What `start` waits for, in words; None once it is there."""

    @property
    def positions(self) -> Mapping[Partition, int]:
        """Next offset to read of every partition known; moves on by itself."""
        return self._positions.next_offset

    @property
    def ends_at_start(self) -> Mapping[Partition, int]:
        """Of the partitions with a history: where the log ended when reading started."""
        return self._positions.ends_at_start

    @property
    def connected(self) -> bool:
        """Whether every partition has a leader, and the last fetch from each was answered."""
        return self._availability.all_answer

    @property
    def reconnects(self) -> int:
        """How often a broker answered again after it had not, or no longer led what it did."""
        return self._availability.comebacks

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
                await self._positions.start()
        self._find_places()
        self.waiting_for = None

    async def run(self) -> None:
        """Read until cancelled. Call after `start`. Outages are waited out; positions stay."""
        try:
            while True:
                self._tend_readers()
                await asyncio.sleep(_WATCH_S)
                await self._positions.start_added()
                await self.cluster.find_again(silent=self._availability.some_silent)
        finally:
            for task in self._readers.values():
                task.cancel()
            await asyncio.gather(*self._readers.values(), return_exceptions=True)
            await self.close()

    async def close(self) -> None:
        """Close all connections to brokers."""
        await self.cluster.close()

    async def start_anew(self, topic: str, forget: Callable[[], None]) -> None:
        """The topic was deleted and made anew: read all of it, whatever its number of partitions is now.

        Args:
            forget: Called just before reading begins again.
        Raises:
            One of `AWAY`, and then nothing has changed.
        """
        oldest = await self._positions.oldest(topic)
        forget()
        self._epoch += 1  # what is being fetched was asked for with positions of the old topic
        self._doubted.clear()
        self._positions.replace(topic, oldest)
        self._tend_readers()

    async def look_for_partitions(self) -> None:
        """Fetch metadata now and start to read what was added.

        Raises:
            One of `AWAY`.
        """
        await self.cluster.refresh()
        await self._positions.start_added()

    def _tend_readers(self) -> None:
        """See that every broker that leads something is read from."""
        self._find_places()
        for place in self._led:
            task = self._readers.get(place)
            if task is not None and task.done() and not task.cancelled() and (failure := task.exception()) is not None:
                raise failure
            if task is None or task.done():
                self._readers[place] = asyncio.create_task(
                    self._read(place), name=f"fetch-{place.topic}-{place.broker}"
                )

    def _find_places(self) -> None:
        """Which partitions are whose, as far as it is known now."""
        led: dict[Place, list[Partition]] = {}
        all_led = True
        for partition in self.positions:
            leader = self.cluster.leader(partition)
            if leader is None:
                all_led = False
            else:
                led.setdefault(Place(leader, partition.topic), []).append(partition)
        self._led = led
        if self._availability.note_places(led, all_led=all_led):
            self._doubt_everything()

    def _doubt_everything(self) -> None:
        """What a broker that was silent says next may be about another topic of the same name."""
        self._doubted.update(self.positions)

    async def _read(self, place: Place) -> None:
        in_flight = self._in_flight
        pacer = Pacer(self._linger_s, self._load, time.perf_counter())
        while led := self._led.get(place):
            # A partition whose leader changed may still be in the hands of the other broker's reader.
            wanted = led if in_flight.isdisjoint(led) else [one for one in led if one not in in_flight]
            if not wanted:
                await asyncio.sleep(_WATCH_S)
                continue
            in_flight.update(wanted)
            try:
                fetched = await self._fetch(place, wanted)
                answered_at = time.perf_counter()
                if fetched:
                    await self._reader.deliver(fetched, self._linger_s if self._load.busy else 0.0)
            finally:
                in_flight.difference_update(wanted)
            if fetched is None:
                await self._availability.until_reachable(place)
            elif fetched:
                done_at = time.perf_counter()
                pause_s = pacer.pause_s(done_at - answered_at, done_at)
                if pause_s > 0:
                    await asyncio.sleep(pause_s)
            elif self._stuck:
                await asyncio.sleep(_RETRY_S)

    async def _fetch(self, place: Place, wanted: Sequence[Partition]) -> list[Fetched] | None:
        """One fetch. None: the broker did not answer. Positions move before the records are handed over."""
        session = self._sessions.setdefault(place, FetchSession())
        epoch = self._epoch
        # After a silence a broker is to say at once that it is there, not when there is something new.
        request = session.request(wanted, self.positions, wait=not self._availability.is_silent(place))
        try:
            response = await self.cluster.fetch(*place, request)
        except AWAY as error:
            session.reset()
            if self._availability.failed(place):
                log.warning("broker %s does not answer a fetch of %s: %r", *place, error)
            self.cluster.look_again()
            return None
        if self._availability.answered(place):
            self._doubt_everything()
            log.info("broker %s answers fetches of %s again", *place)
        now = time.monotonic()
        if now - self._answered_at.get(place, now) > _UNSEEN_S:
            self._doubted.update(wanted)
        self._answered_at[place] = now
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
        elif session.refusals > 1:
            refused = kafka_errors.for_code(response.error_code).__name__
            log.warning("broker %s refuses a fetch of %s: %s", *place, refused)
            self.cluster.look_again()
            await asyncio.sleep(_RETRY_S)
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
        self._positions.advance(
            partition, decoded.next_offset, decoded.records[-1].timestamp if decoded.records else None
        )
        return Fetched(partition, decoded.records, decoded.next_offset, decoded.skipped)

    async def _on_error(self, partition: Partition, error_code: int) -> None:
        error = kafka_errors.for_code(error_code)
        if error is kafka_errors.OffsetOutOfRangeError:
            if self._replaced is not None and await self._replaced():
                return
            if await self._positions.find_again(partition):
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
