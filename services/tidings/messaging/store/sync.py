"""What changed for one user, read in one snapshot: everything that a given transaction or a later one wrote last."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple
from uuid import UUID

from tidings.messaging.domain.entry import Mark, MarkKind
from tidings.messaging.domain.model import Update, User
from tidings.messaging.domain.sync import Place, Reached
from tidings.messaging.store.database import Connection, Database
from tidings.messaging.store.reading import UPDATE_COLUMNS, VISIBLE, updates_of

__all__ = [
    "Changes",
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

# Who left knows no more of a chat than who was never in it, its end included.
_REMOVED: Final = """
SELECT mine.chat_id FROM members mine JOIN chats c ON c.id = mine.chat_id
WHERE mine.user_id = $1
  AND (mine.left_at IS NOT NULL AND mine.changed >= $2::text::xid8
    OR mine.left_at IS NULL AND c.deleted_at IS NOT NULL AND c.changed >= $2::text::xid8)
ORDER BY mine.chat_id
"""

# Chat by chat until the limit, each from where it was left: what is read is what is shown, whatever the planner thinks
# of the chats. What may not be seen counts too, or a page could read any number of deleted updates to show none.
# `OFFSET 0` keeps the planner from asking twice, and from walking through whole chats.
_UPDATES: Final = f"""
WITH RECURSIVE walk (place, found, total) AS (
  SELECT 0, '{{}}'::bigint[], 0
  UNION ALL
  SELECT walk.place + 1, next.found, walk.total + cardinality(next.found)
  FROM walk, LATERAL (
    SELECT ARRAY(
      SELECT update_id FROM updates
      WHERE chat_id = ($2::uuid[])[walk.place + 1]
        AND (changed, update_id) > (($3::text[])[walk.place + 1]::xid8, ($4::bigint[])[walk.place + 1])
      ORDER BY changed, update_id LIMIT $5::int - walk.total) AS found OFFSET 0) AS next
  WHERE walk.place < cardinality($2::uuid[]) AND walk.total < $5::int)
SELECT {UPDATE_COLUMNS}, u.changed::text AS changed, {VISIBLE} AS visible
FROM walk
CROSS JOIN LATERAL unnest(walk.found) WITH ORDINALITY AS k (update_id, place)
CROSS JOIN LATERAL (
  SELECT * FROM updates WHERE chat_id = ($2::uuid[])[walk.place] AND update_id = k.update_id OFFSET 0) AS u
ORDER BY walk.place, k.place
"""  # noqa: S608

# `OFFSET 0` keeps the planner from reading whole chats where it needs one row of each.
# The newest mark of each kind; who wrote has read its own message too, and nobody needs a mark for that. Where so many
# have been members since the token that everyone's may not have been shown before, all come. The messages that are
# marked are far fewer than the marks.
_MARKS: Final = """
WITH marked AS MATERIALIZED (
  SELECT c.chat_id, m.user_id, v.kind, k.up_to_no, k.marked_at
  FROM unnest($2::uuid[], $3::boolean[], $4::text[]) AS c (chat_id, everyone, since)
  CROSS JOIN LATERAL (
    SELECT user_id FROM (
      SELECT user_id, left_at, delivered_no, changed >= c.since::xid8 AS lately,
        count(*) FILTER (WHERE left_at IS NULL OR changed >= c.since::xid8) OVER () AS members
      FROM members WHERE chat_id = c.chat_id AND c.everyone OFFSET 0) AS member
    WHERE left_at IS NULL AND delivered_no > 0 AND (lately OR members > $5)
    UNION ALL
    SELECT user_id FROM members
    WHERE chat_id = c.chat_id AND user_id = $1 AND NOT c.everyone
      AND left_at IS NULL AND delivered_no > 0 AND changed >= c.since::xid8) AS m
  CROSS JOIN (VALUES ('delivered'), ('read')) AS v (kind)
  CROSS JOIN LATERAL (
    SELECT up_to_no, marked_at FROM marks WHERE chat_id = c.chat_id AND user_id = m.user_id AND kind = v.kind
    ORDER BY up_to_no DESC LIMIT 1) AS k),
message AS MATERIALIZED (
  SELECT named.chat_id, named.up_to_no, g.update_id
  FROM (SELECT DISTINCT chat_id, up_to_no FROM marked) AS named
  CROSS JOIN LATERAL (
    SELECT update_id FROM messages WHERE chat_id = named.chat_id AND message_no = named.up_to_no OFFSET 0) AS g)
SELECT marked.chat_id, marked.user_id, marked.kind, marked.up_to_no, marked.marked_at, message.update_id
FROM marked JOIN message USING (chat_id, up_to_no)
ORDER BY marked.chat_id, marked.user_id, marked.kind
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


class Changes(NamedTuple):
    """Some updates that changed.

    Attributes:
        updates: Those that the user may see, by chat, then update id.
        end: Where they end, if there are more.
    """

    updates: list[Update]
    end: Place | None


async def changed_updates(
    at: Snapshot, user: str, since: int, chats: Mapping[UUID, Reached | None], limit: int
) -> Changes:
    """The first updates of those chats that changed: chat by chat, each in the order of the changes.

    Args:
        chats: In the order of their ids; each with what was reached of it before.
        limit: So many are looked at; what the user may not see is left out.
    Cost: two reads of each that is looked at, and one of each chat up to the last one; however many changed.
    """
    starts = [Reached(since, 0) if reached is None else reached for reached in chats.values()]
    changed, ids = [str(start.changed) for start in starts], [start.update_id for start in starts]
    rows = await at.connection.fetch(_UPDATES, user, list(chats), changed, ids, limit + 1)
    end = None
    if len(rows) > limit:
        rows = rows[:limit]
        end = Place(rows[-1]["chat_id"], Reached(int(rows[-1]["changed"]), rows[-1]["update_id"]))
    shown = sorted((row for row in rows if row["visible"]), key=_in_order)
    return Changes(await updates_of(at.connection, shown, user), end)


class Wanted(NamedTuple):
    """Which marks of a chat are asked for.

    Attributes:
        everyone: All members', or the user's own only.
        since: Of members whose marks changed by this transaction or a later one.
    """

    everyone: bool
    since: int


async def changed_marks(at: Snapshot, user: str, chats: Mapping[UUID, Wanted], told: int) -> list[Mark]:
    """How far people are in those chats, where that changed.

    Args:
        told: Everyone's are asked for in chats of at most so many members. Where there may have been more at the time
            of `since`, with those who left, everyone's are shown whether or not they changed.
    """
    everyone, since = [wanted.everyone for wanted in chats.values()], [str(wanted.since) for wanted in chats.values()]
    rows = await at.connection.fetch(_MARKS, user, list(chats), everyone, since, told)
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


def _in_order(row: Any) -> tuple[UUID, int]:
    return row["chat_id"], row["update_id"]
