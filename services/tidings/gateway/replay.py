"""What a cursor has missed: one connection on its way from there to where its node is."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from tidings.contract.record import Record, decode
from tidings.errors import ContractError
from tidings.gateway.window import Needle, Segment, Window

__all__ = ["Missed", "Older", "Replay"]

_SEGMENT_EFFORT: Final = 4
"""Looking whether a segment names a user costs about as much as searching this many records."""

_FOUND_EFFORT: Final = 8
"""Decoding a record and making its frame costs as much as searching this many."""

Older = Callable[[int, int], Segment | None]
"""Partition and offset, before the window's start, to a segment that holds or follows it; None: not here (yet)."""


class Missed(NamedTuple):
    """A record that the connection is owed."""

    partition: int
    offset: int
    record: Record


class Replay:
    """How far one connection is, and what it has to get before it can take part.

    It takes part once it is where the node is, in every partition: then what it gets live follows what it got here. A
    node may be behind the one that the client comes from; then it waits.

    Args:
        user: Whose records.
        positions: The cursor: per partition the next offset that the client needs; one not named counts as 0.
        since: When it began, in seconds.
        from_live: It took part before and was too slow.

    Attributes:
        positions: Per partition the next offset that the client needs, as far as it has come.
        wants: After `missed` ended: partitions and offsets that `older` did not have; empty: it needs nothing.
        older_bytes: Of values before the window's start, looked at so far.
        fetched_bytes: Fetched for it so far, to have those to look at.
        paid_bytes: Charged to its user so far.
        reading: Older records are being read for it.
        read_back: They were, at least once.
        waited_s: It has waited this long for such reads.
    """

    __slots__ = (
        "fetched_bytes",
        "from_live",
        "needle",
        "older_bytes",
        "paid_bytes",
        "positions",
        "read_back",
        "reading",
        "since",
        "waited_s",
        "wants",
    )

    def __init__(self, user: str, positions: Mapping[int, int], since: float, *, from_live: bool = False) -> None:
        self.needle = Needle(user)
        self.positions = dict(positions)
        self.since = since
        self.from_live = from_live
        self.wants: list[tuple[int, int]] = []
        self.older_bytes = 0
        self.fetched_bytes = 0
        self.paid_bytes = 0
        self.reading = False
        self.read_back = False
        self.waited_s = 0.0

    @property
    def user(self) -> str:
        return self.needle.user

    @property
    def owed_bytes(self) -> int:
        """What its user is still to be charged: the bytes fetched for it or those it looked at, whichever are more.

        So who shares what another has fetched pays too, and nobody pays twice for the same bytes.
        """
        return max(self.fetched_bytes, self.older_bytes) - self.paid_bytes

    def met(self, positions: Mapping[int, int]) -> bool:
        """Whether it is where the node is, everywhere."""
        return self.positions == positions

    def behind(self, positions: Mapping[int, int]) -> bool:
        """Whether the node is further anywhere."""
        return any(self.positions.get(partition, 0) < offset for partition, offset in positions.items())

    def missed(self, window: Window, positions: Mapping[int, int], older: Older, effort: int) -> Iterator[Missed]:
        """Its next records up to the node's positions, each partition in its own order.

        `self.positions` has moved past a record when it is given out, so the caller may stop at any of them.

        Args:
            effort: Records to search at most; one that is found counts as nine, a segment passed over as four.
        """
        self.wants = []
        needle = self.needle
        for partition, end in positions.items():
            offset = self.positions.setdefault(partition, 0)
            while offset < end and effort > 0:
                start = window.start(partition)
                before = start is None or offset < start
                segment = older(partition, offset) if before else window.segment_at(partition, offset)
                if segment is None:
                    if before:
                        self.wants.append((partition, offset))
                        break
                    self.positions[partition] = offset = end
                    break
                effort -= _SEGMENT_EFFORT
                stop = min(segment.end, end)
                if segment.may_name(needle):
                    for kept in segment.since(offset):
                        if kept.offset >= end:
                            break
                        effort -= 1
                        if before:
                            self.older_bytes += len(kept.value)
                        if needle.may_be_in(kept.value) and (record := _decoded(kept.value, needle.user)) is not None:
                            self.positions[partition] = kept.offset + 1
                            effort -= _FOUND_EFFORT
                            yield Missed(partition, kept.offset, record)
                        if effort <= 0:
                            stop = kept.offset + 1
                            break
                self.positions[partition] = offset = max(offset, stop)


def _decoded(value: bytes, user: str) -> Record | None:
    try:
        record = decode(value)
    except ContractError:
        return None
    return record if user in record.receivers else None
