"""One shard of the outbox on its way to Kafka, in order, for as long as this process holds it."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import msgspec
import structlog

from tidings.errors import DatabaseUnavailable, DependencyError
from tidings.messaging.relay.producing import ProduceFailed
from tidings.messaging.relay.rows import Row
from tidings.metrics import Metrics

__all__ = ["Batching", "Shard", "ShardOutbox", "ShardSink"]

log = structlog.get_logger(__name__)

_RETRY_S: Final = 0.1
_RETRY_MAX_S: Final = 2.0


class Batching(msgspec.Struct, frozen=True, kw_only=True):
    """How much goes at once, and how often one looks without being told.

    Attributes:
        rows: At most so many records in one transaction.
        rows_bytes: And so many bytes; one bigger record goes alone.
        poll_s: The longest that a row waits whose wake-up was lost.
    """

    rows: int = 500
    rows_bytes: int = 4 * 1024 * 1024
    poll_s: float = 1.0


class ShardSink(Protocol):
    """What `producing.ShardProducer` does."""

    async def open(self) -> None: ...
    async def send(self, rows: list[Row]) -> None: ...
    async def commit(self) -> None: ...
    def close(self) -> None: ...


class ShardOutbox(Protocol):
    """What `rows.OutboxRows` does."""

    async def lowest(self, shard: int, *, limit: int, limit_bytes: int) -> list[Row]: ...
    async def delete(self, ids: list[int]) -> None: ...
    def close(self) -> None: ...


class Shard:
    """The loop: read the lowest rows, produce them in one transaction, commit, delete them.

    Deleted is only what Kafka has acknowledged, and every transaction begins at the lowest row that was there after its
    producer had shut out all others. So whatever breaks, and whoever goes on, a row reaches Kafka before all later ones
    of its chat, and again only with the same id.

    Args:
        make_sink: A new producer; one is used until the first error.
        verify: Returns while this process holds the shard, else raises DatabaseUnavailable.
    """

    def __init__(
        self,
        number: int,
        outbox: ShardOutbox,
        make_sink: Callable[[], ShardSink],
        verify: Callable[[], Awaitable[None]],
        metrics: Metrics,
        batching: Batching,
    ) -> None:
        self.number = number
        self._outbox = outbox
        self._make_sink = make_sink
        self._verify = verify
        self._metrics = metrics
        self._batching = batching
        self._relayed = metrics.counter("tidings_relay_records_total")
        self._news = asyncio.Event()
        self._stopping = False
        self._acknowledged: list[int] = []
        """Rows that are in Kafka and perhaps still in the outbox."""

    def wake(self) -> None:
        """There may be new rows. Cost: constant."""
        self._news.set()

    def stop(self) -> None:
        """Have `run` return once the batch under way is done."""
        self._stopping = True
        self._news.set()

    async def run(self) -> None:
        """Relay until `stop`, through every outage of Kafka and of Postgres; then nothing of ours is under way."""
        try:
            failures = 0
            while not self._stopping:
                if failures:
                    await self._pause(min(_RETRY_MAX_S, _RETRY_S * 2 ** min(failures - 1, 10)))
                failures = await self._attempt(failures)
        finally:
            self._outbox.close()

    async def _attempt(self, failures: int) -> int:
        """Relay with one producer until it fails or we stop; how often it has failed in a row."""
        before = self._relayed.value
        sink = self._make_sink()
        try:
            await self._verify()  # or whoever holds the shard now would be shut out by `open`
            await sink.open()
            await self._verify()  # waiting for Kafka may have taken too long
            await self._relay(sink)
        except DependencyError as error:
            failures = 1 if self._relayed.value > before else failures + 1
            if not self._stopping:
                self._tell(error, failures)
        finally:
            sink.close()
        return failures

    async def _relay(self, sink: ShardSink) -> None:
        limits = self._batching
        while not self._stopping:
            self._news.clear()
            await self._forget_acknowledged()
            rows = await self._outbox.lowest(self.number, limit=limits.rows, limit_bytes=limits.rows_bytes)
            if not rows:
                await self._idle(limits.poll_s)
                continue
            # Together, as both only wait; nothing is seen by readers before the commit, and that comes after both.
            await _both(sink.send(rows), self._verify())
            await sink.commit()
            self._acknowledged = [row.id for row in rows]
            self._relayed.inc(len(rows))
        await self._forget_acknowledged()

    async def _forget_acknowledged(self) -> None:
        if self._acknowledged:
            await self._outbox.delete(self._acknowledged)
            self._acknowledged = []

    async def _idle(self, timeout_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._news.wait()

    async def _pause(self, pause_s: float) -> None:
        """Wait before the next try; new rows are no reason to hurry, the end is."""
        deadline = asyncio.get_running_loop().time() + pause_s * (0.5 + random.random() / 2)  # noqa: S311 - jitter
        while not self._stopping and (left_s := deadline - asyncio.get_running_loop().time()) > 0:
            self._news.clear()
            await self._idle(left_s)

    def _tell(self, error: DependencyError, failures: int) -> None:
        reason = "postgres" if isinstance(error, DatabaseUnavailable) else "kafka"
        if isinstance(error, ProduceFailed):
            reason = error.reason
        self._metrics.counter("tidings_relay_failures_total", reason=reason).inc()
        # An outage is told when it begins and then now and then, at ever longer distances.
        if failures & (failures - 1) == 0:
            tell = log.error if reason == "refused" else log.warning
            tell("relay_failed", shard=self.number, reason=reason, failures=failures, detail=str(error))


async def _both(first: Awaitable[None], second: Awaitable[None]) -> None:
    """Wait for both, also when one fails: neither may go on behind our back."""
    for result in await asyncio.gather(first, second, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
