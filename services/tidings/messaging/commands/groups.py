"""Groups, secret or not: made by their admin, who alone changes them."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from tidings.errors import NotFound
from tidings.messaging.commands import Answer, Record
from tidings.messaging.commands.telling import log_action, newest, tell
from tidings.messaging.domain import grouping, rules
from tidings.messaging.domain.model import Actor, Chat, Kind
from tidings.messaging.store import chats as store
from tidings.messaging.store import members as store_members
from tidings.messaging.store.database import Database
from tidings.messaging.store.files import find_file
from tidings.messaging.store.unit import Unit
from tidings.messaging.wire import Wire, chat_created, chat_data, group_info_updated, group_members

__all__ = ["Groups"]


class Groups:
    """The use cases of groups. `kind` is the one that the caller means: another group's id is then not found."""

    def __init__(self, database: Database, wire: Wire) -> None:
        self._database = database
        self._wire = wire

    async def create(
        self,
        actor: Actor,
        name: str,
        members: Sequence[str],
        *,
        description: str = "",
        room: str = "",
        secret: bool = False,
        record: Record | None = None,
    ) -> Answer:
        """Begin a group, with the actor as its admin for good.

        Raises:
            InvalidInput: `group_name_empty`, `group_name_too_long`, `group_description_too_long`, `too_many_members`,
                `validation_failed`.
            Forbidden: `admin_not_member`: the actor is not among the members.
        """
        name = grouping.checked_group_name(name)
        description = grouping.checked_description(description)
        room = grouping.checked_room(room)
        named = grouping.checked_group_members(actor.id, members)
        kind = Kind.SECRET_GROUP if secret else Kind.GROUP

        async def work(unit: Unit) -> Answer:
            chat = await store.insert_chat(unit, kind, actor.id, named, name=name, description=description, room=room)
            assert chat is not None  # only pairs are refused
            who = rules.membership(chat, actor.id)
            created = chat_created(actor.id, chat, self._wire)
            tell(unit, chat, actor, who, "chat_created", created, listed=await newest(unit, chat))
            return await self._answer(unit, chat, record)

        return await self._database.run(work)

    async def set_info(
        self, actor: Actor, chat_id: UUID, kind: Kind, name: str, description: str, *, record: Record | None = None
    ) -> Answer:
        """Replace a group's name and description.

        Raises:
            NotFound: `chat_not_found`: none such of that kind, or not a member.
            Forbidden: `sender_not_admin`.
            InvalidInput: `group_name_empty`, `group_name_too_long`, `group_description_too_long`.
        """

        async def work(unit: Unit) -> Answer:
            chat = await self._lock(unit, chat_id, kind)
            rules.must_be_admin(chat, actor.id)
            new_name, new_description = grouping.checked_group_name(name), grouping.checked_description(description)
            renamed = new_name != chat.name
            await store.set_info(unit, chat.id, new_name, new_description)
            chat = msgspec.structs.replace(chat, name=new_name, description=new_description)
            await self._tell_info(unit, chat, actor)
            if renamed:
                chat = await self._log(unit, chat, actor, "renamed", name=new_name)
            return await self._answer(unit, chat, record)

        return await self._database.run(work)

    async def set_photo(
        self, actor: Actor, chat_id: UUID, kind: Kind, file_id: UUID, *, record: Record | None = None
    ) -> Answer:
        """Show a file of the admin's as the group's photo.

        Raises:
            NotFound: `chat_not_found`, as `set_info`; `file_not_found`: unknown, or another's.
            Forbidden: `sender_not_admin`.
            InvalidInput: `invalid_photo`: too big, or no image of a known type.
        """

        async def work(unit: Unit) -> Answer:
            chat = await self._lock(unit, chat_id, kind)
            rules.must_be_admin(chat, actor.id)
            file = await find_file(unit.connection, file_id)
            if file is None or file.owner_id != actor.id:
                raise NotFound("file_not_found")
            grouping.checked_photo(file.mime_type, file.file_size)
            return await self._set_photo(unit, chat, actor, file.file_url, record)

        return await self._database.run(work)

    async def delete_photo(self, actor: Actor, chat_id: UUID, kind: Kind, *, record: Record | None = None) -> Answer:
        """Show no photo any more.

        Raises:
            NotFound, Forbidden: As `set_info`.
            InvalidInput: `group_photo_empty`.
        """

        async def work(unit: Unit) -> Answer:
            chat = await self._lock(unit, chat_id, kind)
            rules.must_be_admin(chat, actor.id)
            grouping.checked_photo_there(chat)
            return await self._set_photo(unit, chat, actor, "", record)

        return await self._database.run(work)

    async def add_member(
        self, actor: Actor, chat_id: UUID, kind: Kind, user: str, *, record: Record | None = None
    ) -> Answer:
        """Add a user. It is shown the chat, and may read all that was written before.

        Raises:
            NotFound, Forbidden: As `set_info`.
            Conflict: `user_already_member`.
            InvalidInput: `validation_failed`: no id of a user; `too_many_members`.
        """

        async def work(unit: Unit) -> Answer:
            chat = await self._lock(unit, chat_id, kind)
            grouping.checked_joining(chat, actor.id, user)
            others = chat.member_ids
            await store_members.ensure_users(unit.connection, [user])
            joined = await store_members.join_member(unit.connection, chat.id, user, chat.last_message_no)
            await unit.touch_chat(chat.id)
            chat = msgspec.structs.replace(chat, members=(*chat.members, joined))
            who = rules.membership(chat, actor.id)
            listed = await newest(unit, chat)
            created = chat_created(actor.id, chat, self._wire)
            tell(unit, chat, actor, who, "chat_created", created, receivers=[user], listed=listed)
            added = group_members(actor.id, chat.id, [user])
            tell(unit, chat, actor, who, "group_members_added", added, receivers=others, listed=listed)
            chat = await self._log(unit, chat, actor, "joined", users=[user])
            return await self._answer(unit, chat, record)

        return await self._database.run(work)

    async def remove_member(
        self, actor: Actor, chat_id: UUID, kind: Kind, user: str, *, record: Record | None = None
    ) -> Answer:
        """Remove a member, or leave. The one who goes is told too.

        Raises:
            NotFound: `chat_not_found`: none such of that kind, or the actor is not a member.
            Forbidden: `sender_not_admin`: somebody else than the admin removes another; `member_is_admin`: the admin
                stays as long as the group; `user_not_member`.
        """

        async def work(unit: Unit) -> Answer:
            chat = await self._lock(unit, chat_id, kind)
            grouping.checked_leaving(chat, actor.id, user)
            who = rules.membership(chat, actor.id)
            told = chat.member_ids
            await store_members.remove_member(unit.connection, chat.id, user)
            await unit.touch_chat(chat.id)
            chat = msgspec.structs.replace(chat, members=tuple(one for one in chat.members if one.id != user))
            removed = group_members(actor.id, chat.id, [user])
            listed = await newest(unit, chat)
            tell(unit, chat, actor, who, "group_members_removed", removed, receivers=told, listed=listed)
            action = "left" if user == actor.id else "removed"
            chat = await log_action(unit, chat, actor, who, self._wire, action, users=[user])
            return await self._answer(unit, chat, record)

        return await self._database.run(work)

    async def _lock(self, unit: Unit, chat_id: UUID, kind: Kind) -> Chat:
        return rules.checked_kind(await unit.lock_chat(chat_id), kind)

    async def _set_photo(self, unit: Unit, chat: Chat, actor: Actor, url: str, record: Record | None) -> Answer:
        await store.set_photo(unit, chat.id, url)
        chat = msgspec.structs.replace(chat, photo=url)
        await self._tell_info(unit, chat, actor)
        return await self._answer(unit, chat, record)

    async def _tell_info(self, unit: Unit, chat: Chat, actor: Actor) -> None:
        who = rules.membership(chat, actor.id)
        data = group_info_updated(actor.id, chat)
        tell(unit, chat, actor, who, "group_info_updated", data, listed=await newest(unit, chat))

    async def _log(self, unit: Unit, chat: Chat, actor: Actor, action: str, **more: Any) -> Chat:
        return await log_action(unit, chat, actor, rules.membership(chat, actor.id), self._wire, action, **more)

    async def _answer(self, unit: Unit, chat: Chat, record: Record | None) -> Answer:
        answer = chat_data(chat, self._wire)
        if record is not None:
            await record(unit, answer)
        return answer
