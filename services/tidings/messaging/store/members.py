"""Who is in a chat. Those who left keep their row, so that their devices can learn of it."""

from collections.abc import Sequence
from uuid import UUID

from tidings.messaging.domain.model import Member
from tidings.messaging.store.database import Connection
from tidings.messaging.store.unit import MEMBERS_OF, member_of

__all__ = ["ensure_users", "insert_members", "insert_pair", "join_member", "members_of", "remove_member", "set_blocked"]

# Sorted, so that two who name the same people wait for each other and never around the corner.
_ENSURE_USERS = """
INSERT INTO users (id)
SELECT named.id FROM unnest($1::text[]) AS named (id)
WHERE NOT EXISTS (SELECT FROM users WHERE users.id = named.id)
ORDER BY named.id
ON CONFLICT (id) DO NOTHING
"""

_INSERT = "INSERT INTO members (chat_id, user_id) SELECT $1, user_id FROM unnest($2::text[]) AS user_id"

# The blocks of their last chat move into the new one: nobody gets rid of the other's by ending it and beginning anew.
_INSERT_PAIR = """
WITH blocking AS (
  DELETE FROM blocks WHERE (user_id, other_id) IN (($2, $3), ($3, $2)) RETURNING user_id, blocked_at)
INSERT INTO members (chat_id, user_id, blocked_at)
SELECT $1, named.user_id, blocking.blocked_at
FROM (VALUES ($2::text), ($3::text)) AS named (user_id) LEFT JOIN blocking USING (user_id)
"""

# A newcomer has nothing unread: what was written before it came is there to be read, but nobody waits for that.
_JOIN = """
WITH joined AS (
  INSERT INTO members (chat_id, user_id, read_no, delivered_no) VALUES ($1, $2, $3, $3)
  ON CONFLICT (chat_id, user_id) DO UPDATE SET left_at = NULL, joined_at = now(), blocked_at = NULL,
    read_no = excluded.read_no, delivered_no = excluded.delivered_no, changed = pg_current_xact_id(),
    joined = pg_current_xact_id()
  RETURNING user_id, joined_at, blocked_at, read_no, delivered_no)
SELECT m.user_id, m.joined_at, m.blocked_at IS NOT NULL AS blocked, m.read_no, m.delivered_no,
       u.number, u.username, u.name, u.avatar
FROM joined m JOIN users u ON u.id = m.user_id
"""

_REMOVE = """
WITH unliked AS (DELETE FROM likes WHERE chat_id = $1 AND user_id = $2)
UPDATE members SET left_at = now(), changed = pg_current_xact_id() WHERE chat_id = $1 AND user_id = $2
"""

_SET_BLOCKED = """
UPDATE members SET blocked_at = CASE WHEN $3 THEN now() END, changed = pg_current_xact_id()
WHERE chat_id = $1 AND user_id = $2
"""


async def ensure_users(connection: Connection, users: Sequence[str]) -> None:
    """Give those that nobody has heard of a row without names. Waits for whoever makes the same ones just now."""
    await connection.execute(_ENSURE_USERS, users)


async def insert_members(connection: Connection, chat_id: UUID, users: Sequence[str]) -> None:
    """The first members of a new chat."""
    await connection.execute(_INSERT, chat_id, users)


async def insert_pair(connection: Connection, chat_id: UUID, one: str, other: str) -> None:
    """The two of a new personal chat, with the blocks that stood when they last had one."""
    await connection.execute(_INSERT_PAIR, chat_id, one, other)


async def join_member(connection: Connection, chat_id: UUID, user: str, last_message_no: int) -> Member:
    """Add a user, who may have been a member before.

    Args:
        last_message_no: The chat's newest message; what comes after it is unread.
    """
    row = await connection.fetchrow(_JOIN, chat_id, user, last_message_no)
    assert row is not None
    return member_of(row)


async def remove_member(connection: Connection, chat_id: UUID, user: str) -> None:
    """Turn the membership into a note that it was one; its like of the chat goes with it."""
    await connection.execute(_REMOVE, chat_id, user)


async def set_blocked(connection: Connection, chat_id: UUID, user: str, *, blocked: bool) -> None:
    """Whether this member blocks the chat, from now on."""
    await connection.execute(_SET_BLOCKED, chat_id, user, blocked)


async def members_of(connection: Connection, chat_ids: Sequence[UUID]) -> dict[UUID, list[Member]]:
    """The present members of each of those chats, by one query."""
    found: dict[UUID, list[Member]] = {chat_id: [] for chat_id in chat_ids}
    for row in await connection.fetch(MEMBERS_OF, chat_ids):
        found[row["chat_id"]].append(member_of(row))
    return found
