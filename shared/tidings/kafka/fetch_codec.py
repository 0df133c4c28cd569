"""Fetch version 10 as bytes. aiokafka's schemas walk every field in Python, which is half of what a round costs;
here a partition is one `struct` call in each direction. Older versions go through aiokafka's own structs.

Layout: KIP-227 (sessions), KIP-320 (leader epochs, not used).
"""

import struct
from collections.abc import Sequence
from io import BytesIO
from typing import Any, Final

from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.fetch import FetchRequest, FetchRequest_v10, FetchResponse_v10

__all__ = ["FetchAnswer", "FetchQuestion", "LeaderFetchRequest"]

_REQUEST_HEAD: Final = struct.Struct(">iiiibiii")
_PARTITION_ASKED: Final = struct.Struct(">iiqqi")
_ANSWER_HEAD: Final = struct.Struct(">ihii")
_PARTITION_HEAD: Final = struct.Struct(">ihqqqi")
_TRANSACTION: Final = struct.Struct(">qq")
_INT: Final = struct.Struct(">i")
_SHORT: Final = struct.Struct(">h")
_LEADERS_ONLY: Final = 10


class LeaderFetchRequest(FetchRequest):
    """aiokafka's fetch in a version that only a partition's leader answers.

    From version 11 on (KIP-392) any replica does, asked for or not. One that has just come back ends before what its
    leader has long shown, and calls a good offset out of range.
    """

    def prepare(self, versions: dict[int, tuple[int, int]]) -> Any:
        """The request in the newest version that both sides speak.

        Raises:
            IncompatibleBrokerVersion: There is none.
        """
        spoken = dict(versions)
        if self.API_KEY in spoken:
            oldest, newest = spoken[self.API_KEY]
            if oldest > _LEADERS_ONLY:
                raise IncompatibleBrokerVersion("the broker is too new: any replica answers its fetches")
            spoken[self.API_KEY] = oldest, min(newest, _LEADERS_ONLY)
        return super().prepare(spoken)


class FetchAnswer(FetchResponse_v10):
    """The response, decoded to what `FetchResponse_v10` would hold."""

    error_code: int
    session_id: int

    def __init__(self, error_code: int, session_id: int, topics: list[tuple[str, list[tuple[Any, ...]]]]) -> None:
        self.error_code = error_code
        self.session_id = session_id
        self.topics = topics

    @classmethod
    def decode(cls, data: BytesIO | bytes | memoryview) -> "FetchAnswer":
        """Read one response; of a view nothing is copied but the records.

        Raises:
            struct.error, ValueError: It ends too early.
        """
        if isinstance(data, BytesIO):
            with data.getbuffer() as whole:
                return cls._decode(whole, data.tell())
        return cls._decode(memoryview(data), 0)

    @classmethod
    def _decode(cls, whole: memoryview, position: int) -> "FetchAnswer":
        _, error_code, session_id, topic_count = _ANSWER_HEAD.unpack_from(whole, position)
        position += _ANSWER_HEAD.size
        topics: list[tuple[str, list[tuple[Any, ...]]]] = []
        for _ in range(topic_count):
            (length,) = _SHORT.unpack_from(whole, position)
            position += 2 + length
            topic = str(whole[position - length : position], "utf-8")
            (count,) = _INT.unpack_from(whole, position)
            position += 4
            partitions: list[tuple[Any, ...]] = []
            for _ in range(count):
                *head, aborted_count = _PARTITION_HEAD.unpack_from(whole, position)
                position += _PARTITION_HEAD.size
                aborted: list[tuple[Any, ...]] = []
                for _ in range(aborted_count):  # -1: none
                    aborted.append(_TRANSACTION.unpack_from(whole, position))
                    position += _TRANSACTION.size
                (length,) = _INT.unpack_from(whole, position)
                position += 4
                records = b""
                if length > 0:
                    records = bytes(whole[position : position + length])
                    if len(records) != length:
                        raise ValueError("the answer ends within the records of a partition")
                    position += length
                partitions.append((*head, aborted, records))
            topics.append((topic, partitions))
        return cls(error_code, session_id, topics)

    def __repr__(self) -> str:
        return f"FetchAnswer(error_code={self.error_code}, session_id={self.session_id})"


class FetchQuestion(FetchRequest_v10):
    """The request, from the same fields in the same order as `FetchRequest_v10`."""

    RESPONSE_TYPE = FetchAnswer

    def __init__(
        self,
        replica: int,
        max_wait_ms: int,
        min_bytes: int,
        max_bytes: int,
        isolation: int,
        session: int,
        epoch: int,
        topics: Sequence[tuple[str, Sequence[tuple[int, ...]]]],
        forgotten: Sequence[tuple[str, Sequence[int]]],
    ) -> None:
        parts = [_REQUEST_HEAD.pack(replica, max_wait_ms, min_bytes, max_bytes, isolation, session, epoch, len(topics))]
        for topic, asked in topics:
            parts += [_text(topic), _INT.pack(len(asked))]
            parts += [_PARTITION_ASKED.pack(*partition) for partition in asked]
        parts.append(_INT.pack(len(forgotten)))
        for topic, numbers in forgotten:
            parts += [_text(topic), _INT.pack(len(numbers))]
            parts += [_INT.pack(number) for number in numbers]
        self._bytes = b"".join(parts)

    def encode(self) -> bytes:
        """The request behind its header."""
        return self._bytes

    def __repr__(self) -> str:
        return f"FetchQuestion({len(self._bytes)} bytes)"


def _text(value: str) -> bytes:
    encoded = value.encode()
    return _SHORT.pack(len(encoded)) + encoded
