"""A chat's one sequence of updates: reading it, and what is done to its entries."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from tidings.messaging.domain.model import Kind, Update, UpdateType
from tidings.messaging.store.database import Connection
from tidings.messaging.store.idempotency import blank_answers
from tidings.messaging.store.reading import UPDATE_COLUMNS, VISIBLE, updates_of

__all__ = [
    "add_update",
    "delete_for_all",
    "delete_for_one",
    "deleted_for",
    "kind_for",
    "reaction_stands",
    "read_range",
    "target",
    "touch_update",
]

_MEMBER = """
SELECT c.kind FROM members m JOIN chats c ON c.id = m.chat_id
WHERE m.chat_id = $1 AND m.user_id = $2 AND m.left_at IS NULL AND c.deleted_at IS NULL
"""

_RANGE = f"""
SELECT {UPDATE_COLUMNS} FROM updates u
WHERE u.chat_id = $2 AND u.update_id BETWEEN $3 AND $4 AND {VISIBLE}
ORDER BY u.update_id LIMIT $5
"""  # noqa: S608

_TARGET = f"""
SELECT {UPDATE_COLUMNS}, d.user_id IS NOT NULL AS deleted_for_user
FROM updates u LEFT JOIN deletions d ON d.chat_id = u.chat_id AND d.update_id = u.update_id AND d.user_id = $2
WHERE u.chat_id = $1 AND u.update_id =
"""  # noqa: S608
_TARGET_BY_UPDATE = _TARGET + "$3::bigint"
_TARGET_BY_UUID = _TARGET + "(SELECT m.update_id FROM messages m WHERE m.id = $3::uuid AND m.chat_id = $1)"  # noqa: S608

_ADD = """
WITH chat AS (
  UPDATE chats SET last_update_id = last_update_id + 1, changed = pg_current_xact_id(), updated_at = $4
  WHERE id = $1 RETURNING last_update_id)
INSERT INTO updates (chat_id, update_id, type, sender_id, created_at, target_update_id, deleted_mode, content)
SELECT $1, last_update_id, $2, $3, $4, $5::bigint, $6, $7::jsonb FROM chat RETURNING update_id
"""

_TOUCH = "UPDATE updates SET changed = pg_current_xact_id() WHERE chat_id = $1 AND update_id = $2"

# With it go its edits, whose text is the message's, and its reactions.
_DELETE_FOR_ALL = """
UPDATE updates SET deleted_at = $3, deleted_by = $4, changed = pg_current_xact_id(),
  content = CASE type WHEN 'text_message_edited' THEN '{"new_text": ""}' WHEN 'reaction' THEN content ELSE '{}' END
WHERE chat_id = $1 AND deleted_at IS NULL AND (update_id = $2
  OR (target_update_id = $2 AND type IN ('text_message_edited', 'reaction')))
RETURNING chat_id, update_id, type
"""
_DELETE_FOR_ONE = "INSERT INTO deletions (chat_id, update_id, user_id) VALUES ($1, $2, $3)"
_DELETED_FOR = "SELECT user_id FROM deletions WHERE chat_id = $1 AND update_id = $2"

_REACTION_STANDS = """
SELECT EXISTS (SELECT FROM updates WHERE chat_id = $1 AND target_update_id = $2 AND sender_id = $3
  AND type = 'reaction' AND deleted_at IS NULL AND content ->> 'reaction' = $4)
"""

_encode = msgspec.json.Encoder().encode


async def kind_for(connection: Connection, chat_id: UUID, user: str) -> Kind | None:
    """The kind of a chat that the user is in now; None: not in such a chat."""
    kind = await connection.fetchval(_MEMBER, chat_id, user)
    return None if kind is None else Kind(kind)


async def target(connection: Connection, chat_id: UUID, reference: int | UUID, user: str) -> Update | None:
    """One update of a chat, to answer, change or delete; with its message if it is one.

    Returns:
        None if the chat has no such update. `deleted_at` is set also if it is deleted for this user only.
    Cost: one query; for a message up to five.
    """
    query = _TARGET_BY_UUID if isinstance(reference, UUID) else _TARGET_BY_UPDATE
    row = await connection.fetchrow(query, chat_id, user, reference)
    if row is None:
        return None
    (update,) = await updates_of(connection, [row], user, nested=False)
    if row["deleted_for_user"] and update.deleted_at is None:
        return msgspec.structs.replace(update, deleted_at=update.created_at)
    return update


async def read_range(
    connection: Connection, chat_id: UUID, user: str, first: int, last: int, limit: int
) -> list[Update]:
    """What the user may see of a chat's updates `first` to `last`, ascending, at most `limit`: messages with their
    newest edit and the reactions that stand. Cost: at most six queries, whatever the range.
    """
    rows = await connection.fetch(_RANGE, user, chat_id, first, last, limit)
    return await updates_of(connection, rows, user)


async def add_update(
    connection: Connection,
    chat_id: UUID,
    type_: UpdateType,
    sender_id: str,
    at: datetime,
    *,
    target_update_id: int | None = None,
    deleted_mode: str | None = None,
    content: dict[str, Any] | None = None,
) -> Update:
    """Write an update that is no message under the chat's next id. The chat must be locked; `at` is the unit's time."""
    content = content or {}
    update_id = await connection.fetchval(
        _ADD,
        chat_id,
        type_.value,
        sender_id,
        at,
        target_update_id,
        deleted_mode,
        _encode(content).decode(),
    )
    return Update(
        chat_id=chat_id,
        update_id=update_id,
        type=type_,
        sender_id=sender_id,
        created_at=at,
        target_update_id=target_update_id,
        deleted_mode=deleted_mode,
        content=content,
    )


async def touch_update(connection: Connection, chat_id: UUID, update_id: int) -> None:
    """Note that what an update shows has changed: `/sync` shows it again."""
    await connection.execute(_TOUCH, chat_id, update_id)


async def delete_for_all(connection: Connection, chat_id: UUID, update_id: int, by: str, at: datetime) -> None:
    """Take an update away from everybody, with what was done to it; its content is blanked, in kept answers too."""
    await blank_answers(connection, await connection.fetch(_DELETE_FOR_ALL, chat_id, update_id, at, by))


async def delete_for_one(connection: Connection, chat_id: UUID, update_id: int, user: str) -> None:
    """Take an update away from one user."""
    await connection.execute(_DELETE_FOR_ONE, chat_id, update_id, user)


async def deleted_for(connection: Connection, chat_id: UUID, update_id: int) -> set[str]:
    """Who deleted an update for itself: it learns no more about it."""
    return {row["user_id"] for row in await connection.fetch(_DELETED_FOR, chat_id, update_id)}


async def reaction_stands(connection: Connection, chat_id: UUID, update_id: int, user: str, reaction: str) -> bool:
    """Whether the user gave that message this reaction and did not take it back. The chat must be locked."""
    stands: bool = await connection.fetchval(_REACTION_STANDS, chat_id, update_id, user, reaction)
    return stands
