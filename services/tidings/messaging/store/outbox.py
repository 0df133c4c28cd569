"""Modifications as rows of the outbox, inside the transaction that caused them."""

import os
import time
from collections.abc import Sequence
from typing import Any

from tidings.contract.parts import split
from tidings.messaging.domain.modification import Modification, shard_of
from tidings.uuid7 import RANDOM_BYTES, uuid7

__all__ = ["write_outbox"]

_INSERT = """
INSERT INTO outbox (shard, key, event_id, value)
SELECT * FROM unnest($1::smallint[], $2::text[], $3::text[], $4::bytea[])
"""


async def write_outbox(connection: Any, emitted: Sequence[Modification]) -> set[int]:
    """Write them in order; returns the shards they went to.

    The chat's row (or the user's, if that is the key) must be locked: only so are the ids of the rows of one key in the
    order of their commits.

    Raises:
        ContractError: One of them would be poison to readers.
    """
    rows: list[tuple[int, str, str, bytes]] = []
    for modification in emitted:
        key = modification.record_key
        id_ = str(uuid7(time.time_ns() // 1_000_000, os.urandom(RANDOM_BYTES)))
        parts = split(
            modification.receivers, modification.type, modification.data, id=id_, context=modification.context
        )
        rows += ((shard_of(key), key, part.id, part.value) for part in parts)
    if not rows:
        return set()
    shards, keys, ids, values = (list(column) for column in zip(*rows, strict=True))
    await connection.execute(_INSERT, shards, keys, ids, values)
    return {int(shard) for shard in shards}
