"""What Kafka gives, routed and written in slices; poison and damage are told."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import structlog

from tidings.clock import Clock
from tidings.gateway.allowance import Allowance
from tidings.gateway.node import Node
from tidings.gateway.router import Poison, Routed
from tidings.gateway.stats import Stats
from tidings.kafka.fetch_session import Partition
from tidings.kafka.reader import Fetched
from tidings.log_limit import LogLimiter

__all__ = ["Consumer"]

log = structlog.get_logger(__name__)

SLICE_RECORDS: Final = 512
SLICE_BYTES: Final = 4 * 1024 * 1024
"""A slice ends after this many records or bytes handed to connections; then sockets may drain before the next."""
_STEP_RECORDS: Final = 64
_GATHER_TURNS: Final = 2
"""A frame that waits for a second one is written after this many pauses at the latest; the next fetch is sooner."""
_LATE_MS: Final = 1_000
"""Records older than this are an outage's, and nobody expects them at once: those who read may keep up."""
_DRAIN_TURN_S: Final = 0.02
_DRAIN_TURNS: Final = 25
"""So a slice of an outage waits half a second at most for sockets that do take bytes."""
_PATIENCE_S: Final = 10.0
_PATIENCE_SHARE: Final = 0.05
"""All slices together wait this long, and then for this share of the time: one client that reads slowly on purpose, or
a clock that is wrong, holds nobody else up."""


class Consumer:
    """Takes what a `RecordSource` fetched. Per slice: all records routed, then one write per connection, if not
    with the next one.

    Args:
        modifications: Name of that topic; all other topics are signals.
    """

    def __init__(self, node: Node, stats: Stats, clock: Clock, modifications: str) -> None:
        self._node = node
        self._stats = stats
        self._clock = clock
        self._modifications = modifications
        self._log_limiter = LogLimiter(limit=5, interval_s=10.0)
        self._patience = Allowance(_PATIENCE_SHARE, _PATIENCE_S, clock.monotonic())
        self._epoch = 0
        self._gathered: asyncio.TimerHandle | None = None
        self.warming = True
        """Nobody is connected yet: records are only remembered, not counted as unheard."""

    def begin(self, partition: Partition, offset: int, since_ms: float | None) -> None:
        """See `Reader`."""
        if partition.topic == self._modifications:
            self._node.router.begin(partition.partition, offset, since_ms)

    def jump(self, partition: Partition, offset: int, position: int) -> None:
        """See `Reader`. Who is connected has missed something, or is on a log that was cut: their chain ends here."""
        if partition.topic == self._modifications:
            self._node.router.jump(partition.partition, position)
            self._node.resync_all("expired" if position > offset else "ahead")

    def replaced(self, log_tag: str) -> None:
        """The topic was made anew; call it before `begin` is called for its partitions."""
        self._epoch += 1
        self._node.router.forget()
        self._node.router.log = log_tag

    async def deliver(self, fetched: Sequence[Fetched], more_in_s: float) -> None:
        """Route one fetch. Waits only between slices, which a fetch under normal load does not fill.

        Where more comes soon, a frame that is alone for its connection waits for it, `_GATHER_TURNS` times as long at
        most.
        """
        router = self._node.router
        epoch = self._epoch
        routed = Routed()
        started = time.perf_counter()
        routed_records = 0
        for part in fetched:
            topic, partition = part.partition
            for skipped in part.skipped:
                self._stats.skipped_batch(skipped.reason)
                log.error(
                    "batch_skipped",
                    topic=topic,
                    partition=partition,
                    first_offset=skipped.first_offset,
                    next_offset=skipped.next_offset,
                    reason=skipped.reason,
                    detail=skipped.detail,
                )
            records = part.records
            if topic != self._modifications:
                router.route_signals(topic, partition, records, routed)
                continue
            if epoch != self._epoch:
                continue  # read from a log that is no more
            for first in range(0, len(records), _STEP_RECORDS):
                step = records[first : first + _STEP_RECORDS]
                router.route_modifications(topic, partition, step, step[-1].offset + 1, routed)
                routed_records += len(step)
                if routed_records >= SLICE_RECORDS or routed.bytes >= SLICE_BYTES:
                    self._finish(routed, started)
                    await self._pause(records[-1].timestamp)
                    routed, started, routed_records = Routed(), time.perf_counter(), 0
                    if epoch != self._epoch:
                        break
            else:
                router.route_modifications(topic, partition, (), part.next_offset, routed)
        self._finish(routed, started, gather=more_in_s > 0)
        if self._gathered is not None:
            self._gathered.cancel()
            self._gathered = None
        if self._node.gathering:
            loop = asyncio.get_running_loop()
            self._gathered = loop.call_later(_GATHER_TURNS * more_in_s, self._node.write_gathered)

    async def _pause(self, newest_ms: int) -> None:
        """Let sockets drain between two slices: for a moment, and longer where an outage left much to catch up with."""
        await asyncio.sleep(0)
        if self._clock.now() * 1000 - newest_ms < _LATE_MS:
            return
        for _ in range(_DRAIN_TURNS):
            if not self._node.draining_backlogs() or not self._patience.take(_DRAIN_TURN_S, self._clock.monotonic()):
                return
            await asyncio.sleep(_DRAIN_TURN_S)

    def _finish(self, routed: Routed, started: float, *, gather: bool = False) -> None:
        stats = self._stats
        encoded = time.perf_counter()
        self._node.write(routed, gather=gather)
        self._node.routed()
        flushed = time.perf_counter()
        stats.gathered(len(self._node.gathering))
        stats.encode_s.observe(encoded - started)
        stats.flush_s.observe(flushed - encoded)
        if self.warming:
            stats.warmed(sum(routed.outcomes.values()))
            return
        stats.routed(routed, self._clock.now() * 1000)
        self._node.disconnect(routed.disconnects)
        for poison in routed.poison:
            self._tell(poison)

    def _tell(self, poison: Poison) -> None:
        if self._log_limiter.admit(poison.reason, self._clock.monotonic()):
            log.warning(
                "poison_record",
                topic=poison.topic,
                partition=poison.partition,
                offset=poison.offset,
                reason=poison.reason,
                detail=poison.detail,
            )

    def tell_suppressed(self) -> None:
        """How many poison records were not told one by one; call it now and then."""
        for reason, count in self._log_limiter.summaries(self._clock.monotonic()):
            log.warning("poison_records_not_told", reason=reason, count=count)
