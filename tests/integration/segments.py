"""Segment files of a stopped broker: find the batches in them, damage one."""

import struct
from pathlib import Path
from typing import Final, NamedTuple

from aiokafka.record.util import calc_crc32c

from tidings.kafka.apache import ApacheBroker

__all__ = ["Batch", "batches", "flip_payload_byte", "segment_file", "set_codec"]

_HEADER: Final = struct.Struct(">qiibIhi")
"""Base offset, length, leader epoch, magic, checksum, attributes, last offset delta: how a batch begins."""
_HEADER_BYTES: Final = 61
_CHECKED_FROM: Final = 21
_CODEC_BITS: Final = 0x07


class Batch(NamedTuple):
    """One record batch, where it lies in the file."""

    position: int
    size: int
    first_offset: int
    next_offset: int
    codec: int


def segment_file(broker: ApacheBroker, topic: str, partition: int) -> Path:
    """The first segment of a partition on that broker's disk."""
    return broker.log_file.parent / "data" / f"{topic}-{partition}" / f"{0:020}.log"


def batches(file: Path) -> list[Batch]:
    """All batches, in order; a running broker preallocates nothing, so the file ends with the last one."""
    content = file.read_bytes()
    found = []
    position = 0
    while position + _HEADER_BYTES <= len(content):
        first, length, _, magic, _, attributes, last_delta = _HEADER.unpack_from(content, position)
        assert magic == 2
        found.append(Batch(position, 12 + length, first, first + last_delta + 1, attributes & _CODEC_BITS))
        position += 12 + length
    return found


def flip_payload_byte(file: Path, batch: Batch) -> None:
    """Damage the batch behind its header, as a bad disk would: the checksum no longer matches."""
    with open(file, "r+b") as segment:
        position = batch.position + _HEADER_BYTES + (batch.size - _HEADER_BYTES) // 2
        segment.seek(position)
        byte = segment.read(1)[0]
        segment.seek(position)
        segment.write(bytes([byte ^ 0x40]))


def set_codec(file: Path, batch: Batch, codec: int) -> None:
    """Claim another codec for the batch, with a checksum that matches."""
    with open(file, "r+b") as segment:
        segment.seek(batch.position)
        content = bytearray(segment.read(batch.size))
        content[_CHECKED_FROM + 1] = content[_CHECKED_FROM + 1] & ~_CODEC_BITS | codec
        struct.pack_into(">I", content, _CHECKED_FROM - 4, calc_crc32c(bytes(content[_CHECKED_FROM:])))
        segment.seek(batch.position)
        segment.write(content)
