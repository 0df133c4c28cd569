"""What a broker answers to a fetch, as records: aborted transactions left out, damaged batches skipped as ranges."""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.default_records import DefaultRecordBatch

__all__ = ["Decoded", "LogRecord", "SkippedRange", "decode_batches", "newest_ms"]

_FRAME: Final = struct.Struct(">qiib")
"""Base offset, bytes behind this field, leader epoch, magic: where they stand in every version of the format."""
_LENGTH_FROM: Final = 12
"""The length counts from here."""
_HEADER_BYTES: Final = 61
_MAGIC: Final = 2
"""The one format since Kafka 0.11, and the only one since 4.0."""
_COUNTS: Final = struct.Struct(">i30xi")
"""Last offset delta and number of records, from byte 23 of a batch."""
_COUNTS_AT: Final = 23
_MAX_TIMESTAMP: Final = struct.Struct(">q")
_MAX_TIMESTAMP_AT: Final = 35


class LogRecord(Protocol):
    """One record as the log holds it."""

    @property
    def offset(self) -> int: ...

    @property
    def timestamp(self) -> int:
        """Milliseconds since the epoch; -1 where the log has none."""

    @property
    def key(self) -> bytes | None: ...

    @property
    def value(self) -> bytes | None: ...

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


@dataclass(frozen=True, slots=True)
class SkippedRange:
    """A batch that can't be decoded: nothing in it reaches anybody.

    Attributes:
        first_offset: First offset of the batch.
        next_offset: First offset after it.
        reason: `crc`, `codec`, or `format` where it is no batch that we know.
        detail: What the decoder said.
    """

    first_offset: int
    next_offset: int
    reason: str
    detail: str


@dataclass(slots=True)
class Decoded:
    """One partition's part of a fetch.

    Attributes:
        records: In the order of the log, from the fetch offset on.
        next_offset: Where to fetch next: past the last whole batch, holes and skipped ranges included. The fetch offset
            itself if there was no whole batch.
        skipped: Damaged batches, in order.
    """

    next_offset: int
    records: list[LogRecord] = field(default_factory=list)
    skipped: list[SkippedRange] = field(default_factory=list)


def newest_ms(data: bytes) -> int | None:
    """The latest time that any whole batch says of itself, ends of transactions included. None: there is no batch."""
    times = [_MAX_TIMESTAMP.unpack_from(body, _MAX_TIMESTAMP_AT)[0] for _, body in _frames(data) if body is not None]
    return max(times, default=None)


def decode_batches(data: bytes, fetch_offset: int, aborted: Iterable[tuple[int, int]] | None) -> Decoded:
    """Decode the batches of one partition as a `read_committed` reader sees them.

    Args:
        data: The batches; the last one may be cut short and is then left for the next fetch.
        fetch_offset: Records before it are left out (a broker answers with whole batches).
        aborted: Producer id and first offset of each aborted transaction in reach, from the same answer.
    Cost: about 1 µs per record and one checksum of the bytes.

    A batch with a wrong checksum, an unknown codec or damaged contents is skipped whole and named; the ones behind it
    are not lost with it. (A consumer that raises there instead loses what it had decoded of other partitions.)
    """
    decoded = Decoded(fetch_offset)
    waiting = sorted(aborted or (), key=lambda transaction: transaction[1])
    aborting: set[int] = set()
    reached = fetch_offset  # by good batches: what a damaged one says of itself may be the damage
    for base_offset, body in _frames(data):
        batch = None if body is None else DefaultRecordBatch(body)
        if batch is None or body is None or not batch.validate_crc():
            next_offset = _end_of_damaged(body, base_offset, reached)
            reason, detail = ("format", "this is no batch") if body is None else ("crc", "the checksum does not match")
            decoded.skipped.append(SkippedRange(base_offset, next_offset, reason, detail))
            decoded.next_offset = next_offset
            continue
        if decoded.next_offset != reached and base_offset > reached:
            # Behind a damaged batch: where it ended is known for certain now.
            decoded.skipped[-1] = replace(decoded.skipped[-1], next_offset=base_offset)
        decoded.records += _committed(batch, base_offset, reached, waiting, aborting, decoded.skipped)
        reached = decoded.next_offset = max(reached, batch.next_offset)
    return decoded


def _frames(data: bytes) -> Iterator[tuple[int, bytes | None]]:
    """Each whole batch with its base offset; None for what is none, and then there is nothing more to find."""
    position, end = 0, len(data)
    while end - position >= _FRAME.size:
        base_offset, length, _, magic = _FRAME.unpack_from(data, position)
        stop = position + _LENGTH_FROM + length
        if length < _HEADER_BYTES - _LENGTH_FROM or magic != _MAGIC:
            if position == 0:  # else it is left to be the first of the next fetch
                yield base_offset, None
            return
        if stop > end:
            return
        yield base_offset, data[position:stop]
        position = stop


def _end_of_damaged(body: bytes | None, base_offset: int, reached: int) -> int:
    """The first offset behind a batch that can't be trusted: what it says, if that agrees with itself.

    Else only the next offset is given up. The broker answers with the same batch then, or with the one behind it.
    """
    if body is not None:
        last_delta, count = _COUNTS.unpack_from(body, _COUNTS_AT)
        if count == last_delta + 1 and base_offset <= reached < base_offset + count:
            return base_offset + count
    return reached + 1


def _committed(
    batch: Any,
    base_offset: int,
    reached: int,
    waiting: list[tuple[int, int]],
    aborting: set[int],
    skipped: list[SkippedRange],
) -> list[LogRecord]:
    """The records of one good batch from `reached` on; none of a control batch or an aborted transaction."""
    producer_id: int = batch.producer_id
    while waiting and waiting[0][1] <= base_offset:
        aborting.add(waiting.pop(0)[0])
    try:
        if batch.is_control_batch:
            if _is_abort_marker(batch):
                aborting.discard(producer_id)
            return []
        if batch.is_transactional and producer_id in aborting:
            return []
        records: list[LogRecord] = list(batch)
    except Exception as error:
        skipped.append(SkippedRange(base_offset, batch.next_offset, "codec", f"{type(error).__name__}: {error}"))
        return []
    if records and records[0].offset < reached:
        return [record for record in records if record.offset >= reached]
    return records


def _is_abort_marker(batch: Any) -> bool:
    for record in batch:
        return bool(ControlRecord.parse(record.key) == ABORT_MARKER)
    return False
