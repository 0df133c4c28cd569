"""A modification on its way to the outbox."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final
from uuid import UUID

import msgspec

__all__ = ["SHARDS", "Modification", "shard_of"]

SHARDS: Final = 4
"""Into so many parts the outbox is cut; each is relayed by one process at a time. Rows hold their shard's number, so it
may only be raised while the outbox is empty."""


class Modification(msgspec.Struct, frozen=True, kw_only=True):
    """What is emitted once the transaction has committed.

    Attributes:
        chat_id: Key of the record, so that what happens in one chat stays in order.
        key: Of what happens outside of chats, in place of the chat's id: a user's.
        receivers: User ids; none: nothing is emitted.
        data: As the wire in use wants it.
        context: Facts for edges of other protocols.
    """

    chat_id: UUID | None = None
    key: str | None = None
    type: str
    receivers: Sequence[str]
    data: dict[str, Any]
    context: dict[str, Any]

    def __post_init__(self) -> None:
        assert (self.chat_id is None) != (self.key is None), "one of the two keeps it in order"

    @property
    def record_key(self) -> str:
        """The key of its records."""
        return self.key if self.key is not None else str(self.chat_id)


def shard_of(key: str) -> int:
    """The shard of everything with that key."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big") % SHARDS
