"""The shards of the outbox that this process holds, on their way to Kafka, in order."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec
import structlog

from tidings.errors import DatabaseUnavailable, DependencyError
from tidings.messaging.relay.producing import ProduceFailed
from tidings.messaging.relay.rows import Row
from tidings.metrics import Metrics

__all__ = ["Batching", "Carrier", "Outbox", "Sink"]

log = structlog.get_logger(__name__)

_RETRY_S: Final = 0.1
_RETRY_MAX_S: Final = 2.0


class Batching(msgspec.Struct, frozen=True, kw_only=True):
    """How much goes at once, and how often one looks without being told.

    Attributes:
        rows: At most so many records in one transaction.
        rows_bytes: And so many bytes; one bigger record goes alone.
        gather_rows: So many records in one transaction say that more will come.
        gather_s: Then the next one begins so long after it at the earliest, unless this one was full.
        poll_s: The longest that a row waits whose wake-up was lost.
    """

    rows: int = 500
    rows_bytes: int = 4 * 1024 * 1024
    gather_rows: int = 8
    gather_s: float = 0.01
    poll_s: float = 1.0


class Sink(Protocol):
    """What `producing.TransactionalProducer` does."""

    async def open(self) -> None: ...
    async def send(self, rows: list[Row]) -> None: ...
    async def commit(self) -> None: ...
    def close(self) -> None: ...


class Outbox(Protocol):
    """What `rows.OutboxRows` does."""

    async def advance(
        self, done: Sequence[int], shards: Sequence[int], *, limit: int, limit_bytes: int
    ) -> list[Row]: ...
    async def delete(self, ids: Sequence[int]) -> None: ...
    def close(self) -> None: ...


@dataclass(slots=True)
class _Suspect:
    """A shard that was in a batch which the broker refused. It goes in batches of its own until one is taken."""

    due: float
    refusals: int = 0


class Carrier:
    """The loop: read the lowest rows of all shards held, produce them in one transaction, commit, delete them.

    Deleted is only what Kafka has acknowledged, and every transaction begins at the lowest row that was there after its
    producer had shut out all others. So whatever breaks, and whoever goes on, a row reaches Kafka before all later ones
    of its chat, and again only with the same id. A record that the broker refuses stops its own shard only.

    Args:
        make_sink: A new producer; one is used until the first error.
        verify: Returns if this process still holds what it held when asked, else raises DatabaseUnavailable.
        on_free: Called when a shard that was dropped is no longer in `shards`.
    """

    def __init__(
        self,
        outbox: Outbox,
        make_sink: Callable[[], Sink],
        verify: Callable[[], Awaitable[None]],
        on_free: Callable[[], None],
        metrics: Metrics,
        batching: Batching,
    ) -> None:
        self._outbox = outbox
        self._make_sink = make_sink
        self._verify = verify
        self._on_free = on_free
        self._metrics = metrics
        self._batching = batching
        self._relayed = metrics.counter("tidings_relay_records_total")
        self._news = asyncio.Event()
        self._stopping = False
        self._held: set[int] = set()
        self._carried: frozenset[int] = frozenset()
        """Of which something may be under way."""
        self._unsettled: set[int] = set()
        self._suspects: dict[int, _Suspect] = {}
        self._acknowledged: list[int] = []
        """Rows that are in Kafka and perhaps still in the outbox."""
        self._decided = False

    @property
    def shards(self) -> frozenset[int]:
        """Those that are held, and those of which something is still under way."""
        return self._carried | self._held

    @property
    def decided(self) -> bool:
        """Whether it is known what became of every transaction: nothing of ours can come to Kafka by itself."""
        return self._decided

    def settled(self, shard: int) -> bool:
        """As `decided`, of a shard that was dropped and is no longer in `shards`."""
        return shard not in self._unsettled

    def add(self, shards: Collection[int]) -> None:
        """Carry these too. They must be locked, and their predecessors shut out."""
        self._held.update(shards)
        self._news.set()

    def drop(self, shard: int) -> None:
        """Carry it no more, from the next batch on; see `shards`."""
        if shard in self._held:
            self._held.discard(shard)
            self._suspects.pop(shard, None)
            self._news.set()

    def wake(self) -> None:
        """There may be new rows. Cost: constant."""
        self._news.set()

    def stop(self) -> None:
        """Have `run` return once the batch under way is done."""
        self._stopping = True
        self._news.set()

    async def run(self) -> None:
        """Carry until `stop`, through every outage of Kafka and of Postgres; then nothing of ours is under way."""
        try:
            failures = 0
            while not self._stopping:
                if failures:
                    await self._pause(_backoff_s(failures))
                failures = await self._attempt(failures)
        finally:
            self._outbox.close()

    async def _attempt(self, failures: int) -> int:
        """Carry with one producer until it fails or we stop; how often it has failed in a row."""
        before = self._relayed.value
        sink = self._make_sink()
        try:
            await sink.open()
            # Had we lost a shard before that, its new holder would not know that our name was opened again.
            await self._verify()
            self._decided = True
            await self._carry(sink)
        except DependencyError as error:
            if isinstance(error, ProduceFailed) and error.reason == "refused":
                failures = 0
                refusals = self._suspect()
            else:
                failures = refusals = 1 if self._relayed.value > before else failures + 1
            if not self._stopping:
                self._tell(error, refusals)
        finally:
            sink.close()
        return failures

    async def _carry(self, sink: Sink) -> None:
        limits = self._batching
        loop = asyncio.get_running_loop()
        begun, gather = 0.0, False
        while not self._stopping:
            if gather:
                # More by one transaction: it costs Kafka about as much for one record as for a hundred.
                await asyncio.sleep(max(0.0, begun + limits.gather_s - loop.time()))
            self._news.clear()
            if not self._carried <= self._held:
                await self._forget_acknowledged()  # else the next holder would produce it again
            self._choose(loop.time())
            begun = loop.time()
            rows = await self._advance()
            gather = limits.gather_rows <= len(rows) < limits.rows
            if rows:
                await self._produce(sink, rows)
            self._innocent()
            if not rows:
                await self._idle(self._next_look_s(loop.time()))
        await self._forget_acknowledged()

    def _choose(self, now: float) -> None:
        """What the next batch is of: everything held, or a suspect on its own."""
        before = self._carried
        suspects = [shard for shard, suspect in self._suspects.items() if suspect.due <= now]
        self._carried = frozenset(suspects[:1] or self._held - self._suspects.keys())
        if free := before - self._held:
            self._unsettled -= free
            if not self._decided:
                self._unsettled |= free
            self._on_free()

    async def _produce(self, sink: Sink, rows: list[Row]) -> None:
        self._decided = False
        await sink.send(rows)
        await sink.commit()
        self._decided = True
        self._acknowledged = [row.id for row in rows]
        self._relayed.inc(len(rows))

    async def _advance(self) -> list[Row]:
        """Forget what is in Kafka, and read what comes next."""
        if not self._carried:
            await self._forget_acknowledged()
            return []
        limits = self._batching
        rows = await self._outbox.advance(
            self._acknowledged, sorted(self._carried), limit=limits.rows, limit_bytes=limits.rows_bytes
        )
        self._acknowledged = []
        return rows

    async def _forget_acknowledged(self) -> None:
        if self._acknowledged:
            await self._outbox.delete(self._acknowledged)
            self._acknowledged = []

    def _suspect(self) -> int:
        """The broker refuses a record of the batch: try its shards one by one. How often in a row this was refused."""
        now = asyncio.get_running_loop().time()
        if len(self._carried) > 1:
            self._suspects.update((shard, _Suspect(now)) for shard in self._carried & self._held)
            return 1
        refusals = 1
        for shard in self._carried & self._held:
            suspect = self._suspects.setdefault(shard, _Suspect(now))
            suspect.refusals += 1
            suspect.due = now + _backoff_s(suspect.refusals)
            refusals = suspect.refusals
        return refusals

    def _innocent(self) -> None:
        """What was carried on its own goes with the others again, if it was a suspect."""
        if len(self._carried) == 1:
            (shard,) = self._carried
            self._suspects.pop(shard, None)

    def _next_look_s(self, now: float) -> float:
        soonest = min((suspect.due for suspect in self._suspects.values()), default=now + self._batching.poll_s)
        return max(0.0, min(self._batching.poll_s, soonest - now))

    async def _idle(self, timeout_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._news.wait()

    async def _pause(self, pause_s: float) -> None:
        """Wait before the next try; new rows are no reason to hurry, the end is."""
        deadline = asyncio.get_running_loop().time() + pause_s * (0.5 + random.random() / 2)  # noqa: S311 - jitter
        while not self._stopping and (left_s := deadline - asyncio.get_running_loop().time()) > 0:
            self._news.clear()
            self._choose(deadline)
            await self._idle(left_s)

    def _tell(self, error: DependencyError, failures: int) -> None:
        reason = "postgres" if isinstance(error, DatabaseUnavailable) else "kafka"
        if isinstance(error, ProduceFailed):
            reason = error.reason
        self._metrics.counter("tidings_relay_failures_total", reason=reason).inc()
        # An outage is told when it begins and then now and then, at ever longer distances.
        if failures & (failures - 1) == 0:
            tell = log.error if reason == "refused" else log.warning
            tell("relay_failed", shards=sorted(self._carried), reason=reason, failures=failures, detail=str(error))


def _backoff_s(failures: int) -> float:
    return min(_RETRY_MAX_S, _RETRY_S * float(2 ** min(failures - 1, 10)))
