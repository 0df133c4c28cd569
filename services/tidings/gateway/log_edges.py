"""How far a topic's partitions reach, asked of the brokers for all who want to know at about the same time."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tidings.clock import Clock
from tidings.kafka.cluster import Cluster, Start
from tidings.kafka.fetch_session import Partition

__all__ = ["LogEdges"]

_KEPT_S: Final = 0.2
"""An answer serves all who ask within this time: a storm of resumes is one question, not one each."""


class LogEdges:
    """First offsets and ends of all partitions of a topic.

    Args:
        known: The partitions that the node reads.
    """

    def __init__(self, cluster: Cluster, topic: str, known: Callable[[], Sequence[int]], clock: Clock) -> None:
        self._cluster = cluster
        self._topic = topic
        self._known = known
        self._clock = clock
        self._asked: dict[Start, tuple[float, asyncio.Task[dict[int, int]]]] = {}

    async def ends(self) -> Mapping[int, int]:
        """Behind the last record that a reader of committed records may see. At most 0.2 s old.

        Raises:
            One of `AWAY`.
        """
        return await self._edges(Start.LATEST)

    async def starts(self) -> Mapping[int, int]:
        """The first offsets that are still there.

        Raises:
            One of `AWAY`.
        """
        return await self._edges(Start.EARLIEST)

    async def _edges(self, at: Start) -> Mapping[int, int]:
        now = self._clock.monotonic()
        asked_at, task = self._asked.get(at, (0.0, None))
        if task is None or now - asked_at > _KEPT_S:
            task = asyncio.create_task(self._ask(at), name="log-edges")
            self._asked[at] = (now, task)
        return await asyncio.shield(task)

    async def _ask(self, at: Start) -> dict[int, int]:
        partitions = [Partition(self._topic, number) for number in self._known()]
        found = await self._cluster.offsets(partitions, at)
        return {partition.partition: offset or 0 for partition, offset in found.items()}
