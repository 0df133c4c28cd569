"""Chats of two, the end of any chat, and reading chats."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import msgspec

from tidings.errors import Conflict, NotFound
from tidings.messaging.commands import Answer, Record
from tidings.messaging.commands.telling import newest, tell
from tidings.messaging.domain import rules
from tidings.messaging.domain.limits import MAX_PREVIEW_UPDATES, MAX_PREVIEWS_UPDATES
from tidings.messaging.domain.model import Actor, Chat, Kind, Member, Update
from tidings.messaging.store import chats as store
from tidings.messaging.store.database import Connection, Database
from tidings.messaging.store.members import set_blocked
from tidings.messaging.store.unit import Unit
from tidings.messaging.wire import Wire, chat_changed, chat_created, chat_data

__all__ = ["Chats"]


class Chats:
    """The use cases of chats of two, and what all kinds of chat have in common."""

    def __init__(self, database: Database, wire: Wire) -> None:
        self._database = database
        self._wire = wire

    async def create_personal(
        self, actor: Actor, member_id: str, *, secret: bool = False, record: Record | None = None
    ) -> Answer:
        """Begin the one chat that two people have, or the one secret one.

        A personal chat begins as blocked as their last one was when it was deleted; who blocks takes it back as ever.

        Raises:
            InvalidInput: `chat_with_myself`, `validation_failed`.
            Conflict: `chat_already_exists`.
        """
        pair = rules.checked_pair(actor.id, member_id)
        kind = Kind.SECRET_PERSONAL if secret else Kind.PERSONAL

        async def work(unit: Unit) -> Answer:
            chat = await store.insert_chat(unit, kind, actor.id, pair, pair=rules.pair_key(kind, *pair))
            if chat is None:
                raise Conflict("chat_already_exists")
            who = rules.membership(chat, actor.id)
            created = chat_created(actor.id, chat, self._wire)
            tell(unit, chat, actor, who, "chat_created", created, listed=await newest(unit, chat))
            return await self._answer(unit, chat, record)

        return await self._database.run(work)

    async def block(self, actor: Actor, chat_id: UUID, *, record: Record | None = None) -> Answer:
        """Let nobody write to a personal chat until the actor takes it back.

        Raises:
            NotFound: `chat_not_found`: none such, not a member, or a chat that can't be blocked.
            Conflict: `already_blocked` by the actor.
        """

        async def work(unit: Unit) -> Answer:
            chat = await unit.lock_chat(chat_id)
            who = rules.checked_blockable(chat, actor.id)
            return await self._set_blocked(unit, chat, actor, who, True, record)

        return await self._database.run(work)

    async def unblock(self, actor: Actor, chat_id: UUID, *, record: Record | None = None) -> Answer:
        """Take the actor's own block back; the other one's stays.

        Raises:
            NotFound: `chat_not_found`: as `block`.
            Conflict: `already_unblocked`.
        """

        async def work(unit: Unit) -> Answer:
            chat = await unit.lock_chat(chat_id)
            who = rules.checked_unblockable(chat, actor.id)
            return await self._set_blocked(unit, chat, actor, who, False, record)

        return await self._database.run(work)

    async def delete(self, actor: Actor, chat_id: UUID, kind: Kind, *, record: Record | None = None) -> Answer:
        """End a chat for all its members: of two people by either one, a group by its admin.

        Raises:
            NotFound: `chat_not_found`: none such of that kind, or not a member.
            Forbidden: `sender_not_admin`.
        """

        async def work(unit: Unit) -> Answer:
            chat = rules.checked_kind(await unit.lock_chat(chat_id), kind)
            who = rules.membership(chat, actor.id)
            if kind.is_group:
                rules.must_be_admin(chat, actor.id)
            await store.delete_chat(unit, chat.id, actor.id)
            tell(unit, chat, actor, who, "chat_deleted", chat_changed(actor.id, chat.id))
            answer: Answer = {}
            if record is not None:
                await record(unit, answer)
            return answer

        return await self._database.run(work)

    async def get(
        self, actor: Actor, chat_id: UUID, *, last_update_id: bool = False, preview: int | None = None
    ) -> Answer:
        """One chat of the actor's.

        Args:
            last_update_id: Tell the id of its newest update.
            preview: Show so many of the newest messages, and all updates after the oldest of them.
        Raises:
            NotFound: `chat_not_found`.
            InvalidInput: `invalid_query_param`: `preview` is out of range.
        """
        rules.checked_preview(preview)
        async with (
            self._database.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            chat = await store.find_chat(connection, chat_id, actor.id)
            if chat is None:
                raise NotFound("chat_not_found")
            (data,) = await self._shown(connection, actor, [chat], last_update_id, preview)
            return data

    async def list_all(self, actor: Actor, *, last_update_id: bool = False, preview: int | None = None) -> Answer:
        """All chats of the actor's, the one with the newest message first; arguments and refusals as `get`."""
        rules.checked_preview(preview)
        async with (
            self._database.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            chats = await store.chats_of(connection, actor.id)
            return {"chats": await self._shown(connection, actor, chats, last_update_id, preview)}

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[Connection]:
        """One moment for all queries: a member that leaves meanwhile is in the whole answer or in nothing of it."""
        async with (
            self._database.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield connection

    async def _shown(
        self, connection: Connection, actor: Actor, chats: Sequence[Chat], last_update_id: bool, preview: int | None
    ) -> list[Answer]:
        previews: Mapping[UUID, Sequence[Update]] = {}
        if preview is not None:
            ids = [chat.id for chat in chats]
            each = max(1, min(MAX_PREVIEW_UPDATES, MAX_PREVIEWS_UPDATES // max(1, len(ids))))
            previews = await store.previews_of(connection, ids, actor.id, preview, each)
        return [
            chat_data(chat, self._wire, last_update_id=last_update_id, preview=previews.get(chat.id)) for chat in chats
        ]

    async def _set_blocked(
        self, unit: Unit, chat: Chat, actor: Actor, who: Member, blocked: bool, record: Record | None
    ) -> Answer:
        await set_blocked(unit.connection, chat.id, actor.id, blocked=blocked)
        await unit.touch_chat(chat.id)
        members = tuple(
            msgspec.structs.replace(member, blocked=blocked) if member.id == actor.id else member
            for member in chat.members
        )
        chat = msgspec.structs.replace(chat, members=members)
        tell(unit, chat, actor, who, "chat_blocked" if blocked else "chat_unblocked", chat_changed(actor.id, chat.id))
        return await self._answer(unit, chat, record)

    async def _answer(self, unit: Unit, chat: Chat, record: Record | None) -> Answer:
        answer = chat_data(chat, self._wire)
        if record is not None:
            await record(unit, answer)
        return answer
