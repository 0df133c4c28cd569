"""Chats as entries of a list: with the viewer's marks, likes and newest messages. Some queries, however many chats."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from tidings.messaging.domain.entry import Entry, FirstUnread
from tidings.messaging.domain.model import Update
from tidings.messaging.store.database import Connection
from tidings.messaging.store.reading import UPDATE_COLUMNS, VISIBLE, updates_of
from tidings.messaging.store.unit import CHAT_COLUMNS, chat_of

__all__ = ["entries_of", "latest_messages", "listed_chats"]

_COLUMNS: Final = ", ".join(f"c.{column.strip()}" for column in CHAT_COLUMNS.split(","))

# `OFFSET 0` keeps the planner from reading whole chats where it needs one row of each.
_ENTRIES: Final = f"""
SELECT {_COLUMNS}, mine.read_no, mine.delivered_no, mine.joined::text AS joined,
       f.id AS first_id, f.update_id AS first_update_id, f.client_message_id AS first_client_message_id,
       l.likes, l.liked
FROM unnest($2::uuid[]) AS k (chat_id)
CROSS JOIN LATERAL (SELECT * FROM members WHERE chat_id = k.chat_id AND user_id = $1 AND left_at IS NULL OFFSET 0) mine
CROSS JOIN LATERAL (SELECT * FROM chats WHERE id = k.chat_id AND deleted_at IS NULL OFFSET 0) c
LEFT JOIN LATERAL (
  SELECT id, update_id, client_message_id FROM messages
  WHERE chat_id = c.id AND message_no = mine.read_no + 1 OFFSET 0) f ON true
CROSS JOIN LATERAL (
  SELECT count(*) AS likes, count(*) FILTER (WHERE user_id = $1) > 0 AS liked FROM likes WHERE chat_id = c.id) l
"""  # noqa: S608

# Gathered in Postgres: a row for each member would cost more than all the rest.
_MEMBERS: Final = """
SELECT k.chat_id, m.*
FROM unnest($2::uuid[]) AS k (chat_id)
CROSS JOIN LATERAL (
  SELECT array_agg(user_id ORDER BY joined_at, user_id) AS users,
         array_agg(user_id) FILTER (WHERE blocked_at IS NOT NULL) AS blocking,
         COALESCE(min(read_no) FILTER (WHERE user_id <> $1), 0) AS others_read_no,
         COALESCE(max(delivered_no) FILTER (WHERE user_id <> $1), 0) AS others_delivered_no
  FROM members WHERE chat_id = k.chat_id AND left_at IS NULL) m
"""

_LATEST: Final = f"""
SELECT x.* FROM unnest($2::uuid[]) AS k (chat_id),
LATERAL (
  SELECT {UPDATE_COLUMNS} FROM messages m
  CROSS JOIN LATERAL (SELECT * FROM updates WHERE chat_id = m.chat_id AND update_id = m.update_id OFFSET 0) u
  WHERE m.chat_id = k.chat_id AND {VISIBLE} ORDER BY m.message_no DESC LIMIT $3) x
ORDER BY x.chat_id, x.update_id
"""  # noqa: S608

# What stands in this order changes with every message; a page begins below the last one's place.
_LISTED: Final = """
SELECT c.id, COALESCE(c.last_message_at, c.created_at) AS at, c.number
FROM members mine JOIN chats c ON c.id = mine.chat_id
WHERE mine.user_id = $1 AND mine.left_at IS NULL AND c.deleted_at IS NULL
  AND ($2::timestamptz IS NULL OR (COALESCE(c.last_message_at, c.created_at), c.number) < ($2, $3::bigint))
ORDER BY 2 DESC, c.number DESC LIMIT $4
"""


async def listed_chats(connection: Connection, user: str, below: tuple[Any, int] | None, limit: int) -> list[Any]:
    """Ids, times and numbers of a user's chats, the one with the newest message first.

    Args:
        below: Time and number of the last one seen.
    """
    at, number = below or (None, 0)
    rows: list[Any] = await connection.fetch(_LISTED, user, at, number, limit)
    return rows


async def entries_of(connection: Connection, user: str, chat_ids: Sequence[UUID]) -> list[Entry]:
    """Those of the chats that the user is in, in the order asked for."""
    if not chat_ids:
        return []
    rows = {row["id"]: row for row in await connection.fetch(_ENTRIES, user, chat_ids)}
    gathered = {row["chat_id"]: row for row in await connection.fetch(_MEMBERS, user, list(rows))}
    return [_entry(rows[id_], gathered[id_]) for id_ in chat_ids if id_ in rows]


async def latest_messages(
    connection: Connection, user: str, chat_ids: Sequence[UUID], count: int, *, nested: bool = True
) -> list[Update]:
    """The newest messages that the user may see, `count` of each chat; by chat id, then update id."""
    if not chat_ids or not count:
        return []
    rows = await connection.fetch(_LATEST, user, chat_ids, count)
    return await updates_of(connection, rows, user, nested=nested)


def _entry(row: Any, gathered: Any) -> Entry:
    first = None
    if row["first_id"] is not None:
        first = FirstUnread(
            id=row["first_id"],
            update_id=row["first_update_id"],
            message_no=row["read_no"] + 1,
            client_message_id=row["first_client_message_id"],
        )
    return Entry(
        chat=chat_of(row, []),
        members=gathered["users"],
        blocked_by=gathered["blocking"] or (),
        read_no=row["read_no"],
        delivered_no=row["delivered_no"],
        joined=int(row["joined"]),
        others_read_no=gathered["others_read_no"],
        others_delivered_no=gathered["others_delivered_no"],
        likes=row["likes"],
        liked=row["liked"],
        first_unread=first,
    )
