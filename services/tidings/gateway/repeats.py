"""Recognise a modification that stands twice in a partition by the id its producer gave it."""

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

__all__ = ["ID_BYTES", "REPEAT_RECORDS", "REPEAT_SECONDS", "Repeats", "id_of"]

REPEAT_SECONDS = 600.0
"""A repeat later than this (broker time) after the first may be delivered."""

REPEAT_RECORDS = 20_000
"""A repeat more records than this after the first may be delivered."""

_KEPT_BYTES: Final = 64
"""Longer ids, as a foreign producer may write them up to the size of a record, are kept as their hash."""

_FORGET_MS: Final = 86_400_000
"""Ids are not forgotten as soon as they are out of reach: a broker's clock that jumped ahead may come back."""

_KEPT_OFFSETS: Final = 10_000
"""Offsets of repeats that are remembered for those who read the partition again, and up to twice as many."""

ID_BYTES: Final = 240
"""What a known id takes; measured: 210 to 250 for ids of 16 to 64 bytes."""

_OFFSET_BYTES: Final = 8


_First = tuple[int, int, bytes]
"""The record that came first with an id: its number, its broker time, the id."""


class Repeats:
    """The ids seen in one partition.

    Only records that carry an id take room, however long it is: at most `REPEAT_RECORDS` entries, some 240 bytes each.

    Args:
        since_ms: Every record of the partition from that broker time on will be shown here. None: from the log's very
            beginning, so that nothing is unknown.

    Attributes:
        records: Records of the partition so far, with an id or without; the reader counts them here.
        exact_from: Of the records at this offset and behind it, it is known for certain which are repeats: all that
            they could repeat were seen. None while that can't be said of any. It may move on, see `was_repeat`.
        cuts: How often the log became shorter: what was read of it before the last time may be gone.
    """

    __slots__ = ("_complete_ms", "_found", "_order", "_seen", "cuts", "exact_from", "records")

    def __init__(self, since_ms: float | None) -> None:
        self._seen: dict[bytes, _First] = {}
        self._order: deque[_First] = deque()
        self._found = array("q")
        self._complete_ms = None if since_ms is None else since_ms + REPEAT_SECONDS * 1000
        self.records = 0
        self.cuts = 0
        self.exact_from: int | None = 0 if since_ms is None else None

    def __len__(self) -> int:
        return len(self._seen)

    @property
    def memory_bytes(self) -> int:
        """As estimated from the numbers of entries."""
        return len(self._seen) * ID_BYTES + len(self._found) * _OFFSET_BYTES

    def at(self, offset: int, timestamp_ms: int) -> None:
        """The next record of the partition; call it for each, in the order of the log, before `is_repeat`."""
        self.records += 1
        if self.exact_from is None and (
            self.records > REPEAT_RECORDS or (self._complete_ms is not None and timestamp_ms >= self._complete_ms)
        ):
            self.exact_from = offset

    def settle(self, next_offset: int) -> None:
        """The reader has come from `since_ms`, which was more than `REPEAT_SECONDS` before the log's end, to that end:
        whatever comes behind it is younger."""
        if self.exact_from is None:
            self.exact_from = next_offset

    def is_repeat(self, id_: bytes | None, offset: int, timestamp_ms: int) -> bool:
        """Whether the record now counted repeats one within reach; remembers it if not."""
        if id_ is None:
            return False
        if len(id_) > _KEPT_BYTES:
            id_ = sha256(id_).digest()
        order, seen = self._order, self._seen
        oldest_record = self.records - REPEAT_RECORDS
        oldest_ms = timestamp_ms - _FORGET_MS
        while order:
            oldest = order[0]
            if oldest[0] >= oldest_record and oldest[1] >= oldest_ms:
                break
            order.popleft()
            if seen.get(oldest[2]) is oldest:  # else it came again out of reach, and stands here once more
                del seen[oldest[2]]
        first = seen.get(id_)
        if first is not None and timestamp_ms - first[1] <= REPEAT_SECONDS * 1000:
            self._remember(offset)
            return True
        first = seen[id_] = (self.records, timestamp_ms, id_)
        order.append(first)
        return False

    def was_repeat(self, offset: int) -> bool:
        """Of a record at or behind `exact_from` that was shown here: what `is_repeat` said of it.

        Only the last of them that were repeats are remembered, so `exact_from` moves on: look at it each time.
        """
        place = bisect_left(self._found, offset)
        return place < len(self._found) and self._found[place] == offset

    def cut(self, position: int, end: int) -> None:
        """The log, which was seen up to `end`, was cut at `position` and goes on from there with other records."""
        self.cuts += 1
        del self._found[bisect_left(self._found, position) :]
        # An id whose only record is gone must not hide the one that its producer writes again. How many records went is
        # not known where offsets have holes: then a few ids too many are forgotten, and a repeat is better than a loss.
        last_left = self.records - (end - position)
        self._seen = {id_: first for id_, first in self._seen.items() if first[0] <= last_left}

    def _remember(self, offset: int) -> None:
        self._found.append(offset)
        if len(self._found) > 2 * _KEPT_OFFSETS:
            # What is forgotten here is no longer known: whoever reads from before it has to look for itself.
            del self._found[:_KEPT_OFFSETS]
            if self.exact_from is not None:
                self.exact_from = max(self.exact_from, self._found[0])


def id_of(headers: Sequence[tuple[str, bytes | None]]) -> bytes | None:
    """The modification's id, if its producer gave one."""
    for name, value in headers:
        if name == "id":
            return value or None
    return None
