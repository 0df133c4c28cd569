"""Who is told what a source reads, and in which pieces: the one interface between reading and what is done with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tidings.kafka.batches import LogRecord, SkippedRange
from tidings.kafka.fetch_session import Partition

__all__ = ["Fetched", "Reader"]


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one fetch brought of one partition.

    Attributes:
        partition: Which.
        records: In order; may be empty where the log has only holes.
        next_offset: The position after them.
        skipped: Batches that could not be decoded, between or behind the records.
    """

    partition: Partition
    records: Sequence[LogRecord]
    next_offset: int
    skipped: Sequence[SkippedRange]


class Reader(Protocol):
    """Who is told what a source reads. The calls for one partition come in order and never at once."""

    def begin(self, partition: Partition, offset: int, since_ms: float | None) -> None:
        """Reading starts here: at the start, with a partition that was added, or with a topic that was made anew.

        Args:
            since_ms: All that came to the partition from this time on will be shown. None: everything it ever held.
        """

    def jump(self, partition: Partition, offset: int, position: int) -> None:
        """Reading goes on from `position` in place of `offset`: what is between them, if anything, was lost."""

    async def deliver(self, fetched: Sequence[Fetched], more_in_s: float) -> None:
        """What one fetch brought, at least one partition; awaited before the next fetch from that broker.

        Args:
            more_in_s: So long from now records gather for the next fetch, if the load stays what it is; 0: it is made
                at once.
        """
