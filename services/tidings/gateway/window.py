"""The newest records of each partition, kept in memory so that whoever shows a cursor gets what was missed."""

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from tidings.contract.record import decode
from tidings.errors import ContractError

__all__ = ["SEGMENT_BYTES", "SEGMENT_RECORDS", "Kept", "Needle", "Segment", "Window"]

SEGMENT_RECORDS: Final = 256
SEGMENT_BYTES: Final = 262_144
"""A segment is full when it has this many records or bytes, whichever comes first."""

_SEARCHES_UNTIL_INDEXED: Final = 3
"""Decoding a segment's records to know whom they name costs about as much as searching their bytes this often."""

_RECORD_BYTES: Final = 64
"""What a record costs beside its value: the object's head, its offset, its place in a list."""
_GROWING_BYTES: Final = 64
_HASH_BYTES: Final = 8
"""What a receiver costs in the index of a segment that grows, and of a full one."""
_INTEGER: Final = re.compile(r"-?[0-9]+")
_encode = msgspec.json.Encoder().encode


class Kept(NamedTuple):
    """A record of the window: its offset and the value as the log holds it."""

    offset: int
    value: bytes


class Needle:
    """How to see cheaply that a record does not name a user.

    Searching the bytes finds every record that does and perhaps some that don't: those found must be decoded. An id
    that looks like an integer may stand without quotes; a backslash anywhere may hide any id.
    """

    __slots__ = ("_bytes", "hash", "user")

    def __init__(self, user: str) -> None:
        self.user = user
        self._bytes = user.encode() if _INTEGER.fullmatch(user) else _encode(user)
        self.hash = hash(user)

    def may_be_in(self, value: bytes) -> bool:
        """Whether the record has to be decoded to know."""
        return self._bytes in value or b"\\" in value


class Segment:
    """Consecutive records of one partition: everything readable from `first` up to `end`.

    Attributes:
        first: The offset from which on nothing is missing.
        end: The next offset behind it; the log may have holes in between.
        newest_ms: Broker time of the last record.
        bytes: Memory, as estimated from sizes.
        searches: How often it was looked for.
    """

    __slots__ = (
        "_growing",
        "_hashes",
        "_indexed",
        "_offsets",
        "_values",
        "bytes",
        "end",
        "first",
        "newest_ms",
        "searches",
    )

    def __init__(self, first: int) -> None:
        self.first = first
        self.end = first
        self.newest_ms = 0
        self.bytes = 0
        self.searches = 0
        self._offsets = array("q")
        self._values: list[bytes] = []
        self._growing: set[int] = set()
        self._hashes: array[int] | None = None
        self._indexed = 0

    def __len__(self) -> int:
        return len(self._values)

    def append(self, offset: int, value: bytes, timestamp_ms: int) -> None:
        """Keep the next record; the value is kept as it is, not copied. Not once it was indexed as a full one."""
        self._offsets.append(offset)
        self._values.append(value)
        self.end = offset + 1
        self.newest_ms = timestamp_ms
        self.bytes += len(value) + _RECORD_BYTES

    @property
    def full(self) -> bool:
        """Whether it is time for the next one. Once it is, it stays so: its index would not know what came later."""
        return self._hashes is not None or len(self._values) >= SEGMENT_RECORDS or self.bytes >= SEGMENT_BYTES

    def index(self) -> int:
        """Know from now on whom its records name: a hash of each receiver. Returns the bytes added.

        Records that were looked at before are not looked at again, so a segment that grows may be indexed each time.
        Cost: one decode per record.
        """
        if self._hashes is not None:
            return 0
        before = len(self._growing)
        for value in self._values[self._indexed :]:
            try:
                self._growing.update(map(hash, decode(value).receivers))
            except ContractError:
                continue
        self._indexed = len(self._values)
        added = (len(self._growing) - before) * _GROWING_BYTES
        if self.full:
            added -= len(self._growing) * (_GROWING_BYTES - _HASH_BYTES)
            self._hashes = array("q", sorted(self._growing))
            self._growing = set()
        self.bytes += added
        return added

    def may_name(self, needle: Needle) -> bool:
        """False: none of its records has that receiver. Always True as long as not all of them were indexed."""
        hashes = self._hashes
        if hashes is None:
            return self._indexed < len(self._values) or needle.hash in self._growing
        place = bisect_left(hashes, needle.hash)
        return place < len(hashes) and hashes[place] == needle.hash

    def since(self, offset: int) -> Iterator[Kept]:
        """Its records at or behind an offset, in order."""
        for index in range(bisect_left(self._offsets, offset), len(self._values)):
            yield Kept(self._offsets[index], self._values[index])


