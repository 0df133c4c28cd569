"""What changed for one user, read in one snapshot: everything that a given transaction or a later one wrote last."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple
from uuid import UUID

from tidings.messaging.domain.entry import Mark, MarkKind
from tidings.messaging.domain.model import Update, User
from tidings.messaging.store.database import Connection, Database
from tidings.messaging.store.reading import UPDATE_COLUMNS, VISIBLE, updates_of

__all__ = [
    "Snapshot",
    "Wanted",
    "changed_chats",
    "changed_marks",
    "changed_people",
    "changed_updates",
    "people",
    "removed_chats",
    "snapshot",
]

# The first statement of a transaction that reads repeatably: its snapshot is that of all that follow.
_SNAPSHOT: Final = """
SELECT pg_snapshot_xmin(s)::text AS horizon, pg_snapshot_xmax(s)::text AS newest, epoch
FROM pg_current_snapshot() AS s, installation
"""

_CHATS: Final = """
SELECT mine.chat_id FROM members mine JOIN chats c ON c.id = mine.chat_id
WHERE mine.user_id = $1 AND mine.left_at IS NULL AND c.deleted_at IS NULL AND mine.chat_id >= $3
  AND (c.changed >= $2::text::xid8 OR mine.changed >= $2::text::xid8)
ORDER BY mine.chat_id LIMIT $4
"""

_REMOVED: Final = """
SELECT mine.chat_id FROM members mine JOIN chats c ON c.id = mine.chat_id
WHERE mine.user_id = $1
  AND (mine.left_at IS NOT NULL AND mine.changed >= $2::text::xid8
    OR c.deleted_at IS NOT NULL AND c.changed >= $2::text::xid8)
ORDER BY mine.chat_id
"""

# `OFFSET 0` keeps a plan that knows no values from walking through whole chats in the order of their ids.
_UPDATES: Final = f"""
SELECT x.* FROM unnest($2::uuid[], $3::bigint[]) WITH ORDINALITY AS k (chat_id, after, place),
LATERAL (
  SELECT {UPDATE_COLUMNS}
  FROM (SELECT * FROM updates WHERE chat_id = k.chat_id AND changed >= $4::text::xid8 OFFSET 0) u
  WHERE u.update_id > k.after AND {VISIBLE}
  ORDER BY u.update_id LIMIT $5) x
ORDER BY k.place, x.update_id LIMIT $5
"""  # noqa: S608

# `OFFSET 0` keeps the planner from reading whole chats where it needs one row of each.
# The newest mark of each kind; who wrote has read its own message too, and nobody needs a mark for that.
_MARKS: Final = """
SELECT m.chat_id, m.user_id, v.kind, k.up_to_no, k.marked_at, g.update_id
FROM unnest($2::uuid[], $3::boolean[], $4::text[]) AS c (chat_id, everyone, since)
CROSS JOIN LATERAL (
  SELECT * FROM members WHERE chat_id = c.chat_id AND (c.everyone OR user_id = $1)
    AND left_at IS NULL AND changed >= c.since::xid8 AND delivered_no > 0 OFFSET 0) m
CROSS JOIN (VALUES ('delivered'), ('read')) AS v (kind)
CROSS JOIN LATERAL (
  SELECT up_to_no, marked_at FROM marks WHERE chat_id = m.chat_id AND user_id = m.user_id AND kind = v.kind
  ORDER BY up_to_no DESC LIMIT 1) k
CROSS JOIN LATERAL (
  SELECT update_id FROM messages WHERE chat_id = m.chat_id AND message_no = k.up_to_no OFFSET 0) g
ORDER BY m.chat_id, m.user_id, v.kind
"""

_PEOPLE: Final = "SELECT id, number, username, name, avatar FROM users WHERE id = ANY($1::text[]) ORDER BY number"

# From the user's own chats to the people in them: who changed anywhere may be many more.
_CHANGED_PEOPLE: Final = """
SELECT DISTINCT u.id, u.number, u.username, u.name, u.avatar
FROM (
  SELECT $1::text AS id, false AS newcomer
  UNION
  SELECT other.user_id, other.joined >= $2::text::xid8 AND mine.joined < $2::text::xid8
  FROM members mine JOIN chats c ON c.id = mine.chat_id JOIN members other ON other.chat_id = mine.chat_id
  WHERE mine.user_id = $1 AND mine.left_at IS NULL AND c.deleted_at IS NULL AND other.left_at IS NULL) AS near
JOIN users u ON u.id = near.id
WHERE u.changed >= $2::text::xid8 OR near.newcomer
ORDER BY u.number
"""


class Snapshot(NamedTuple):
    """One moment of the database.

    Attributes:
        horizon: The oldest transaction that was under way: all before it are over, and seen here if they committed.
        newest: The first transaction id that is not in use yet.
    """

    connection: Connection
    epoch: UUID
    horizon: int
    newest: int


@asynccontextmanager
async def snapshot(database: Database) -> AsyncIterator[Snapshot]:
    """All reads inside see the same moment.

    Raises:
        DatabaseUnavailable: As `Database.connection`.
    """
    async with database.connection() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        row = await connection.fetchrow(_SNAPSHOT)
        assert row is not None
        yield Snapshot(connection, row["epoch"], int(row["horizon"]), int(row["newest"]))


async def changed_chats(at: Snapshot, user: str, since: int, first: UUID, limit: int) -> list[UUID]:
    """The user's chats that changed, by id, from `first` on."""
    return [row["chat_id"] for row in await at.connection.fetch(_CHATS, user, str(since), first, limit)]


async def removed_chats(at: Snapshot, user: str, since: int) -> list[UUID]:
    """Chats that the user is no longer in, or that are no more."""
    return [row["chat_id"] for row in await at.connection.fetch(_REMOVED, user, str(since))]


async def changed_updates(at: Snapshot, user: str, since: int, chats: Mapping[UUID, int], limit: int) -> list[Update]:
    """The first updates of those chats that changed, in the order of the chats, then of their ids.

    Args:
        chats: Each with the update id above which to begin.
    """
    rows = await at.connection.fetch(_UPDATES, user, list(chats), list(chats.values()), str(since), limit)
    return await updates_of(at.connection, rows, user)


class Wanted(NamedTuple):
    """Which marks of a chat are asked for.

    Attributes:
        everyone: All members', or the user's own only.
        since: Of members whose marks changed by this transaction or a later one.
    """

    everyone: bool
    since: int


async def changed_marks(at: Snapshot, user: str, chats: Mapping[UUID, Wanted]) -> list[Mark]:
    """How far people are in those chats, where that changed."""
    everyone, since = [wanted.everyone for wanted in chats.values()], [str(wanted.since) for wanted in chats.values()]
    rows = await at.connection.fetch(_MARKS, user, list(chats), everyone, since)
    return [
        Mark(
            chat_id=row["chat_id"],
            user_id=row["user_id"],
            kind=MarkKind(row["kind"]),
            up_to_no=row["up_to_no"],
            up_to_update_id=row["update_id"],
            marked_at=row["marked_at"],
        )
        for row in rows
    ]


async def changed_people(at: Snapshot, user: str, since: int) -> list[User]:
    """The user, and those who share a chat with it: where name, username or avatar changed, and those who came to a
    chat that the user was in already.
    """
    return [User(**dict(row)) for row in await at.connection.fetch(_CHANGED_PEOPLE, user, str(since))]


async def people(connection: Connection, ids: Sequence[str]) -> list[User]:
    """Those of the users that exist."""
    return [User(**dict(row)) for row in await connection.fetch(_PEOPLE, ids)] if ids else []
