"""Chats as rows: made, changed, ended and read. Changes are made under the chat's lock (`Unit.lock_chat`)."""

import os
import time
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import msgspec

from tidings.messaging.domain.model import Chat, Kind, Update
from tidings.messaging.store.database import Connection
from tidings.messaging.store.members import ensure_users, insert_members, insert_pair, members_of
from tidings.messaging.store.reading import UPDATE_COLUMNS, VISIBLE, updates_of
from tidings.messaging.store.unit import CHAT_COLUMNS, MEMBERS, Unit, chat_of
from tidings.uuid7 import RANDOM_BYTES, uuid7

__all__ = [
    "chats_of",
    "delete_chat",
    "find_chat",
    "insert_chat",
    "previews_of",
    "set_expiration",
    "set_info",
    "set_photo",
]

_INSERT: Final = f"""
INSERT INTO chats (id, kind, pair, creator_id, admin_id, name, description, room)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (pair) DO NOTHING
RETURNING {CHAT_COLUMNS}
"""  # noqa: S608

# A deleted chat gives its pair back: the two may begin a new one. Only personal ones are blocked.
_DELETE: Final = """
WITH blocking AS (
  INSERT INTO blocks (user_id, other_id, blocked_at)
  SELECT mine.user_id, other.user_id, mine.blocked_at
  FROM members mine JOIN members other ON other.chat_id = mine.chat_id AND other.user_id <> mine.user_id
  WHERE mine.chat_id = $1 AND mine.blocked_at IS NOT NULL
  ON CONFLICT (user_id, other_id) DO UPDATE SET blocked_at = excluded.blocked_at)
UPDATE chats SET deleted_at = $3, deleted_by = $2, pair = NULL, changed = pg_current_xact_id(), updated_at = $3
WHERE id = $1
"""

_SET_INFO: Final = """
UPDATE chats SET name = $2, description = $3, changed = pg_current_xact_id(), updated_at = $4 WHERE id = $1
"""

_SET_PHOTO: Final = "UPDATE chats SET photo = $2, changed = pg_current_xact_id(), updated_at = $3 WHERE id = $1"

_SET_EXPIRATION: Final = """
UPDATE chats SET expiration_s = $2, changed = pg_current_xact_id(), updated_at = $3 WHERE id = $1
"""

_FIND: Final = f"""
SELECT {CHAT_COLUMNS} FROM chats JOIN members ON members.chat_id = chats.id
WHERE chats.id = $1 AND chats.deleted_at IS NULL AND members.user_id = $2 AND members.left_at IS NULL
"""  # noqa: S608

_CHATS_OF: Final = f"""
SELECT {CHAT_COLUMNS} FROM chats JOIN members ON members.chat_id = chats.id
WHERE members.user_id = $1 AND members.left_at IS NULL AND chats.deleted_at IS NULL
ORDER BY COALESCE(last_message_at, created_at) DESC, number DESC
"""  # noqa: S608

# The message numbers of a chat have no gaps, so the n-th last message is found without counting. Deleted ones in
# between make a preview shorter than asked, never longer.
_PREVIEWS: Final = f"""
SELECT {UPDATE_COLUMNS}
FROM chats c
CROSS JOIN LATERAL (
  SELECT m.update_id FROM messages m
  WHERE m.chat_id = c.id AND m.message_no > c.last_message_no - $3::bigint
  ORDER BY m.message_no LIMIT 1) AS oldest
CROSS JOIN LATERAL (
  SELECT * FROM updates WHERE chat_id = c.id AND update_id >= oldest.update_id ORDER BY update_id DESC LIMIT $4) AS u
WHERE c.id = ANY($2::uuid[]) AND {VISIBLE}
ORDER BY u.chat_id, u.update_id
"""  # noqa: S608


async def insert_chat(
    unit: Unit,
    kind: Kind,
    creator: str,
    members: Sequence[str],
    *,
    pair: str | None = None,
    name: str = "",
    description: str = "",
    room: str = "",
) -> Chat | None:
    """A new chat, which nobody else sees before the commit. The creator of a group is its admin. A personal chat is
    blocked as the last one of the two was.

    Args:
        pair: Of two people, `rules.pair_key`; None for groups.
    Returns:
        None if the pair has such a chat; waits for whoever makes it just now.
    """
    connection = unit.connection
    await ensure_users(connection, [creator, *members])
    chat_id = uuid7(time.time_ns() // 1_000_000, os.urandom(RANDOM_BYTES))
    admin = creator if kind.is_group else None
    row = await connection.fetchrow(_INSERT, chat_id, kind.value, pair, creator, admin, name, description, room)
    if row is None:
        return None
    unit.now = row["created_at"]
    if kind is Kind.PERSONAL:
        one, other = members
        await insert_pair(connection, chat_id, one, other)
    else:
        await insert_members(connection, chat_id, members)
    return chat_of(row, await connection.fetch(MEMBERS, chat_id))


async def delete_chat(unit: Unit, chat_id: UUID, user: str) -> None:
    """End it for all. Its rows stay, so that devices that were away learn of it, and its blocks, for the pair's next
    chat.
    """
    await unit.connection.execute(_DELETE, chat_id, user, unit.now)


async def set_info(unit: Unit, chat_id: UUID, name: str, description: str) -> None:
    """A group's name and description."""
    await unit.connection.execute(_SET_INFO, chat_id, name, description, unit.now)


async def set_photo(unit: Unit, chat_id: UUID, url: str) -> None:
    """A group's photo; "" for none."""
    await unit.connection.execute(_SET_PHOTO, chat_id, url, unit.now)


async def set_expiration(unit: Unit, chat_id: UUID, expiration_s: int | None) -> None:
    """After which time what is written from now on ends; None: never."""
    await unit.connection.execute(_SET_EXPIRATION, chat_id, expiration_s, unit.now)


async def find_chat(connection: Connection, chat_id: UUID, user: str) -> Chat | None:
    """The chat as that member sees it; None: no such chat, or not a member."""
    row = await connection.fetchrow(_FIND, chat_id, user)
    return None if row is None else chat_of(row, await connection.fetch(MEMBERS, chat_id))


async def chats_of(connection: Connection, user: str) -> list[Chat]:
    """All chats of a user, the one with the newest message first. Two queries, however many they are."""
    rows = await connection.fetch(_CHATS_OF, user)
    members = await members_of(connection, [row["id"] for row in rows])
    return [msgspec.structs.replace(chat_of(row, []), members=tuple(members[row["id"]])) for row in rows]


async def previews_of(
    connection: Connection, chat_ids: Sequence[UUID], user: str, messages: int, updates: int
) -> dict[UUID, list[Update]]:
    """Of each chat the newest messages and all that came after the oldest of them, as the user sees it, in order.

    Args:
        messages: So many messages; those deleted since are not shown.
        updates: At most so many updates of one chat, the newest.
    Cost: six queries, however many chats.
    """
    found: dict[UUID, list[Update]] = {chat_id: [] for chat_id in chat_ids}
    rows = await connection.fetch(_PREVIEWS, user, chat_ids, messages, updates)
    for update in await updates_of(connection, rows, user):
        found[update.chat_id].append(update)
    return found
