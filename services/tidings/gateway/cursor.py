"""Cursors as clients see them: the next offset to read in each partition, as text, there and back."""

import re
from collections.abc import Mapping
from typing import Final

__all__ = ["MAX_PARTITIONS", "InvalidCursor", "format_cursor", "format_event_id", "parse_cursor", "parse_event_id"]

MAX_PARTITIONS: Final = 4_096
"""More entries than this in a cursor are refused; 64 are promised to fit into a URL."""

_MAX_OFFSET: Final = 2**63 - 1
_ENTRY: Final = re.compile(r"(0|[1-9][0-9]{0,5}):(0|[1-9][0-9]{0,18})")
_HEX: Final = re.compile(r"0|[1-9a-f][0-9a-f]{0,15}")


class InvalidCursor(ValueError):
    """A text that no gateway gave out as a cursor."""


def format_cursor(positions: Mapping[int, int]) -> str:
    """`0:17,1:4`: partition and next offset, in the order of partitions. No partitions: an empty text."""
    return ",".join(f"{partition}:{positions[partition]}" for partition in sorted(positions))


def parse_cursor(text: str) -> dict[int, int]:
    """What `format_cursor` wrote, with the entries in any order.

    Raises:
        InvalidCursor: Anything else: a partition twice, a sign, a leading zero, an offset that Kafka can't have.
    Cost: linear in the text, which a request's line bounds.
    """
    positions: dict[int, int] = {}
    entries = text.split(",", MAX_PARTITIONS)
    if len(entries) > MAX_PARTITIONS:
        raise InvalidCursor("too many partitions")
    for entry in entries:
        match = _ENTRY.fullmatch(entry)
        if match is None:
            raise InvalidCursor("an entry is partition:offset")
        partition, offset = int(match[1]), int(match[2])
        if partition in positions:
            raise InvalidCursor("a partition stands twice")
        if offset > _MAX_OFFSET:
            raise InvalidCursor("no offset is that high")
        positions[partition] = offset
    return positions


def format_event_id(log: str, positions: Mapping[int, int]) -> str:
    """Log and whole cursor as one word for the `id:` line of Server-Sent Events.

    The offsets stand in hexadecimal in the order of partitions, which Kafka numbers from 0 without a gap; a partition
    that this node does not know yet stands as 0, the value that a cursor's missing entry means.
    """
    if not positions:
        return f"{log}."
    return f"{log}." + ".".join(f"{positions.get(partition, 0):x}" for partition in range(max(positions) + 1))


def parse_event_id(text: str) -> tuple[str, dict[int, int]]:
    """Log and positions of what `format_event_id` wrote; the tag of a log holds no dot.

    Raises:
        InvalidCursor: Anything else.
    """
    log, _, offsets = text.partition(".")
    if not log or not offsets:
        raise InvalidCursor("an event id is log.offset.offset…")
    entries = offsets.split(".", MAX_PARTITIONS)
    if len(entries) > MAX_PARTITIONS or not all(map(_HEX.fullmatch, entries)):
        raise InvalidCursor("an offset is hexadecimal")
    positions = {partition: int(entry, 16) for partition, entry in enumerate(entries)}
    if max(positions.values()) > _MAX_OFFSET:
        raise InvalidCursor("no offset is that high")
    return log, positions
