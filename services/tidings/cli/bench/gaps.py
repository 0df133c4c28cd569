"""What happens while a client is away: records for it among records for others, spread over all partitions."""

import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

from confluent_kafka import Producer

from tidings.cli.bench.processes import BenchFault
from tidings.cli.bench.producer import options_of
from tidings.cli.bench.shapes import POOL, Shape, load_of, users

__all__ = ["Gaps"]

_STRANGERS: Final = 1_000
_RECEIVERS: Final = 10
_APART: Final = 1_300
"""Records per partition that lie between two gaps when they shall have nothing in common. The gateway goes on with a
read from before, instead of opening one, for an offset up to 1,024 ahead of it, and starts at a multiple of 256."""
_FLUSH_S: Final = 60
_STAMP: Final = b"1764867600000000000"


class Gaps:
    """Writes gaps to a topic that nobody else writes to, each record for ten users.

    Attributes:
        ends: Per partition the offset behind the last record sent.
    """

    def __init__(self, bootstrap: str, topic: str, seed: int) -> None:
        self._topic = topic
        self._rng = random.Random(seed)  # noqa: S311  a reproducible load, no secret
        # As shapes have them, from people who never connect.
        strangers = users(_STRANGERS, seed + 1)
        load = load_of(Shape(_STRANGERS, _RECEIVERS, 1), strangers, seed)
        self._values = [head + _STAMP + tail for head, tail in zip(load.heads, load.tails, strict=True)]
        self._firsts = [strangers[chosen[0]].encode() for chosen in load.receivers]
        self._small = b'{"receivers":["%b"],"type":"update","data":{}}' % strangers[0].encode()
        # Batches of 5 ms, as from busy producers; silent, for when it outlives the Kafka of a bench that failed.
        own = {"linger.ms": 5, "queue.buffering.max.messages": 500_000, "log_level": 0}
        self._producer: Any = Producer(options_of(bootstrap) | own)
        partitions = self._producer.list_topics(topic, timeout=30).topics[topic].partitions
        self.ends: dict[int, int] = dict.fromkeys(sorted(partitions), 0)

    def reached(self, cursor: Mapping[int, int]) -> bool:
        """Whether who stands there has seen all that was sent."""
        return all(cursor.get(partition, 0) >= end for partition, end in self.ends.items())

    def part(self) -> None:
        """Leave so many small records behind that the next gap is far from the last one."""
        for partition in self.ends:
            for _ in range(_APART):
                self._send(partition, self._small)
        self._flush()

    def send(self, people: Sequence[str], others: int) -> None:
        """One record for each entry of `people` and `others` for strangers, in random order, partitions in turn.

        Raises:
            BenchFault: Not all were acknowledged.
        """
        whose: list[str] = [*people, *[""] * others]
        self._rng.shuffle(whose)
        for number, user in enumerate(whose):
            index = self._rng.randrange(POOL)
            value = self._values[index]
            if user:
                # All ids have the same length, and the first receiver stands before anything that repeats it.
                value = value.replace(self._firsts[index], user.encode(), 1)
            self._send(number % len(self.ends), value)
        self._flush()

    def _send(self, partition: int, value: bytes) -> None:
        self._producer.produce(self._topic, value, partition=partition)
        self.ends[partition] += 1

    def _flush(self) -> None:
        left = self._producer.flush(_FLUSH_S)
        if left:
            raise BenchFault(f"{left} records not acknowledged after {_FLUSH_S} s")
