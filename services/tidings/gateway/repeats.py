"""Recognise a modification that stands twice in a partition by the id its producer gave it."""

from collections import deque
from hashlib import sha256
from typing import Final

__all__ = ["REPEAT_RECORDS", "REPEAT_SECONDS", "Repeats"]

REPEAT_SECONDS = 600.0
"""A repeat later than this (broker time) after the first may be delivered."""

REPEAT_RECORDS = 20_000
"""A repeat more records than this after the first may be delivered."""

_KEPT_BYTES: Final = 64
"""Longer ids, as a foreign producer may write them up to the size of a record, are kept as their hash."""


class Repeats:
    """The ids seen in one partition.

    Only records that carry an id take room, however long it is: at most `REPEAT_RECORDS` entries, about 150 bytes each.
    """

    __slots__ = ("_order", "_seen", "records")

    def __init__(self) -> None:
        self._seen: dict[bytes, int] = {}
        self._order: deque[tuple[bytes, int, int]] = deque()
        self.records = 0
        """Records of the partition so far, with an id or without; the reader counts them here."""

    def __len__(self) -> int:
        return len(self._seen)

    def is_repeat(self, id_: bytes | None, timestamp_ms: int) -> bool:
        """Whether the record now counted repeats one within reach; remembers it if not. Records come in log order."""
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
            return True
        self._seen[id_] = self.records
        order.append((id_, self.records, timestamp_ms))
        return False
