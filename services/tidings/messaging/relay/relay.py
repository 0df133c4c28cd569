"""The relay of one process: its share of the outbox's shards, on their way to Kafka."""

import asyncio
import contextlib
from collections.abc import Collection
from typing import Final

import structlog

from tidings.config import KafkaSettings
from tidings.errors import DatabaseUnavailable
from tidings.messaging.domain.modification import SHARDS
from tidings.messaging.relay.locks import HEARTBEAT_S, LockSession
from tidings.messaging.relay.notify import Notifier
from tidings.messaging.relay.producing import ShardProducer
from tidings.messaging.relay.rows import OutboxRows
from tidings.messaging.relay.shard import Batching, Shard
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
    more. Uses up to 7 connections to Postgres besides the requests' pool. Event loop thread only.

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
        self._running: dict[int, tuple[Shard, asyncio.Task[None]]] = {}
        self._look = asyncio.Event()
        self._notifier = Notifier(dsn, on_news=self._news, on_change=self._changed)
        self._tasks: list[asyncio.Task[None]] = []
        self._session: LockSession | None = None
        self._failures = 0
        self._stopping = False
        metrics.on_scrape("tidings_relay_shards", lambda: len(self._running))
        metrics.counter("tidings_relay_records_total")

    @property
    def shards(self) -> frozenset[int]:
        """Those that this process relays now."""
        return frozenset(self._running)

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
        if elsewhere := [shard for shard in shards if shard not in self._running]:
            self._notifier.send(elsewhere)

    async def stop(self, timeout_s: float) -> None:
        """Finish the batches under way and hand the shards over, after at most `timeout_s` in any case."""
        if not self._tasks:
            return
        self._stopping = True
        shards = [task for _, task in self._running.values()]
        for shard, _ in self._running.values():
            shard.stop()
        if shards:
            await asyncio.wait(shards, timeout=timeout_s)
        locks, notifier, measure = self._tasks
        await _end([*shards, locks, measure])
        if self._session is not None:
            await self._session.close()
            self._notifier.send_change()
            await self._notifier.told(_FAREWELL_S)
        await _end([notifier])

    def _news(self, shards: Collection[int]) -> None:
        for number in shards:
            if number in self._running:
                self._running[number][0].wake()

    def _changed(self) -> None:
        self._look.set()
        self._news(tuple(self._running))

    async def _hold(self) -> None:
        """Be a member, and hold what is ours to hold."""
        while True:
            try:
                self._session = await LockSession.open(self._dsn, self._look.set)
                self._notifier.send_change()
                await self._balance(self._session)
            except DatabaseUnavailable as error:
                self._failures += 1
                self._metrics.counter("tidings_relay_failures_total", reason="lock").inc()
                if self._failures & (self._failures - 1) == 0:
                    log.warning("relay_lock_lost", failures=self._failures, detail=str(error))
            finally:
                for shard, _ in self._running.values():
                    shard.stop()
            await asyncio.sleep(_RETRY_S)

    async def _balance(self, session: LockSession) -> None:
        mine: set[int] = set()
        while True:
            self._look.clear()
            seen = await session.shares()
            self._failures = 0
            wanted = {
                shard for shard, member in share(range(SHARDS), seen.members, seen.holders).items() if member == seen.me
            }
            for shard in sorted(mine - wanted):
                if shard in self._running:
                    self._running[shard][0].stop()  # given below, in a later round, once nothing of it is under way
            for shard in sorted(mine - self._running.keys()):
                mine.discard(shard)
                await session.give(shard)
                self._notifier.send_change()
            for shard in sorted(wanted - mine - self._running.keys()):
                if not self._stopping and await session.take(shard):
                    mine.add(shard)
                    self._begin(shard, session)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._look.wait()

    def _begin(self, number: int, session: LockSession) -> None:
        shard = Shard(
            number,
            OutboxRows(self._dsn),
            lambda: ShardProducer(self._kafka, self._topic, number),
            session.verify,
            self._metrics,
            self._batching,
        )
        task = asyncio.create_task(shard.run(), name=f"relay-{number}")
        self._running[number] = shard, task
        task.add_done_callback(lambda task: self._ended(number, task))
        log.info("relay_shard_taken", shard=number)

    def _ended(self, number: int, task: asyncio.Task[None]) -> None:
        del self._running[number]
        self._look.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("relay_shard_broke", shard=number, exc_info=error)
        else:
            log.info("relay_shard_given", shard=number)

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
