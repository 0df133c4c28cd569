"""Where a program is in the stream, as an object and as a text to keep."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from tidings_client.errors import InvalidPosition

__all__ = ["Position", "format_cursor", "parse_cursor"]

_ENTRY: Final = re.compile(r"([0-9]{1,6}):([0-9]{1,19})", re.ASCII)


def format_cursor(offsets: Mapping[int, int]) -> str:
    """`0:17,1:4`: partition and the next offset to read, in the order of partitions."""
    return ",".join(f"{partition}:{offsets[partition]}" for partition in sorted(offsets))


def parse_cursor(text: str) -> dict[int, int]:
    """What `format_cursor` wrote, entries in any order; an empty text has none.

    Raises:
        InvalidPosition: Anything else.
    """
    offsets: dict[int, int] = {}
    for entry in text.split(",") if text else ():
        match = _ENTRY.fullmatch(entry)
        if match is None or int(match[1]) in offsets:
            raise InvalidPosition(f"no cursor: {text[:80]!r}")
        offsets[int(match[1])] = int(match[2])
    return offsets


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the stream: everything before it has been handed to the program.

    `str()` of it is one line of text to keep, and `Position.parse` reads that again.

    Attributes:
        log: Opaque tag of the topic that the offsets belong to.
        cursor: The next offset to read in each partition, such as `0:17,1:4`.
    Raises:
        InvalidPosition: `cursor` is no cursor.
    """

    log: str
    cursor: str

    def __post_init__(self) -> None:
        parse_cursor(self.cursor)

    def __str__(self) -> str:
        return f"{self.cursor}@{self.log}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """What `str` wrote; white space around it does not count.

        Raises:
            InvalidPosition: Anything else.
        """
        cursor, mark, log = text.strip().partition("@")
        if not mark:
            raise InvalidPosition(f"no position: {text[:80]!r}")
        return cls(log, cursor)
