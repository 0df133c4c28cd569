"""Which updates have ended: found by the index of those that can."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from tidings.messaging.store.database import Connection
from tidings.messaging.store.idempotency import blank_answers

__all__ = ["chats_with_ended", "ended_in", "forget_in_deleted_chats"]

# `OFFSET 0` keeps the planner from walking through all chats where it needs those of what has ended.
_CHATS = """
SELECT DISTINCT chat_id FROM (
  SELECT u.chat_id FROM updates u
  CROSS JOIN LATERAL (SELECT FROM chats WHERE id = u.chat_id AND deleted_at IS NULL OFFSET 0) c
  WHERE u.expires_at <= now() AND u.deleted_at IS NULL AND u.chat_id <> ALL($2::uuid[])
  ORDER BY u.expires_at LIMIT $1) AS first
"""

_ENDED = """
SELECT update_id, sender_id FROM updates
WHERE chat_id = $1 AND expires_at <= $2 AND deleted_at IS NULL
ORDER BY update_id LIMIT $3
"""

# Of a chat that nobody sees any more; several processes may do it at once.
_FORGET = """
UPDATE updates u SET deleted_at = now(), content = '{}', changed = pg_current_xact_id()
FROM (
  SELECT e.chat_id, e.update_id FROM updates e
  CROSS JOIN LATERAL (SELECT FROM chats WHERE id = e.chat_id AND deleted_at IS NOT NULL OFFSET 0) c
  WHERE e.expires_at <= now() AND e.deleted_at IS NULL
  LIMIT $1 FOR UPDATE OF e SKIP LOCKED) AS ended
WHERE u.chat_id = ended.chat_id AND u.update_id = ended.update_id
RETURNING u.chat_id, u.update_id, u.type
"""


async def chats_with_ended(connection: Connection, limit: int, but: Sequence[UUID] = ()) -> list[UUID]:
    """Chats in which something has ended and is still there; of the longest ended `limit` updates.

    Args:
        but: Without these chats.
    """
    return [row["chat_id"] for row in await connection.fetch(_CHATS, limit, but)]


async def ended_in(connection: Connection, chat_id: UUID, now: datetime, limit: int) -> list[tuple[int, str]]:
    """Ids and senders of the chat's first ended updates that are still there. The chat must be locked."""
    rows = await connection.fetch(_ENDED, chat_id, now, limit)
    return [(row["update_id"], row["sender_id"]) for row in rows]


async def forget_in_deleted_chats(connection: Connection, limit: int) -> None:
    """Blank what has ended in chats that were deleted, in kept answers too; there is nobody to tell."""
    async with connection.transaction():
        await blank_answers(connection, await connection.fetch(_FORGET, limit))