class _Partition:
    __slots__ = ("end", "segments", "start")

    def __init__(self, offset: int) -> None:
        self.start = offset
        self.end = offset
        self.segments: list[Segment] = []


class Window:
    """All partitions together, bounded in bytes and in age. What it holds of a partition has no gap.

    Args:
        limit_bytes: The oldest segments go when all together hold more. 0: nothing is kept.
        limit_s: Segments go when their newest record is older than this against the record that came last of all: the
            broker's clock alone counts, and what nothing newer follows stays. While that clock is ahead by more than
            this, it counts too; once it is back, what it said is forgotten.
    Cost: per record kept a few references: no copy, and nothing for its receivers. Who they are is looked at when
    somebody resumes, once for all who do.
    """

    def __init__(self, limit_bytes: int, limit_s: float) -> None:
        self._limit_bytes = limit_bytes
        self._limit_ms = limit_s * 1000
        self._partitions: dict[int, _Partition] = {}
        self._newest_ms = 0
        self.bytes = 0

    def begin(self, partition: int, offset: int) -> None:
        """Start a partition, or start it anew: what is before the offset is not known here."""
        known = self._partitions.get(partition)
        if known is not None:
            self.bytes -= sum(segment.bytes for segment in known.segments)
        self._partitions[partition] = _Partition(offset)

    def clear(self) -> None:
        """Forget all partitions."""
        self._partitions.clear()
        self._newest_ms = 0
        self.bytes = 0

    def start(self, partition: int) -> int | None:
        """The offset from which on everything is here; None: the partition is not known."""
        known = self._partitions.get(partition)
        return None if known is None else known.start

    def append(self, partition: int, offset: int, value: bytes, timestamp_ms: int) -> None:
        """Keep the next record of a partition that was begun; poison and repeats do not come here."""
        known = self._partitions[partition]
        if not self._limit_bytes:
            known.start = known.end = offset + 1
            return
        segments = known.segments
        if not segments or segments[-1].full:
            segments.append(Segment(known.end))
        segment = segments[-1]
        before = segment.bytes
        segment.append(offset, value, timestamp_ms)
        known.end = segment.end
        self.bytes += segment.bytes - before
        # Not the highest of all: a clock that was ahead once would empty the window until the time that it showed.
        self._newest_ms = timestamp_ms
        if self.bytes > self._limit_bytes:
            self._shed()

    def advance(self, partition: int, next_offset: int) -> None:
        """The partition was read up to there; what was not appended is a hole."""
        known = self._partitions[partition]
        known.end = next_offset
        if known.segments:
            known.segments[-1].end = next_offset
        else:
            known.start = next_offset

    def expire(self) -> None:
        """Drop what is too old. Call it now and then."""
        oldest_ms = self._newest_ms - self._limit_ms
        for known in self._partitions.values():
            self._correct(known.segments)
            while known.segments and known.segments[0].newest_ms < oldest_ms:
                self._drop(known)

    def segment_at(self, partition: int, offset: int) -> Segment | None:
        """The segment that holds or follows an offset at or behind the partition's start; None at its end."""
        known = self._partitions[partition]
        segments = known.segments
        if not segments or offset >= known.end:
            return None
        # Most clients missed little: the last segment first.
        segment = segments[-1]
        if offset < segment.first:
            segment = segments[max(0, bisect_right(segments, offset, key=_first) - 1)]
        segment.searches += 1
        if segment.searches >= _SEARCHES_UNTIL_INDEXED:
            self.bytes += segment.index()
        return segment

    def span_s(self) -> float:
        """Seconds between the oldest and the newest of the segments, each by its last record. 0 with nothing in it."""
        oldest = [known.segments[0].newest_ms for known in self._partitions.values() if known.segments]
        return max(0.0, (self._newest_ms - min(oldest)) / 1000) if oldest else 0.0

    def _correct(self, segments: list[Segment]) -> None:
        # What a clock said that was far ahead, and was taken back by the records behind it: such a segment would be the
        # last of all to go, and keep what follows it in its partition.
        follows_ms = float("inf")
        for segment in reversed(segments):
            if segment.newest_ms > follows_ms + self._limit_ms:
                segment.newest_ms = int(follows_ms)
            follows_ms = segment.newest_ms

    def _shed(self) -> None:
        while self.bytes > self._limit_bytes:
            filled = [known for known in self._partitions.values() if known.segments]
            if not filled:
                return
            self._drop(min(filled, key=lambda known: known.segments[0].newest_ms))

    def _drop(self, known: _Partition) -> None:
        segment = known.segments.pop(0)
        self.bytes -= segment.bytes
        known.start = segment.end


def _first(segment: Segment) -> int:
    return segment.first
