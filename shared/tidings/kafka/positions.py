"""Where the reading of each partition starts and goes on: from the end, from before it, or from the beginning."""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import aiokafka.errors as kafka_errors

from tidings.errors import BrokerUnavailable
from tidings.kafka.batches import newest_ms
from tidings.kafka.cluster import AWAY, Cluster, Start
from tidings.kafka.fetch_session import Partition
from tidings.kafka.reader import Reader

__all__ = ["History", "Positions"]

log = logging.getLogger(__name__)

_CLOCKS_APART_MS: Final = 5_000
_LAST_BATCH_BYTES: Final = 4_096
"""A larger batch comes whole all the same."""
_CUT_AFTER_S: Final = 5.0
"""A broker that was frozen learns within about a second what has become of its partitions."""


@dataclass(frozen=True, slots=True)
class History:
    """How far before the end of a topic reading starts.

    Attributes:
        age_s: Records up to this much older than the newest one are read again.
        offsets: But no more than this many offsets of a partition.
    """

    age_s: float
    offsets: int


class Positions:
    """The next offset to read of every partition that is read. In memory only: no group, no commits.

    Args:
        cluster: Asked for partitions and offsets; open before anything is called here.
        reader: Told of every start and every jump, after the position was set.
        history: Topics that are read from before their end.
    """

    def __init__(self, cluster: Cluster, reader: Reader, history: Mapping[str, History]) -> None:
        self._cluster = cluster
        self._reader = reader
        self._history = history
        self._last_ms: dict[Partition, int] = {}
        self._short_since: dict[Partition, tuple[float, float]] = {}
        self.next_offset: dict[Partition, int] = {}
        """Of every partition known."""
        self.ends_at_start: dict[Partition, int] = {}
        """Of the partitions with a history: where the log ended when reading started."""

    def advance(self, partition: Partition, next_offset: int, last_ms: int | None) -> None:
        """What is before `next_offset` was read.

        Args:
            last_ms: The time of the last record that was read with it; None: there was none.
        """
        self.next_offset[partition] = next_offset
        if self._short_since:
            self._short_since.pop(partition, None)
        if last_ms is not None:
            self._last_ms[partition] = last_ms

    async def start(self) -> None:
        """Start with every partition there is: at its end, or as its topic's history says.

        Raises:
            One of `AWAY`. Some have started then; called again, it starts all of them anew.
        Cost: a question to each leader, two for each topic with a history, and two for each partition of such a topic.
        """
        known = self._cluster.partitions()
        await self._adopt([one for one in known if one.topic not in self._history], Start.LATEST)
        for topic, history in self._history.items():
            await self._adopt_with_history([one for one in known if one.topic == topic], history)

    async def start_added(self) -> None:
        """Start with the partitions that were added. Where no broker answers, they are left for the next call."""
        added = [partition for partition in self._cluster.partitions() if partition not in self.next_offset]
        if not added:
            return
        try:
            # From the beginning: what was written to it before anybody here knew of it must not be lost.
            await self._adopt(added, Start.EARLIEST)
        except AWAY as error:
            log.warning("partitions were added but can't be read yet: %s", error)
        else:
            log.info("reading %d added partitions: %s", len(added), ", ".join(f"{t}/{n}" for t, n in added))

    async def oldest(self, topic: str) -> dict[Partition, int]:
        """The first offset of each partition that the topic has now, for `replace`; nothing has changed yet.

        Raises:
            One of `AWAY`.
        """
        await self._cluster.refresh()
        partitions = [one for one in self._cluster.partitions() if one.topic == topic]
        oldest = await self._cluster.offsets(partitions, Start.EARLIEST)
        return {partition: oldest[partition] or 0 for partition in partitions}

    def replace(self, topic: str, oldest: Mapping[Partition, int]) -> None:
        """The topic is another one, with these partitions: all of it is read."""
        for gone in [one for one in self.next_offset if one.topic == topic]:
            del self.next_offset[gone]
            self._short_since.pop(gone, None)
        for partition, offset in oldest.items():
            self._begin(partition, offset, None)

    async def find_again(self, partition: Partition) -> bool:
        """A broker said that the position is out of the log's range. False: it isn't, or not for sure yet; ask again.

        Behind the log's start, as after retention: go on from the start. Ahead of its end (an unclean election cut
        it): believed only after `_CUT_AFTER_S` in which nobody said otherwise, for a broker that was frozen while
        another one became leader still takes itself for it. Then go on from the first record younger than the last
        one read, so that nothing old is shown again and nothing new is left out. Where no broker answers, it stays.
        """
        position = self.next_offset[partition]
        try:
            oldest = (await self._cluster.offsets([partition], Start.EARLIEST))[partition]
            end = (await self._cluster.offsets([partition], Start.LATEST))[partition]
            if oldest is None or end is None:
                return False
            going_on = oldest
            if position >= oldest:
                if not self._is_cut(partition, position > end):
                    return False
                younger_ms = self._last_ms[partition] + 1
                young = (await self._cluster.offsets([partition], younger_ms))[partition]
                going_on = end if young is None else young
        except AWAY as error:
            log.warning("%s/%d: position out of range, and no answer yet: %s", *partition, error)
            return False
        self._short_since.pop(partition, None)
        log.error("%s/%d: offset %d is out of range; going on from %d", *partition, position, going_on)
        self.next_offset[partition] = going_on
        self._reader.jump(partition, position, going_on)
        return True

    def _is_cut(self, partition: Partition, short: bool) -> bool:
        """Whether the log has been seen to end before our position for long enough. Each look must be soon after the
        one before, as between two fetches that fail, or it begins anew."""
        now = time.monotonic()
        first, last = self._short_since.pop(partition, (now, now))
        if not short:
            return False
        if now - last > _CUT_AFTER_S:
            first = now
        self._short_since[partition] = (first, now)
        return now - first >= _CUT_AFTER_S

    async def _adopt(self, partitions: Sequence[Partition], start: Start) -> None:
        now_ms = int(time.time() * 1000)
        for partition, offset in (await self._cluster.offsets(partitions, start)).items():
            if offset is None:
                raise BrokerUnavailable(f"{partition.topic}/{partition.partition}: no offset")
            self._begin(partition, offset, None if start is Start.EARLIEST else now_ms)

    async def _adopt_with_history(self, partitions: Sequence[Partition], history: History) -> None:
        ends = await self._cluster.offsets(partitions, Start.LATEST)
        oldest = await self._cluster.offsets(partitions, Start.EARLIEST)
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
        error_code, data, _ = await self._cluster.fetch_once(partition, end - 1, _LAST_BATCH_BYTES)
        if error_code:
            self._cluster.look_again()
            error = kafka_errors.for_code(error_code).__name__
            raise BrokerUnavailable(f"{partition.topic}/{partition.partition}: its last record can't be read ({error})")
        newest = newest_ms(data)
        since_ms = max(0, int((time.time() * 1000 if newest is None else newest) - history.age_s * 1000))
        young = (await self._cluster.offsets([partition], since_ms))[partition]
        offset = end if young is None else max(first, young)
        shown_since: float = since_ms
        if offset < end - history.offsets:
            offset, shown_since = end - history.offsets, math.inf
        return (first, None) if offset <= first else (offset, shown_since)

    def _begin(self, partition: Partition, offset: int, since_ms: float | None) -> None:
        self.next_offset[partition] = offset
        self._last_ms[partition] = int(time.time() * 1000) - _CLOCKS_APART_MS
        self._reader.begin(partition, offset, since_ms)
