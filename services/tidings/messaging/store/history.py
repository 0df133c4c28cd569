"""What was written in a chat, read from a place on."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from tidings.messaging.store.database import Connection
from tidings.messaging.store.reading import UPDATE_COLUMNS, VISIBLE

__all__ = ["find_member", "message_rows", "update_id_of"]

# One statement for both directions: its plan is the index walked from the cursor, either way. `OFFSET 0` keeps the
# planner from reading all updates of the chat, which may be far more than its messages.
_MESSAGES: Final = f"""
SELECT {UPDATE_COLUMNS} FROM messages m
CROSS JOIN LATERAL (SELECT * FROM updates WHERE chat_id = m.chat_id AND update_id = m.update_id OFFSET 0) u
WHERE m.chat_id = $2 AND {VISIBLE}
"""  # noqa: S608
_BEFORE: Final = _MESSAGES + " AND m.update_id < $3 ORDER BY m.update_id DESC LIMIT $4"
_AFTER: Final = _MESSAGES + " AND m.update_id > $3 ORDER BY m.update_id LIMIT $4"
_ROOTS_BEFORE: Final = _MESSAGES + " AND m.parent_id IS NULL AND m.update_id < $3 ORDER BY m.update_id DESC LIMIT $4"
_ROOTS_AFTER: Final = _MESSAGES + " AND m.parent_id IS NULL AND m.update_id > $3 ORDER BY m.update_id LIMIT $4"
# Of one chat the numbers rise with the update ids, and the index of comments is in the order of the numbers.
_COMMENTS_BEFORE: Final = _MESSAGES + " AND m.parent_id = $5 AND m.update_id < $3 ORDER BY m.number DESC LIMIT $4"
_COMMENTS_AFTER: Final = _MESSAGES + " AND m.parent_id = $5 AND m.update_id > $3 ORDER BY m.number LIMIT $4"

_BY_NO: Final = "SELECT update_id FROM messages WHERE chat_id = $1 AND message_no = $2"
_BY_NUMBER: Final = "SELECT update_id FROM messages WHERE chat_id = $1 AND number = $2"
_BY_UUID: Final = "SELECT update_id FROM messages WHERE chat_id = $1 AND id = $2"

_MEMBER: Final = """
SELECT c.last_message_no, c.last_update_id FROM chats c JOIN members m ON m.chat_id = c.id
WHERE c.id = $1 AND c.deleted_at IS NULL AND m.user_id = $2 AND m.left_at IS NULL
"""


async def find_member(connection: Connection, chat_id: UUID, user: str) -> Any:
    """The chat's newest numbers, if the user is in it; else None."""
    return await connection.fetchrow(_MEMBER, chat_id, user)


async def message_rows(
    connection: Connection,
    user: str,
    chat_id: UUID,
    *,
    cursor: int,
    back: bool,
    limit: int,
    roots: bool = False,
    parent: UUID | None = None,
) -> Sequence[Any]:
    """Rows for `updates_of`: the messages next to an update id, in the order of going there.

    Args:
        cursor: Not included itself.
        back: To older ones.
        roots: Without comments.
        parent: Only the comments of this message.
    """
    if parent is not None:
        query = _COMMENTS_BEFORE if back else _COMMENTS_AFTER
    elif roots:
        query = _ROOTS_BEFORE if back else _ROOTS_AFTER
    else:
        query = _BEFORE if back else _AFTER
    comments = () if parent is None else (parent,)
    rows: Sequence[Any] = await connection.fetch(query, user, chat_id, cursor, limit, *comments)
    return rows


async def update_id_of(connection: Connection, chat_id: UUID, by: str, reference: int | UUID) -> int | None:
    """The update id of a message of that chat.

    Args:
        by: `message_no` (the count in the chat), `number` (of all chats) or `id`.
    """
    query = {"message_no": _BY_NO, "number": _BY_NUMBER, "id": _BY_UUID}[by]
    found: int | None = await connection.fetchval(query, chat_id, reference)
    return found
