"""Writing: texts, files, comments, what is forwarded, and secrets."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from tidings.errors import Conflict, DomainError, NotFound
from tidings.messaging.commands import Answer, Record
from tidings.messaging.commands.sending import Draft, Outgoing, send
from tidings.messaging.commands.together import Letter, Together
from tidings.messaging.domain import rules, writing
from tidings.messaging.domain.model import Actor, Attachment, Chat, Kind, Message, Update, UpdateType
from tidings.messaging.domain.writing import Reference
from tidings.messaging.store.database import Database
from tidings.messaging.store.messages import files
from tidings.messaging.store.unit import Unit
from tidings.messaging.store.updates import kind_for, target
from tidings.messaging.store.writing import written_as
from tidings.messaging.wire import Wire, update_data
from tidings.metrics import Metrics

__all__ = ["Messages"]

_NO_FILES: Final[Mapping[UUID, Mapping[str, Any]]] = {}


class Messages:
    """The use cases of writing.

    A client that names its messages may send one again: it is written once, and every retry is answered as the first,
    even where it would be refused by now.
    """

    def __init__(self, database: Database, wire: Wire, metrics: Metrics | None = None) -> None:
        self._database = database
        self._wire = wire
        self._together = Together(database, wire, metrics or Metrics())

    async def send_text(
        self,
        actor: Actor,
        kind: Kind,
        chat_id: UUID,
        text: str,
        *,
        reply_to: Reference | None = None,
        parent: Reference | None = None,
        attachments: Mapping[UUID, Mapping[str, Any]] = _NO_FILES,
        client_message_id: str | None = None,
        record: Record | None = None,
    ) -> Answer:
        """Write a text.

        Args:
            kind: Of the chat that the caller means.
            reply_to: The message that it answers.
            parent: The message that it comments.
            attachments: Files, in order, with what the sender says about each. With files the text may be empty.
            client_message_id: The sender's name for it, unique among all its messages.
        Raises:
            NotFound: `chat_not_found`, `message_not_found` (to answer or comment), `file_not_found` (unknown,
                or another's).
            Forbidden: `chat_blocked`.
            Conflict: `update_deleted`: what it answers or comments; `client_message_id_reused`, in another chat.
            InvalidInput: `text_empty`, `too_many_characters`, `validation_failed`.
        """
        writing.checked_message_text(text, may_be_empty=bool(attachments))
        writing.checked_attachments(attachments)
        writing.checked_client_message_id(client_message_id)
        if reply_to is None and parent is None and not attachments:
            draft = Draft(type=UpdateType.TEXT, text=text, client_message_id=client_message_id)
            return await self._post(Letter(actor, kind, chat_id, lambda chat: draft, client_message_id, record))

        async def prepare(unit: Unit, chat: Chat) -> Draft:
            return Draft(
                type=UpdateType.TEXT if text else UpdateType.FILE,
                text=text,
                reply_to=await self._named(unit, chat, reply_to, actor),
                parent=await self._parent(unit, chat, parent, actor),
                attachments=await _known(unit, attachments, actor),
                client_message_id=client_message_id,
            )

        return await self._write(actor, kind, chat_id, prepare, client_message_id, record)

    async def send_file(
        self,
        actor: Actor,
        kind: Kind,
        chat_id: UUID,
        file_id: UUID,
        *,
        reply_to: Reference | None = None,
        parent: Reference | None = None,
        meta: Mapping[str, Any] | None = None,
        client_message_id: str | None = None,
        record: Record | None = None,
    ) -> Answer:
        """Show a file of one's own whose facts are known. Arguments and refusals as `send_text`."""
        return await self.send_text(
            actor,
            kind,
            chat_id,
            "",
            reply_to=reply_to,
            parent=parent,
            attachments={file_id: meta or {}},
            client_message_id=client_message_id,
            record=record,
        )

    async def forward(
        self,
        actor: Actor,
        kind: Kind,
        chat_id: UUID,
        type_: UpdateType,
        message: Reference,
        from_chat_id: UUID,
        *,
        client_message_id: str | None = None,
        record: Record | None = None,
    ) -> Answer:
        """Write a copy of a message, text and files, from any chat of the actor's that the server can read.

        Args:
            type_: What it must be: a text or a file.
        Raises:
            NotFound: `chat_not_found`, either one; `message_not_found`.
            Forbidden: `chat_blocked`, the one written to.
            Conflict: `update_deleted`; `client_message_id_reused`.
        """
        writing.checked_client_message_id(client_message_id)

        async def prepare(unit: Unit, chat: Chat) -> Draft:
            if await kind_for(unit.connection, from_chat_id, actor.id) is None:
                raise NotFound("chat_not_found")
            source = await self._named_update(unit, from_chat_id, message, actor)
            if source.type is not type_ or source.message is None:
                raise NotFound("message_not_found")
            return Draft(
                type=type_,
                text=source.message.text,
                attachments=source.message.attachments,
                forwarded_from=source.message.id,
                client_message_id=client_message_id,
            )

        return await self._write(actor, kind, chat_id, prepare, client_message_id, record)

    async def send_secret(
        self,
        actor: Actor,
        kind: Kind,
        chat_id: UUID,
        *,
        payload: str,
        initialization_vector: str,
        key_hash: str,
        client_message_id: str | None = None,
        record: Record | None = None,
    ) -> Answer:
        """Pass on what only the members can read; it is deleted once the chat's expiration has passed.

        Args:
            payload: Base64 with padding, as the two below.
        Raises:
            NotFound: `chat_not_found`.
            Conflict: `client_message_id_reused`.
            InvalidInput: `too_many_characters`, `validation_failed`.
        """
        content = writing.checked_secret(payload, initialization_vector, key_hash)
        writing.checked_client_message_id(client_message_id)

        def draft(chat: Chat) -> Draft:
            return Draft(
                type=UpdateType.SECRET,
                content=content,
                expires_in_s=chat.expiration_s,
                client_message_id=client_message_id,
            )

        return await self._post(Letter(actor, kind, chat_id, draft, client_message_id, record))

    async def _post(self, letter: Letter) -> Answer:
        """Write it together with others, or if that can't be, alone."""
        answer = await self._together.write(letter)
        if answer is not None:
            return answer

        async def prepare(unit: Unit, chat: Chat) -> Draft:
            return letter.draft(chat)

        return await self._write(
            letter.actor, letter.kind, letter.chat_id, prepare, letter.client_message_id, letter.record
        )

    async def _write(
        self,
        actor: Actor,
        kind: Kind,
        chat_id: UUID,
        prepare: Callable[[Unit, Chat], Awaitable[Draft]],
        client_message_id: str | None,
        record: Record | None,
    ) -> Answer:
        async def work(unit: Unit) -> Answer:
            chat = rules.checked_kind(await unit.lock_chat(chat_id), kind)
            who = rules.membership(chat, actor.id)
            rules.must_be_open(chat)
            assert unit.now is not None
            outgoing = Outgoing(chat, unit.now, who, actor.session, await prepare(unit, chat))
            (update,) = await send(unit, [outgoing], self._wire)
            answer = update_data(update, self._wire)
            if record is not None:
                await record(unit, answer)
            return answer

        # Looking first would cost every message that has a name a round trip, and find nothing but for the retries.
        try:
            return await self._database.run(work)
        except (asyncpg.UniqueViolationError, DomainError):
            if client_message_id is None:
                raise
            first = await self._first_answer(actor, chat_id, client_message_id, record)
            if first is None:
                raise
            return first

    async def _first_answer(
        self, actor: Actor, chat_id: UUID, client_message_id: str, record: Record | None
    ) -> Answer | None:
        async def work(unit: Unit) -> Answer | None:
            found = await written_as(unit.connection, actor.id, client_message_id)
            if found is None:
                return None
            if found[0] != chat_id:
                raise Conflict("client_message_id_reused")
            update = await target(unit.connection, chat_id, found[1], actor.id)
            assert update is not None
            answer = update_data(update, self._wire)
            if record is not None:
                await record(unit, answer)
            return answer

        return await self._database.run(work)

    async def _named(self, unit: Unit, chat: Chat, reference: Reference | None, actor: Actor) -> Message | None:
        if reference is None:
            return None
        return (await self._named_update(unit, chat.id, reference, actor)).message

    async def _parent(self, unit: Unit, chat: Chat, reference: Reference | None, actor: Actor) -> Message | None:
        message = await self._named(unit, chat, reference, actor)
        return None if message is None else writing.must_be_root(message)

    async def _named_update(self, unit: Unit, chat_id: UUID, reference: Reference, actor: Actor) -> Update:
        found = await target(unit.connection, chat_id, reference, actor.id)
        if found is None or found.message is None:
            raise NotFound("message_not_found")
        return writing.must_stand(found)


async def _known(unit: Unit, attachments: Mapping[UUID, Mapping[str, Any]], actor: Actor) -> tuple[Attachment, ...]:
    if not attachments:
        return ()
    found = await files(unit.connection, attachments, actor.id)
    if len(found) < len(attachments):
        raise NotFound("file_not_found")
    return tuple(msgspec.structs.replace(found[file_id], meta=dict(meta)) for file_id, meta in attachments.items())
