"""What is done to what was written: edits, reactions, deletions; and reading a chat's updates again."""

from typing import Any
from uuid import UUID

import msgspec

from tidings.errors import InvalidInput, NotFound
from tidings.messaging.commands import Answer, Record
from tidings.messaging.commands.sending import root_context
from tidings.messaging.commands.telling import newest
from tidings.messaging.context import MAX_LISTED_MEMBERS, chat_context, listed_context, message_context
from tidings.messaging.domain import rules, writing
from tidings.messaging.domain.entry import Newest
from tidings.messaging.domain.limits import MAX_UPDATES_PER_PAGE
from tidings.messaging.domain.model import Actor, Chat, Kind, Member, Message, Update, UpdateType
from tidings.messaging.domain.modification import Modification
from tidings.messaging.domain.writing import Reference
from tidings.messaging.store import updates as store
from tidings.messaging.store.database import Database
from tidings.messaging.store.messages import blank, readers, replace_text
from tidings.messaging.store.unit import Unit
from tidings.messaging.wire import DeleteMode, Wire, update_data

__all__ = ["Updates"]


class Updates:
    """The use cases of a chat's one sequence of updates, but for writing what people read."""

    def __init__(self, database: Database, wire: Wire) -> None:
        self._database = database
        self._wire = wire

    async def edit_text(
        self,
        actor: Actor,
        kind: Kind,
        chat_id: UUID,
        message: Reference,
        text: str,
        *,
        record: Record | None = None,
    ) -> Answer:
        """Replace the text of one's own message. Returns the whole message with the edit in it.

        Raises:
            NotFound: `chat_not_found`, `message_not_found` (none, or no text).
            Forbidden: `chat_blocked`, `user_not_sender`.
            Conflict: `update_deleted`.
            InvalidInput: `text_empty`, `too_many_characters`, `validation_failed`.
        """
        writing.checked_message_text(text)

        async def work(unit: Unit) -> Answer:
            chat, who = await self._open(unit, kind, chat_id, actor)
            target = await _target(unit, chat, message, actor, "message_not_found")
            edited = writing.must_be_own_text(target, actor.id)
            writing.must_stand(target)
            assert unit.now is not None
            await replace_text(unit.connection, edited.id, text, unit.now)
            await store.touch_update(unit.connection, chat.id, target.update_id)
            update = await self._add(
                unit, chat, who, UpdateType.EDIT, target_update_id=target.update_id, content={"new_text": text}
            )
            edited = msgspec.structs.replace(edited, text=text, edited_at=unit.now, modified_at=unit.now)
            await self._tell(unit, chat, who, actor, update, about=edited)
            shown = msgspec.structs.replace(target, message=edited, edited=update)
            return await self._answer(unit, shown, record)

        return await self._database.run(work)

    async def react(
        self,
        actor: Actor,
        kind: Kind,
        chat_id: UUID,
        message: Reference,
        reaction: str,
        *,
        record: Record | None = None,
    ) -> Answer:
        """React to a message; several reactions by one user stand side by side, each once.

        Raises:
            NotFound: `chat_not_found`, `message_not_found`.
            Forbidden: `chat_blocked`.
            Conflict: `update_deleted`.
            InvalidInput: `invalid_reaction_type`: no reaction, or one that the user gave and did not take back.
        """
        writing.checked_reaction(reaction)

        async def work(unit: Unit) -> Answer:
            chat, who = await self._open(unit, kind, chat_id, actor)
            target = await _target(unit, chat, message, actor, "message_not_found")
            if target.message is None:
                raise NotFound("message_not_found")
            writing.must_stand(target)
            # Every read of the message shows all that stand: the same one again and again would make it endless.
            if await store.reaction_stands(unit.connection, chat.id, target.update_id, actor.id, reaction):
                raise InvalidInput("invalid_reaction_type", "this reaction of yours stands already")
            await store.touch_update(unit.connection, chat.id, target.update_id)
            update = await self._add(
                unit, chat, who, UpdateType.REACTION, target_update_id=target.update_id, content={"reaction": reaction}
            )
            await self._tell(unit, chat, who, actor, update, about=target.message)
            return await self._answer(unit, update, record)

        return await self._database.run(work)

    async def delete_message(
        self,
        actor: Actor,
        kind: Kind,
        chat_id: UUID,
        message: Reference,
        mode: DeleteMode,
        *,
        record: Record | None = None,
    ) -> Answer:
        """Take a message away from everybody, whoever wrote it, or from the actor only.

        Raises:
            NotFound: `chat_not_found`, `message_not_found`.
            Forbidden: `chat_blocked`.
            Conflict: `update_deleted` before, for all or for the actor.
        """

        async def work(unit: Unit) -> Answer:
            chat, who = await self._open(unit, kind, chat_id, actor)
            target = await _target(unit, chat, message, actor, "message_not_found")
            if target.message is None:
                raise NotFound("message_not_found")
            writing.must_stand(target)
            return await self._delete(unit, chat, who, actor, target, mode, record)

        return await self._database.run(work)

    async def delete_reaction(
        self, actor: Actor, kind: Kind, chat_id: UUID, reaction: Reference, *, record: Record | None = None
    ) -> Answer:
        """Take back one's own reaction, for everybody.

        Raises:
            NotFound: `chat_not_found`, `reaction_not_found`.
            Forbidden: `chat_blocked`, `reaction_not_from_user`.
            Conflict: `update_deleted` before, itself or with its message.
        """

        async def work(unit: Unit) -> Answer:
            chat, who = await self._open(unit, kind, chat_id, actor)
            target = await _target(unit, chat, reaction, actor, "reaction_not_found")
            if target.type is not UpdateType.REACTION:
                raise NotFound("reaction_not_found")
            writing.must_be_own_reaction(target, actor.id)
            writing.must_stand(target)
            return await self._delete(unit, chat, who, actor, target, "all", record)

        return await self._database.run(work)

    async def delete_secret(
        self, actor: Actor, kind: Kind, chat_id: UUID, secret: Reference, *, record: Record | None = None
    ) -> Answer:
        """Take a secret update away from everybody, whoever sent it.

        Raises:
            NotFound: `chat_not_found`, `secret_update_not_found`.
            Conflict: `update_deleted` before, or ended.
        """

        async def work(unit: Unit) -> Answer:
            chat, who = await self._open(unit, kind, chat_id, actor)
            target = await _target(unit, chat, secret, actor, "secret_update_not_found")
            if target.type is not UpdateType.SECRET:
                raise NotFound("secret_update_not_found")
            writing.must_stand(target)
            return await self._delete(unit, chat, who, actor, target, "all", record)

        return await self._database.run(work)

    async def read(self, actor: Actor, chat_id: UUID, first: int, last: int) -> Answer:
        """A chat's updates from `first` to `last`, ascending: those that the actor may see.

        Returns:
            `updates`, and `next_from` if there are more of them than one answer holds.
        Raises:
            NotFound: `chat_not_found`.
            InvalidInput: `validation_failed`.
        """
        writing.checked_range(first, last)
        async with (
            self._database.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            if await store.kind_for(connection, chat_id, actor.id) is None:
                raise NotFound("chat_not_found")
            found = await store.read_range(connection, chat_id, actor.id, first, last, MAX_UPDATES_PER_PAGE + 1)
        page = found[:MAX_UPDATES_PER_PAGE]
        answer: Answer = {"updates": [update_data(update, self._wire) for update in page]}
        if len(found) > len(page):
            answer["next_from"] = found[-1].update_id
        return answer

    async def _open(self, unit: Unit, kind: Kind, chat_id: UUID, actor: Actor) -> tuple[Chat, Member]:
        chat = rules.checked_kind(await unit.lock_chat(chat_id), kind)
        who = rules.membership(chat, actor.id)
        rules.must_be_open(chat)
        return chat, who

    async def _delete(
        self,
        unit: Unit,
        chat: Chat,
        who: Member,
        actor: Actor,
        target: Update,
        mode: DeleteMode,
        record: Record | None,
    ) -> Answer:
        assert unit.now is not None
        message = target.message
        root = None
        told: list[str] | None = None
        if mode == "only_me":
            await store.delete_for_one(unit.connection, chat.id, target.update_id, actor.id)
            told = [actor.id]
        else:
            await store.delete_for_all(unit.connection, chat.id, target.update_id, actor.id, unit.now)
            if message is not None:
                await blank(unit.connection, message.id, unit.now)
                if message.parent is not None and message.parent.deleted_at is None:
                    root = await root_context(unit, chat, message.parent, by=-1)
                message = msgspec.structs.replace(
                    message, text="", attachments=(), modified_at=unit.now, deleted_at=unit.now
                )
            elif target.target_update_id is not None:
                await store.touch_update(unit.connection, chat.id, target.target_update_id)
        update = await self._add(
            unit, chat, who, UpdateType.DELETE, target_update_id=target.update_id, deleted_mode=mode
        )
        reaction = target.content["reaction"] if target.type is UpdateType.REACTION else None
        listed = None
        if message is not None and not chat.kind.is_secret:  # it may have been the one that lists show
            listed = await newest(unit, chat, viewer=actor.id if mode == "only_me" else None)
        await self._tell(
            unit,
            chat,
            who,
            actor,
            update,
            about=message,
            of=target,
            receivers=told,
            listed=listed,
            root=root,
            reaction=reaction,
        )
        return await self._answer(unit, update, record)

    async def _add(
        self,
        unit: Unit,
        chat: Chat,
        who: Member,
        type_: UpdateType,
        *,
        target_update_id: int,
        deleted_mode: str | None = None,
        content: dict[str, Any] | None = None,
    ) -> Update:
        assert unit.now is not None
        return await store.add_update(
            unit.connection,
            chat.id,
            type_,
            who.id,
            unit.now,
            target_update_id=target_update_id,
            deleted_mode=deleted_mode,
            content=content,
        )

    async def _tell(
        self,
        unit: Unit,
        chat: Chat,
        who: Member,
        actor: Actor,
        update: Update,
        *,
        about: Message | None,
        of: Update | None = None,
        receivers: list[str] | None = None,
        listed: Newest | None = None,
        **more: Any,
    ) -> None:
        """Emit to all members but those who deleted for themselves what it is about.

        Args:
            listed: As `telling.tell`.
        """
        assert unit.now is not None
        if receivers is None:
            gone = await store.deleted_for(unit.connection, chat.id, _message_update_id(update, about, of))
            receivers = [member for member in chat.member_ids if member not in gone]
        message = None
        if about is not None:
            who_read = None
            if about.deleted_at is None and len(chat.members) <= MAX_LISTED_MEMBERS:
                who_read = await readers(unit.connection, about)
            message = message_context(about, readers=who_read)
        context = chat_context(chat, who, actor.session, unit.now, message=message, **more)
        if listed is not None:
            context |= listed_context(chat, receivers, listed)
        unit.emit(
            Modification(
                chat_id=chat.id,
                type="update",
                receivers=receivers,
                data=update_data(update, self._wire),
                context=context,
            )
        )

    async def _answer(self, unit: Unit, update: Update, record: Record | None) -> Answer:
        answer = update_data(update, self._wire)
        if record is not None:
            await record(unit, answer)
        return answer


async def _target(unit: Unit, chat: Chat, reference: Reference, actor: Actor, missing: str) -> Update:
    found = await store.target(unit.connection, chat.id, reference, actor.id)
    if found is None:
        raise NotFound(missing)
    return found


def _message_update_id(update: Update, about: Message | None, of: Update | None) -> int:
    """Which message it is about in the end: that of a deleted reaction is the one reacted to."""
    if about is not None:
        return about.update_id
    assert of is not None
    assert of.target_update_id is not None, update.type
    return of.target_update_id
