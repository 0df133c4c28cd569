"""Reading what was written: the messages of a chat in both directions, and the list of chats."""

import base64
import binascii
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from tidings.errors import InvalidInput, NotFound
from tidings.messaging.commands import Answer
from tidings.messaging.context import message_context
from tidings.messaging.domain.model import Actor, Update
from tidings.messaging.listing import entry_data, user_data
from tidings.messaging.store.database import Connection, Database
from tidings.messaging.store.entries import entries_of, latest_messages, listed_chats
from tidings.messaging.store.history import find_member, message_rows, update_id_of
from tidings.messaging.store.marks import marks_over
from tidings.messaging.store.reading import updates_of
from tidings.messaging.store.sync import people
from tidings.messaging.wire import Wire, time_of, update_data

__all__ = ["MAX_CHATS", "MAX_MESSAGES", "By", "History"]

MAX_MESSAGES: Final = 500
"""Of one answer."""
MAX_CHATS: Final = 200
"""Of one answer."""
MAX_MARKS: Final = 1_000
"""Of one answer; the newest are left out, as they cover older messages than they name."""

By = Literal["update_id", "message_no", "number"]
"""What a cursor counts: the chat's updates, its messages, or the messages of all chats."""

_MAX_ID: Final = (1 << 63) - 1
_MAX_CURSOR_CHARS: Final = 128


class _Below(msgspec.Struct, frozen=True, array_like=True):
    """Where a page of the chat list ended."""

    at: datetime
    number: int


