"""A modification as the records it becomes: one, or several with disjoint receivers and ids of their own."""

from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from tidings.contract.record import (
    LONE_SURROGATE,
    MAX_VALUE_BYTES,
    RECEIVER_NOT_STRING,
    RECEIVER_TOO_LONG,
    RECEIVERS_NOT_ARRAY,
    SPLIT_RECEIVERS,
    VALUE_TOO_BIG,
    encode,
)
from tidings.errors import MalformedRecord, RecordTooBig

__all__ = ["MAX_PARTS_BYTES", "Part", "split"]

MAX_PARTS_BYTES: Final = 64 * MAX_VALUE_BYTES
"""Of all records of one modification. Every part repeats `data`, so big data for many receivers multiplies."""

_encode = msgspec.json.Encoder().encode


class Part(NamedTuple):
    """One record to produce: its id, for the header `id`, and its value."""

    id: str
    value: bytes


def split(
    receivers: Iterable[object],
    type: str,  # noqa: A002 - the name in the contract
    data: object,
    *,
    id: str,  # noqa: A002 - the name in the contract
    context: object = None,
) -> list[Part]:
    """The records of one modification; none if it has no receivers.

    At most `SPLIT_RECEIVERS` receivers and `MAX_VALUE_BYTES` bytes each; every receiver is in exactly one. A single
    part has the id itself. Several have the id, a slash and a digest of their receivers, and are cut from the sorted
    list: whoever sends the same modification again makes the same parts, so each is recognised as a repeat, and a
    part whose receivers changed in between is not.

    Raises:
        ContractError: `record.encode` refuses it, or the parts together are over `MAX_PARTS_BYTES`.
    Cost: up to `SPLIT_RECEIVERS` receivers that of `record.encode`; beyond, a sort and about 0.5 µs per receiver.
    """
    names = _names(receivers)
    value = None
    if len(names) <= SPLIT_RECEIVERS:
        try:
            value = encode(names, type, data, context)
        except RecordTooBig as error:
            if error.reason != VALUE_TOO_BIG or len(names) < 2:
                raise
    if value is not None:
        return [Part(id, value)] if names else []
    envelope_bytes = len(encode([], type, data, context))
    parts = []
    total_bytes = 0
    for chunk in _chunks(sorted(names), MAX_VALUE_BYTES - envelope_bytes):
        value = encode(chunk, type, data, context)
        total_bytes += len(value)
        if total_bytes > MAX_PARTS_BYTES:
            raise RecordTooBig(VALUE_TOO_BIG, f"split by receivers it is over {MAX_PARTS_BYTES} bytes")
        parts.append(Part(f"{id}/{_digest(chunk)}", value))
    return parts


def _names(receivers: Iterable[object]) -> list[str]:
    """Each once, in the order given. `1` and `"1"` are the same receiver."""
    if isinstance(receivers, str | bytes | bytearray | memoryview | Mapping):
        raise MalformedRecord(RECEIVERS_NOT_ARRAY)
    return list(dict.fromkeys(map(_name, receivers)))


def _name(receiver: object) -> str:
    if isinstance(receiver, str):
        return receiver
    if isinstance(receiver, bool) or not isinstance(receiver, int | UUID):
        raise MalformedRecord(RECEIVER_NOT_STRING)
    try:
        return str(receiver)
    except ValueError:  # over 4,300 digits
        raise RecordTooBig(RECEIVER_TOO_LONG) from None


def _chunks(names: list[str], room_bytes: int) -> Iterator[list[str]]:
    chunk: list[str] = []
    chunk_bytes = 0
    for name in names:
        try:
            name_bytes = len(_encode(name)) + 1  # with a comma; the first has none, so one byte stays unused
        except UnicodeEncodeError:
            raise MalformedRecord(LONE_SURROGATE) from None
        if chunk and (len(chunk) == SPLIT_RECEIVERS or chunk_bytes + name_bytes > room_bytes):
            yield chunk
            chunk, chunk_bytes = [], 0
        chunk.append(name)
        chunk_bytes += name_bytes
    yield chunk


def _digest(names: list[str]) -> str:
    return blake2b("\0".join(names).encode(), digest_size=8).hexdigest()
