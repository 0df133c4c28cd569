"""People: who they are, what they are called, and with whom they share chats."""

from typing import Final

import asyncpg

from tidings.errors import Conflict
from tidings.messaging.domain.model import Actor, User
from tidings.messaging.store.database import Connection

__all__ = ["change_user", "find_user", "near", "see_user"]

_COLUMNS: Final = "id, number, username, name, avatar"

_FIND: Final = f"SELECT {_COLUMNS} FROM users WHERE id = $1"  # noqa: S608

# What a person chose here stays, nothing included: a token only fills what is empty and was never chosen. A username
# that another has is left out.
_SEE: Final = f"""
INSERT INTO users AS u (id, username, name, avatar)
SELECT $1, CASE WHEN EXISTS (
         SELECT FROM users WHERE lower(username) = lower($2) AND username <> '' AND id <> $1) THEN '' ELSE $2 END,
       $3, $4
ON CONFLICT (id) DO UPDATE SET
  username = CASE WHEN u.username = '' AND NOT u.username_chosen THEN excluded.username ELSE u.username END,
  name = CASE WHEN u.name = '' AND NOT u.name_chosen THEN excluded.name ELSE u.name END,
  avatar = CASE WHEN u.avatar = '' AND NOT u.avatar_chosen THEN excluded.avatar ELSE u.avatar END,
  updated_at = now(), changed = pg_current_xact_id()
WHERE u.username = '' AND NOT u.username_chosen AND excluded.username <> ''
   OR u.name = '' AND NOT u.name_chosen AND excluded.name <> ''
   OR u.avatar = '' AND NOT u.avatar_chosen AND excluded.avatar <> ''
RETURNING {_COLUMNS}, xmax = 0 AS fresh
"""  # noqa: S608

_CHANGE: Final = f"""
UPDATE users SET username = COALESCE($2, username), name = COALESCE($3, name), avatar = COALESCE($4, avatar),
  username_chosen = username_chosen OR $2 IS NOT NULL, name_chosen = name_chosen OR $3 IS NOT NULL,
  avatar_chosen = avatar_chosen OR $4 IS NOT NULL, updated_at = now(), changed = pg_current_xact_id()
WHERE id = $1 RETURNING {_COLUMNS}, updated_at AS at
"""  # noqa: S608

_NEAR: Final = """
SELECT DISTINCT other.user_id
FROM members mine JOIN chats c ON c.id = mine.chat_id JOIN members other ON other.chat_id = mine.chat_id
WHERE mine.user_id = $1 AND other.user_id <> $1 AND mine.left_at IS NULL AND other.left_at IS NULL
  AND c.deleted_at IS NULL
ORDER BY other.user_id
"""


async def find_user(connection: Connection, id_: str) -> User | None:
    """The person of that id."""
    row = await connection.fetchrow(_FIND, id_)
    return None if row is None else User(**dict(row))


async def see_user(connection: Connection, actor: Actor) -> tuple[User, bool] | None:
    """Give the actor a row, and fill what is empty in it and was never chosen by `change_user`.

    Returns:
        The person, and whether nobody had heard of it before; None if nothing was to be done.
    Raises:
        asyncpg.UniqueViolationError: Just now another got the same username.
    """
    row = await connection.fetchrow(_SEE, actor.id, actor.username, actor.name, actor.avatar)
    if row is None:
        return None
    facts = dict(row)
    fresh = facts.pop("fresh")
    return User(**facts), fresh


async def change_user(
    connection: Connection, id_: str, username: str | None, name: str | None, avatar: str | None
) -> User:
    """Call a person something else; None: as before, "": nothing, which `see_user` leaves so. The row stays locked
    until the commit.

    Raises:
        Conflict: `username_taken`.
    """
    try:
        row = await connection.fetchrow(_CHANGE, id_, username, name, avatar)
    except asyncpg.UniqueViolationError as error:
        raise Conflict("username_taken") from error
    assert row is not None, "the actor has a row"
    facts = dict(row)
    del facts["at"]
    return User(**facts)


async def near(connection: Connection, id_: str) -> list[str]:
    """Those who share a chat with that person, without it."""
    return [row["user_id"] for row in await connection.fetch(_NEAR, id_)]
