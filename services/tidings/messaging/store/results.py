"""What a unit of work leaves at its end, inside its transaction: modifications for the outbox, and kept answers."""

import os
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from tidings.contract.parts import split
from tidings.messaging.domain.modification import Modification, shard_of
from tidings.messaging.store.answer import AnsweredBefore, Kept
from tidings.uuid7 import RANDOM_BYTES, uuid7

__all__ = ["KEPT", "write_results"]

KEPT: Final = timedelta(hours=24)
"""For so long an answer counts; an older one counts as none, whether or not it was cleaned away yet."""

_EMIT: Final = """
INSERT INTO outbox (shard, key, event_id, value)
SELECT * FROM unnest($1::smallint[], $2::text[], $3::text[], $4::bytea[])
"""

_EMIT_AND_KEEP: Final = f"""
WITH emitted AS ({_EMIT}),
kept AS (
  INSERT INTO idempotency (user_id, path, key, request_hash, status, body, chat_id, update_id)
  SELECT * FROM unnest($5::text[], $6::text[], $7::text[], $8::bytea[], $9::int[], $10::bytea[], $11::uuid[],
    $12::bigint[])
  ON CONFLICT (user_id, path, key) DO UPDATE
  SET request_hash = excluded.request_hash, status = excluded.status, body = excluded.body, created_at = now(),
    chat_id = excluded.chat_id, update_id = excluded.update_id
  WHERE idempotency.created_at < now() - $13::interval
  RETURNING true)
SELECT count(*) FROM kept
"""  # noqa: S608


async def write_results(connection: Any, emitted: Sequence[Modification], kept: Sequence[Kept]) -> set[int]:
    """Write the modifications, in order, and the answers; returns the shards that have something new.

    The chat's row (or the user's, if that is the key) must be locked: only so are the ids of the rows of one key in the
    order of their commits. Waits for a transaction that writes one of the answers too.

    Raises:
        AnsweredBefore: Another answer stands where one of these would be written, committed.
        ContractError: One of the modifications would be poison to readers.
    Cost: one round trip.
    """
    rows: list[tuple[int, str, str, bytes]] = []
    for modification in emitted:
        key = modification.record_key
        id_ = str(uuid7(time.time_ns() // 1_000_000, os.urandom(RANDOM_BYTES)))
        parts = split(
            modification.receivers, modification.type, modification.data, id=id_, context=modification.context
        )
        rows += ((shard_of(key), key, part.id, part.value) for part in parts)
    if not rows and not kept:
        return set()
    columns = [list(column) for column in zip(*rows, strict=True)] or [[], [], [], []]
    if not kept:
        await connection.execute(_EMIT, *columns)
        return {row[0] for row in rows}
    answers = [
        (
            one.user,
            one.path,
            one.key,
            one.stored.request_hash,
            one.stored.status,
            one.stored.body,
            one.chat_id,
            one.update_id,
        )
        for one in kept
    ]
    written = await connection.fetchval(_EMIT_AND_KEEP, *columns, *map(list, zip(*answers, strict=True)), KEPT)
    if written < len(kept):
        raise AnsweredBefore
    return {row[0] for row in rows}