class History:
    """The use cases of reading back."""

    def __init__(self, database: Database, wire: Wire) -> None:
        self._database = database
        self._wire = wire

    async def messages(
        self,
        actor: Actor,
        chat_id: UUID,
        *,
        before: int | None = None,
        after: int | None = None,
        by: By = "update_id",
        limit: int = 50,
        parent: UUID | Literal["none"] | None = None,
    ) -> Answer:
        """Messages of a chat, always ascending: the newest, or those next to a cursor.

        The answer: `messages`, each an update (as in `/update`) with `message`, its facts for edges of other protocols;
        `marks`, those that cover them, each with `from_message_no` < number <= `up_to_message_no`; and whether there is
        `more` in that direction: then go on from the first, or last, message's id.

        Args:
            before: Only older ones than this; `after`: only newer ones. Not itself, and not both.
            by: What the cursor is.
            limit: 1 to `MAX_MESSAGES`.
            parent: Only the comments of that message; "none": no comments.
        Raises:
            NotFound: `chat_not_found`, `message_not_found` (the parent).
            InvalidInput: `invalid_query_param`.
        """
        if not 1 <= limit <= MAX_MESSAGES:
            raise InvalidInput("invalid_query_param", f"limit: 1 to {MAX_MESSAGES}")
        if before is not None and after is not None:
            raise InvalidInput("invalid_query_param", "before, after: only one of them")
        async with self._database.connection() as connection, _reading(connection):
            if await find_member(connection, chat_id, actor.id) is None:
                raise NotFound("chat_not_found")
            if isinstance(parent, UUID) and await update_id_of(connection, chat_id, "id", parent) is None:
                raise NotFound("message_not_found")
            back = after is None
            rows = await message_rows(
                connection,
                actor.id,
                chat_id,
                cursor=await _cursor(connection, chat_id, before if back else after, by, back),
                back=back,
                limit=limit + 1,
                roots=parent == "none",
                parent=parent if isinstance(parent, UUID) else None,
            )
            more, rows = len(rows) > limit, rows[:limit]
            updates = await updates_of(connection, rows[::-1] if back else rows, actor.id)
            marks = await self._marks(connection, chat_id, updates)
        return {
            "messages": [self._message(update) for update in updates],
            "marks": marks,
            "more": more,
        }

    async def chats(self, actor: Actor, *, cursor: str | None = None, limit: int = 50) -> Answer:
        """The actor's chats, the one with the newest message first.

        The answer: `chats`, each with its last message (`last_message`, and `last_message_status` for whom it matters:
        of one's own how far the others are), what is unread and where that begins; `users`, the people of the chats of
        two and the authors of the last messages; and `next`, the cursor of the next page, null after the last one.
        A chat whose last message comes while pages are read moves to the first one, and is missing in later ones.

        Args:
            limit: 1 to `MAX_CHATS`.
        Raises:
            InvalidInput: `invalid_query_param`.
        """
        if not 1 <= limit <= MAX_CHATS:
            raise InvalidInput("invalid_query_param", f"limit: 1 to {MAX_CHATS}")
        below = None if cursor is None else _below(cursor)
        async with self._database.connection() as connection, _reading(connection):
            rows = await listed_chats(
                connection, actor.id, None if below is None else (below.at, below.number), limit + 1
            )
            more, rows = len(rows) > limit, rows[:limit]
            ids = [row["id"] for row in rows]
            latest = {update.chat_id: update for update in await latest_messages(connection, actor.id, ids, 1)}
            entries = [
                msgspec.structs.replace(entry, last=latest.get(entry.chat.id))
                for entry in await entries_of(connection, actor.id, ids)
            ]
            names = {entry.last.sender_id for entry in entries if entry.last is not None}
            for entry in entries:
                if not entry.chat.kind.is_group:
                    names.update(entry.members)
            users = await people(connection, list(names))
        chats = []
        for entry in entries:
            data = entry_data(entry, actor.id, self._wire)
            data["last_message"] = None if entry.last is None else self._message(entry.last)
            chats.append(data)
        end = _Below(rows[-1]["at"], rows[-1]["number"]) if more else None
        return {
            "chats": chats,
            "users": [user_data(user) for user in users],
            "next": None if end is None else base64.urlsafe_b64encode(_encode(end)).rstrip(b"=").decode(),
        }

    def _message(self, update: Update) -> Answer:
        assert update.message is not None
        return update_data(update, self._wire) | {"message": message_context(update.message)}

    async def _marks(self, connection: Connection, chat_id: UUID, updates: list[Update]) -> list[Answer]:
        numbers = [update.message.message_no for update in updates if update.message is not None]
        if not numbers:
            return []
        rows = await marks_over(connection, chat_id, min(numbers), max(numbers), MAX_MARKS)
        return [
            {
                "user_id": row["user_id"],
                "kind": row["kind"],
                "from_message_no": row["from_no"],
                "up_to_message_no": row["up_to_no"],
                "marked_at": time_of(row["marked_at"], self._wire),
            }
            for row in rows
        ]


def _reading(connection: Connection) -> Any:
    return connection.transaction(isolation="repeatable_read", readonly=True)


async def _cursor(connection: Connection, chat_id: UUID, given: int | None, by: By, back: bool) -> int:
    """The update id beside which to begin."""
    if given is None:
        return _MAX_ID if back else 0
    if not 0 <= given <= _MAX_ID:
        raise InvalidInput("invalid_query_param", "before, after: not negative, at most 63 bits")
    if by == "update_id":
        return given
    found = await update_id_of(connection, chat_id, by, given)
    if found is not None:
        return found
    if by == "message_no":  # they have no gaps: it lies before the first or after the last
        return 0 if given == 0 else _MAX_ID
    raise InvalidInput("invalid_query_param", "before, after: no message of this chat")


def _below(cursor: str) -> _Below:
    try:
        if len(cursor) > _MAX_CURSOR_CHARS:
            raise ValueError("too long")
        raw = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        below = msgspec.msgpack.decode(raw, type=_Below)
        if below.at.tzinfo is None or not 0 <= below.number <= _MAX_ID:
            raise ValueError("not one of ours")
    except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
        raise InvalidInput("invalid_query_param", "cursor: not the `next` of an answer") from error
    return below


_encode: Final = msgspec.msgpack.Encoder().encode
