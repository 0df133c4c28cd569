"""One unit of work: what a use case reads and writes in its transaction, and what it emits."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from tidings.errors import NotFound
from tidings.messaging.domain.model import Chat, Kind, Member, User
from tidings.messaging.domain.modification import Modification
from tidings.messaging.store.answer import Kept

__all__ = ["CHAT_COLUMNS", "MEMBERS", "MEMBERS_OF", "Unit", "chat_of"]

CHAT_COLUMNS = (
    "id, number, kind, creator_id, admin_id, room, name, description, photo, expiration_s,"
    " last_update_id, last_message_no, created_at"
)

# Not now(), when the transaction began: if it had to wait, that is before what the one before it wrote.
_AT = "greatest(clock_timestamp(), updated_at + interval '1 microsecond') AS at"

_LOCK = f"""
SELECT {CHAT_COLUMNS}, {_AT} FROM chats WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE
"""  # noqa: S608

_LOCK_FREE = f"""
SELECT {CHAT_COLUMNS}, {_AT} FROM chats WHERE id = ANY($1::uuid[]) AND deleted_at IS NULL
FOR NO KEY UPDATE SKIP LOCKED
"""  # noqa: S608
_LOCK_IF_FREE = f"{_LOCK} SKIP LOCKED"

_MEMBERS = """
SELECT m.chat_id, m.user_id, m.joined_at, m.blocked_at IS NOT NULL AS blocked, m.read_no, m.delivered_no,
       u.number, u.username, u.name, u.avatar
FROM members m JOIN users u ON u.id = m.user_id
WHERE m.chat_id = {} AND m.left_at IS NULL
ORDER BY m.joined_at, u.number
"""
MEMBERS = _MEMBERS.format("$1")
MEMBERS_OF = _MEMBERS.format("ANY($1::uuid[])")

_CHANGED = (
    "UPDATE chats SET changed = pg_current_xact_id(), updated_at = coalesce($2::timestamptz, now()) WHERE id = $1"
)


class Unit:
    """The transaction under way. Emitted modifications reach the outbox in order, at its end.

    Attributes:
        now: The time of this change by Postgres's clock, set by `lock_chat`: it rises from one change of a chat to the
            next.
    """

    def __init__(self, connection: "asyncpg.pool.PoolConnectionProxy[Any]") -> None:
        self.connection = connection
        self.emitted: list[Modification] = []
        self.kept: list[Kept] = []
        self.now: datetime | None = None

    async def lock_chat(self, chat_id: UUID) -> Chat:
        """The chat, locked until the commit: every change of a chat begins here, so they come one after the other.

        Raises:
            NotFound: `chat_not_found`.
        """
        row = await self.connection.fetchrow(_LOCK, chat_id)
        if row is None:
            raise NotFound("chat_not_found")
        self.now = row["at"]
        # After the lock: a statement of its own sees what the one before us committed.
        return chat_of(row, await self.connection.fetch(MEMBERS, chat_id))

    async def lock_free_chats(self, chat_ids: Sequence[UUID]) -> "list[tuple[Chat, datetime]]":
        """Those of these chats that there are and that nobody else has locked, locked until the commit, each with the
        time of its change. Waits for nobody.
        """
        if len(chat_ids) == 1:  # a list would be planned anew each time, for what it may hold
            row = await self.connection.fetchrow(_LOCK_IF_FREE, chat_ids[0])
            return [] if row is None else [(chat_of(row, await self.connection.fetch(MEMBERS, row["id"])), row["at"])]
        found = await self.connection.fetch(_LOCK_FREE, chat_ids)
        members: dict[UUID, list[Any]] = {row["id"]: [] for row in found}
        for row in await self.connection.fetch(MEMBERS_OF, list(members)):
            members[row["chat_id"]].append(row)
        return [(chat_of(row, members[row["id"]]), row["at"]) for row in found]

    async def touch_chat(self, chat_id: UUID) -> None:
        """Note that the chat changed without a new update: `/sync` shows it."""
        await self.connection.execute(_CHANGED, chat_id, self.now)

    def emit(self, modification: Modification) -> None:
        """Send it once this transaction has committed."""
        self.emitted.append(modification)

    def keep(self, answer: Kept) -> None:
        """Keep this answer with the work; if another one stands there already, the work is undone in the end."""
        self.kept.append(answer)


def chat_of(row: Any, members: list[Any]) -> Chat:
    """A chat from its row (`CHAT_COLUMNS`) and those of its members (`MEMBERS`)."""
    return Chat(
        id=row["id"],
        number=row["number"],
        kind=Kind(row["kind"]),
        creator_id=row["creator_id"],
        admin_id=row["admin_id"],
        created_at=row["created_at"],
        room=row["room"],
        name=row["name"],
        description=row["description"],
        photo=row["photo"],
        expiration_s=row["expiration_s"],
        last_update_id=row["last_update_id"],
        last_message_no=row["last_message_no"],
        members=tuple(map(member_of, members)),
    )


def member_of(row: Any) -> Member:
    """A member from a row of `MEMBERS`."""
    return Member(
        user=User(
            id=row["user_id"],
            number=row["number"],
            username=row["username"],
            name=row["name"],
            avatar=row["avatar"],
        ),
        joined_at=row["joined_at"],
        blocked=row["blocked"],
        read_no=row["read_no"],
        delivered_no=row["delivered_no"],
    )
