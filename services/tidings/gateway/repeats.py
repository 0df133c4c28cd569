"""Recognise a modification that stands twice in a partition by the id its producer gave it."""

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

__all__ = ["REPEAT_RECORDS", "REPEAT_SECONDS", "Repeats", "id_of"]

REPEAT_SECONDS = 600.0
"""A repeat later than this (broker time) after the first may be delivered."""

REPEAT_RECORDS = 20_000
"""A repeat more records than this after the first may be delivered."""

_KEPT_BYTES: Final = 64
"""Longer ids, as a foreign producer may write them up to the size of a record, are kept as their hash."""

_KEPT_OFFSETS: Final = 10_000
"""Offsets of repeats that are remembered for those who read the partition again; 8 bytes each."""


class Repeats:
    """The ids seen in one partition.

    Only records that carry an id take room, however long it is: at most `REPEAT_RECORDS` entries, about 150 bytes each.

    Args:
        since_ms: Every record of the partition from that broker time on will be shown here. None: from the log's very
            beginning, so that nothing is unknown.

    Attributes:
        records: Records of the partition so far, with an id or without; the reader counts them here.
        exact_from: Of the records at this offset and behind it, it is known for certain which are repeats: all that
            they could repeat were seen. None while that can't be said of any.
    """

    __slots__ = ("_complete_ms", "_found", "_order", "_seen", "exact_from", "records")

    def __init__(self, since_ms: float | None) -> None:
        self._seen: dict[bytes, int] = {}
        self._order: deque[tuple[bytes, int, int]] = deque()
        self._found = array("q")
        self._complete_ms = None if since_ms is None else since_ms + REPEAT_SECONDS * 1000
        self.records = 0
        self.exact_from: int | None = 0 if since_ms is None else None

    def __len__(self) -> int:
        return len(self._seen)

    def at(self, offset: int, timestamp_ms: int) -> None:
        """The next record of the partition; call it for each, in the order of the log, before `is_repeat`."""
        self.records += 1
        if self.exact_from is None and (
            self.records > REPEAT_RECORDS or (self._complete_ms is not None and timestamp_ms >= self._complete_ms)
        ):
            self.exact_from = offset

    def settle(self, next_offset: int, now_ms: float) -> None:
        """The reader is at the end of the log: whatever comes behind it is as young as `now_ms`."""
        if self.exact_from is None and self._complete_ms is not None and now_ms >= self._complete_ms:
            self.exact_from = next_offset

    def is_repeat(self, id_: bytes | None, offset: int, timestamp_ms: int) -> bool:
        """Whether the record now counted repeats one within reach; remembers it if not."""
        if id_ is None:
            return False
        if len(id_) > _KEPT_BYTES:
            id_ = sha256(id_).digest()
        order = self._order
        oldest_record = self.records - REPEAT_RECORDS
        oldest_ms = timestamp_ms - REPEAT_SECONDS * 1000
        while order and (order[0][1] < oldest_record or order[0][2] < oldest_ms):
            old, number, _ = order.popleft()
            if self._seen.get(old) == number:
                del self._seen[old]
        if id_ in self._seen:
            self._remember(offset)
            return True
        self._seen[id_] = self.records
        order.append((id_, self.records, timestamp_ms))
        return False

    def was_repeat(self, offset: int) -> bool:
        """Of a record at or behind `exact_from` that was shown here: what `is_repeat` said of it."""
        place = bisect_left(self._found, offset)
        return place < len(self._found) and self._found[place] == offset

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
