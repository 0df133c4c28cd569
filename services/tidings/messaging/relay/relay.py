"""The relay of one process: its share of the outbox's shards, on their way to Kafka."""

import asyncio
import contextlib
from collections.abc import Collection
from typing import Final
from uuid import uuid4

import structlog

from tidings.config import KafkaSettings
from tidings.errors import DatabaseUnavailable
from tidings.messaging.domain.modification import SHARDS
from tidings.messaging.relay.carrier import Batching, Carrier
from tidings.messaging.relay.locks import HEARTBEAT_S, LockSession
from tidings.messaging.relay.notify import Notifier
from tidings.messaging.relay.producing import ProduceFailed, TransactionalProducer, shut_out
from tidings.messaging.relay.rows import OutboxRows
from tidings.messaging.relay.sharing import share
from tidings.metrics import Metrics

__all__ = ["Relay"]

log = structlog.get_logger(__name__)

_RETRY_S: Final = 0.5
_MEASURE_S: Final = 1.0
_MEASURE_SHARE: Final = 0.02
_FAREWELL_S: Final = 0.5


class Relay:
    """Carries the outbox's rows to Kafka, in order within each chat; several processes share the shards.

    A process that dies, vanishes or freezes loses its shards to the others within 5 s, and can't write to Kafka any
    more. Uses up to 4 connections to Postgres besides the requests' pool. Event loop thread only.

    Args:
        dsn: Of Postgres itself: session locks and LISTEN don't work through a transaction pooler.
        topic: Where modifications go.
    """

    def __init__(
        self, dsn: str, kafka: KafkaSettings, topic: str, metrics: Metrics, batching: Batching | None = None
    ) -> None:
        self._dsn = dsn
        self._kafka = kafka
        self._topic = topic
        self._metrics = metrics
        self._batching = batching or Batching()
        self._name = uuid4().hex
        self._carrier: Carrier | None = None
        self._carrying: asyncio.Task[None] | None = None
        self._session: LockSession | None = None
        self._entering: set[int] = set()
        """Shards whose predecessors are being shut out."""
        self._look = asyncio.Event()
        self._notifier = Notifier(dsn, on_news=self._news, on_change=self._changed)
        self._tasks: list[asyncio.Task[None]] = []
        self._failures = 0
        self._stopping = False
        metrics.on_scrape("tidings_relay_shards", lambda: len(self.shards))
        metrics.counter("tidings_relay_records_total")

    @property
    def shards(self) -> frozenset[int]:
        """Those that this process relays now."""
        return frozenset() if self._carrier is None else self._carrier.shards

    async def start(self) -> None:
        """Begin, and go on through every outage of Postgres or Kafka until `stop`. Waits for neither."""
        self._tasks = [
            asyncio.create_task(self._hold(), name="relay-locks"),
            asyncio.create_task(self._notifier.run(), name="relay-notify"),
            asyncio.create_task(self._measure(), name="relay-measure"),
        ]

    def wake(self, shards: Collection[int]) -> None:
        """Rows of these shards were just committed. Cost: constant; what is relayed elsewhere is told there."""
        self._news(shards)
        if elsewhere := [shard for shard in shards if shard not in self.shards]:
            self._notifier.send(elsewhere)

    async def stop(self, timeout_s: float) -> None:
        """Finish the batch under way and hand the shards over, after at most `timeout_s` in any case."""
        if not self._tasks:
            return
        self._stopping = True
        if self._carrier is not None and self._carrying is not None:
            self._carrier.stop()
            await asyncio.wait([self._carrying], timeout=timeout_s)
        locks, notifier, measure = self._tasks
        await _end([locks, measure])
        if self._session is not None:
            with contextlib.suppress(DatabaseUnavailable):
                if self._carrier is not None and self._carrier.decided:
                    await self._session.leave(range(SHARDS))
            await self._session.close()
            self._notifier.send_change()
            await self._notifier.told(_FAREWELL_S)
        await _end([notifier])

    def _news(self, shards: Collection[int]) -> None:
        if self._carrier is not None and not self._carrier.shards.isdisjoint(shards):
            self._carrier.wake()

    def _changed(self) -> None:
        self._look.set()
        if self._carrier is not None:
            self._carrier.wake()

    async def _hold(self) -> None:
        """Be a member, and hold what is ours to hold."""
        while True:
            try:
                self._session = await LockSession.open(self._dsn, self._name, self._look.set)
                await self._take_part(self._session)
            except DatabaseUnavailable as error:
                self._failures += 1
                self._metrics.counter("tidings_relay_failures_total", reason="lock").inc()
                if self._failures & (self._failures - 1) == 0:
                    log.warning("relay_lock_lost", failures=self._failures, detail=str(error))
            await asyncio.sleep(_RETRY_S)

    async def _take_part(self, session: LockSession) -> None:
        """Carry what is ours until the session is lost; what it leaves undecided, whoever comes next shuts out."""
        carrier = self._carrier = Carrier(
            OutboxRows(self._dsn),
            lambda: TransactionalProducer(self._kafka, self._topic, session.name),
            session.verify,
            self._look.set,
            self._metrics,
            self._batching,
        )
        carrying = self._carrying = asyncio.create_task(carrier.run(), name="relay-carrier")
        carrying.add_done_callback(lambda _: self._look.set())
        entering: set[asyncio.Task[None]] = set()
        try:
            self._notifier.send_change()
            await self._balance(session, carrier, carrying, entering)
        finally:
            await _end([carrying, *entering])
            self._entering.clear()

    async def _balance(
        self, session: LockSession, carrier: Carrier, carrying: asyncio.Task[None], entering: set[asyncio.Task[None]]
    ) -> None:
        mine: set[int] = set()
        while True:
            self._look.clear()
            seen = await session.shares()
            self._failures = 0
            if carrying.done() and not self._stopping:
                log.error("relay_broke", exc_info=carrying.exception())
                session.abandon()
                raise DatabaseUnavailable("left, so that others can relay what this process can't")
            wanted = {
                shard for shard, member in share(range(SHARDS), seen.members, seen.holders).items() if member == seen.me
            }
            for shard in mine - wanted:
                carrier.drop(shard)
            for shard in sorted(mine - carrier.shards - self._entering):
                mine.discard(shard)
                if carrier.settled(shard):
                    await session.leave([shard])
                await session.give(shard)
                log.info("relay_shard_given", shard=shard)
                self._notifier.send_change()
            taken = [shard for shard in sorted(wanted - mine) if not self._stopping and await session.take(shard)]
            if taken:
                mine.update(taken)
                self._entering.update(taken)
                task = asyncio.create_task(self._enter(session, carrier, taken), name="relay-enter")
                entering.add(task)
                task.add_done_callback(entering.discard)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._look.wait()

    async def _enter(self, session: LockSession, carrier: Carrier, taken: Collection[int]) -> None:
        """Carry these shards from now on, once nobody before us can write them any more."""
        try:
            for name in await session.predecessors(taken):
                await self._shut_out(name)
            await session.enter(taken)
            carrier.add(taken)
            log.info("relay_shards_taken", shards=sorted(taken))
        except DatabaseUnavailable:
            pass  # the session is lost, as `_balance` will learn
        finally:
            self._entering.difference_update(taken)
            self._look.set()

    async def _shut_out(self, name: str) -> None:
        while True:
            try:
                return await shut_out(self._kafka, self._topic, name)
            except ProduceFailed as error:
                self._metrics.counter("tidings_relay_failures_total", reason=error.reason).inc()
                log.warning("relay_predecessor_not_shut_out", detail=str(error))
                await asyncio.sleep(_RETRY_S)

    async def _measure(self) -> None:
        """Keep the outbox's metrics, at a bounded share of Postgres's time however long the outbox is."""
        rows = OutboxRows(self._dsn)
        pending = self._metrics.gauge("tidings_outbox_pending")
        oldest = self._metrics.gauge("tidings_outbox_oldest_seconds")
        loop = asyncio.get_running_loop()
        try:
            while True:
                started = loop.time()
                with contextlib.suppress(DatabaseUnavailable):
                    found = await rows.pending()
                    pending.set(found.rows)
                    oldest.set(found.oldest_s)
                await asyncio.sleep(max(_MEASURE_S, (loop.time() - started) / _MEASURE_SHARE))
        finally:
            rows.close()


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
