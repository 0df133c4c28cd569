"""How far the members of a chat have come. Marks are set under the chat's lock."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from tidings.messaging.domain.entry import MarkKind
from tidings.messaging.domain.model import Message
from tidings.messaging.store.database import Connection
from tidings.messaging.store.reading import UPDATE_COLUMNS, updates_of
from tidings.messaging.store.unit import Unit

__all__ = [
    "Authored",
    "Marked",
    "authors",
    "covered_messages",
    "covering_mark",
    "find_marked",
    "marks_over",
    "set_marks",
]

_COLUMNS: Final = "id, update_id, message_no, client_message_id, sender_id, created_at"

_NEWEST: Final = f"""
SELECT {_COLUMNS} FROM messages WHERE chat_id = $1 ORDER BY message_no DESC LIMIT 1
"""  # noqa: S608
_BY_UPDATE: Final = f"""
SELECT {_COLUMNS} FROM messages WHERE chat_id = $1 AND update_id <= $2 ORDER BY update_id DESC LIMIT 1
"""  # noqa: S608
_BY_NO: Final = f"SELECT {_COLUMNS} FROM messages WHERE chat_id = $1 AND message_no = $2"  # noqa: S608
_BY_UUID: Final = f"SELECT {_COLUMNS} FROM messages WHERE id = $2 AND chat_id = $1"  # noqa: S608

# The first that ends late enough, or none: marks of one user do not overlap, and leave out what it wrote itself.
_COVERING: Final = """
SELECT CASE WHEN from_no < $4 THEN marked_at END FROM marks
WHERE chat_id = $1 AND user_id = $2 AND kind = $3 AND up_to_no >= $4 ORDER BY up_to_no LIMIT 1
"""

# Reading is also receiving, at the same moment, if that was not told before.
_SET: Final = """
WITH was AS (
  SELECT read_no, delivered_no FROM members WHERE chat_id = $1 AND user_id = $2),
moved AS (
  UPDATE members SET read_no = CASE WHEN $3 = 'read' THEN greatest(read_no, $4) ELSE read_no END,
    delivered_no = greatest(delivered_no, $4), changed = pg_current_xact_id()
  WHERE chat_id = $1 AND user_id = $2)
INSERT INTO marks (chat_id, user_id, kind, from_no, up_to_no, marked_at)
SELECT $1, $2, k.kind, k.from_no, $4, $5
FROM was, LATERAL (VALUES ('read', was.read_no), ('delivered', was.delivered_no)) k (kind, from_no)
WHERE k.from_no < $4 AND k.kind IN ('delivered', $3)
ON CONFLICT DO NOTHING
"""

# The newest of each author; over very many unread messages at once, of those who wrote lately.
_AUTHORS: Final = """
SELECT DISTINCT ON (sender_id) sender_id, message_no, update_id, client_message_id FROM messages
WHERE chat_id = $1 AND message_no > greatest($2::bigint, $3::bigint - $4::bigint) AND message_no <= $3
ORDER BY sender_id, message_no DESC
"""

_OVER: Final = """
SELECT k.user_id, k.kind, k.from_no, k.up_to_no, k.marked_at FROM marks k
JOIN members m ON m.chat_id = k.chat_id AND m.user_id = k.user_id
WHERE k.chat_id = $1 AND k.up_to_no >= $2 AND k.from_no < $3 AND m.left_at IS NULL
ORDER BY k.marked_at, k.user_id, k.kind LIMIT $4
"""


_COVERED: Final = f"""
SELECT {UPDATE_COLUMNS} FROM messages m JOIN updates u ON u.chat_id = m.chat_id AND u.update_id = m.update_id
WHERE m.chat_id = $1 AND m.message_no > $2 AND m.message_no <= $3 AND m.sender_id <> $4 AND u.deleted_at IS NULL
ORDER BY m.message_no
"""  # noqa: S608


class Marked(NamedTuple):
    """A message that a mark names."""

    id: UUID
    update_id: int
    message_no: int
    client_message_id: str | None
    sender_id: str
    created_at: datetime


class Authored(NamedTuple):
    """Somebody's newest message among those that a mark covers."""

    user_id: str
    message_no: int
    update_id: int
    client_message_id: str | None


async def find_marked(
    connection: Connection, chat_id: UUID, up_to: int | UUID | None = None, *, message_no: int | None = None
) -> Marked | None:
    """The message up to which a mark goes.

    Args:
        up_to: The message's uuid, or the id of it or of any update after it; None: the newest.
        message_no: The message's number in the chat, in place of that.
    """
    if message_no is not None:
        row = await connection.fetchrow(_BY_NO, chat_id, message_no)
    elif up_to is None:
        row = await connection.fetchrow(_NEWEST, chat_id)
    else:
        row = await connection.fetchrow(_BY_UUID if isinstance(up_to, UUID) else _BY_UPDATE, chat_id, up_to)
    return None if row is None else Marked(*row)


async def covering_mark(
    connection: Connection, chat_id: UUID, user: str, kind: MarkKind, message_no: int
) -> datetime | None:
    """When the user first marked that message; None: never, as its own and those from before it joined.

    Cost: one row by the index, however many marks there are.
    """
    at: datetime | None = await connection.fetchval(_COVERING, chat_id, user, kind.value, message_no)
    return at


async def set_marks(unit: Unit, chat_id: UUID, user: str, kind: MarkKind, message_no: int) -> None:
    """Mark all messages up to that one that the user had not marked yet; the chat must be locked."""
    await unit.connection.execute(_SET, chat_id, user, kind.value, message_no, unit.now)


async def authors(connection: Connection, chat_id: UUID, after_no: int, up_to_no: int, limit: int) -> list[Authored]:
    """Whose messages are among those, at most the newest `limit` of them looked at."""
    return [Authored(*row) for row in await connection.fetch(_AUTHORS, chat_id, after_no, up_to_no, limit)]


async def marks_over(connection: Connection, chat_id: UUID, first_no: int, last_no: int, limit: int) -> Sequence[Any]:
    """The marks of present members that cover one of those messages, the oldest first: each covers
    `from_no` < number <= `up_to_no`."""
    rows: Sequence[Any] = await connection.fetch(_OVER, chat_id, first_no, last_no, limit)
    return rows


async def covered_messages(
    connection: Connection, chat_id: UUID, user: str, after_no: int, up_to_no: int
) -> list[Message]:
    """What others wrote there, without what was deleted for all. At most five queries."""
    rows = await connection.fetch(_COVERED, chat_id, after_no, up_to_no, user)
    updates = await updates_of(connection, rows, user, nested=False)
    return [update.message for update in updates if update.message is not None]
