"""The loop that is the gateway: what Kafka gives is routed and written in slices, poison and damage are told."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import structlog

from tidings.clock import Clock
from tidings.gateway.node import Node
from tidings.gateway.router import Poison, Routed
from tidings.gateway.stats import Stats
from tidings.kafka.source import Fetched
from tidings.log_limit import LogLimiter

__all__ = ["Consumer"]

log = structlog.get_logger(__name__)

SLICE_RECORDS: Final = 512
SLICE_BYTES: Final = 4 * 1024 * 1024
"""A slice ends after this many records or bytes handed to connections; then sockets may drain before the next."""
_STEP_RECORDS: Final = 64


class Consumer:
    """Takes what a `RecordSource` fetched. Per slice: all records routed, then one write per connection.

    Args:
        modifications: Name of that topic; all other topics are signals.
    """

    def __init__(self, node: Node, stats: Stats, clock: Clock, modifications: str) -> None:
        self._node = node
        self._stats = stats
        self._clock = clock
        self._modifications = modifications
        self._log_limiter = LogLimiter(limit=5, interval_s=10.0)

    async def deliver(self, fetched: Sequence[Fetched]) -> None:
        """Route one fetch. Waits only between slices, which a fetch under normal load does not fill."""
        router = self._node.router
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
            for first in range(0, len(records), _STEP_RECORDS):
                step = records[first : first + _STEP_RECORDS]
                router.route_modifications(topic, partition, step, step[-1].offset + 1, routed)
                routed_records += len(step)
                if routed_records >= SLICE_RECORDS or routed.bytes >= SLICE_BYTES:
                    self._finish(routed, started)
                    await asyncio.sleep(0)
                    routed, started, routed_records = Routed(), time.perf_counter(), 0
            router.positions[partition] = part.next_offset
        self._finish(routed, started)

    def _finish(self, routed: Routed, started: float) -> None:
        stats = self._stats
        encoded = time.perf_counter()
        self._node.flush(routed.touched)
        flushed = time.perf_counter()
        stats.encode_s.observe(encoded - started)
        stats.flush_s.observe(flushed - encoded)
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
