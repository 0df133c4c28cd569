"""UUID version 7 (RFC 9562, section 5.7): identifiers that sort by the millisecond they were made in."""

from typing import Final
from uuid import UUID

__all__ = ["RANDOM_BYTES", "uuid7"]

RANDOM_BYTES: Final = 10

_TIMESTAMP_LIMIT: Final = 1 << 48


def uuid7(now_ms: int, random: bytes) -> UUID:
    """The identifier of one moment and one throw of the dice.

    Args:
        now_ms: Unix time in milliseconds, at most 48 bits (until the year 10889).
        random: `RANDOM_BYTES` unpredictable bytes; 74 of their 80 bits are kept.
    Raises:
        ValueError: An argument is out of range.
    """
    if not 0 <= now_ms < _TIMESTAMP_LIMIT:
        raise ValueError("now_ms has over 48 bits")
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"random must be {RANDOM_BYTES} bytes")
    bits = (now_ms << 80) | int.from_bytes(random, "big")
    bits = bits & ~(0xF << 76) | (0x7 << 76)  # ver, four bits
    bits = bits & ~(0x3 << 62) | (0x2 << 62)  # var, two bits
    return UUID(int=bits)
