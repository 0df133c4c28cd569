"""Cursors as clients see them: the next offset to read in each partition, as text."""

from collections.abc import Mapping

__all__ = ["format_cursor", "format_event_id"]


def format_cursor(positions: Mapping[int, int]) -> str:
    """`0:17,1:4`: partition and next offset, in the order of partitions. No partitions: an empty text."""
    return ",".join(f"{partition}:{positions[partition]}" for partition in sorted(positions))


def format_event_id(log: str, positions: Mapping[int, int]) -> str:
    """Log and whole cursor as one word for the `id:` line of Server-Sent Events.

    The offsets stand in hexadecimal in the order of partitions, which Kafka numbers from 0 without a gap; a partition
    that this node does not know yet stands as 0, the value that a cursor's missing entry means.
    """
    if not positions:
        return f"{log}."
    return f"{log}." + ".".join(f"{positions.get(partition, 0):x}" for partition in range(max(positions) + 1))
