"""New messages into locked chats, and what their members are told."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from tidings.messaging.commands.marks import MAX_LOOKED_AT, told
from tidings.messaging.context import MAX_LISTED_MEMBERS, chat_context, message_context, missed_context
from tidings.messaging.domain.entry import Mark, MarkKind
from tidings.messaging.domain.model import Attachment, Chat, Member, Message, Update, UpdateType
from tidings.messaging.domain.modification import Modification
from tidings.messaging.store.messages import attach, change_comment_count, readers
from tidings.messaging.store.unit import Unit
from tidings.messaging.store.writing import NewMessage, Written, expiry, write_messages
from tidings.messaging.wire import Wire, message_uuid, update_data

__all__ = ["Draft", "Outgoing", "root_context", "send"]

_NO_CONTENT: Final[Mapping[str, Any]] = {}


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be written.

    Attributes:
        content: Of a secret update.
        expires_in_s: Seconds until it is deleted by itself.
    """

    type: UpdateType
    text: str = ""
    content: Mapping[str, Any] = _NO_CONTENT
    reply_to: Message | None = None
    parent: Message | None = None
    attachments: tuple[Attachment, ...] = ()
    forwarded_from: UUID | None = None
    client_message_id: str | None = None
    expires_in_s: int | None = None


class Outgoing(msgspec.Struct, frozen=True):
    """A draft with all that is known before it is written.

    Attributes:
        chat: As locked; nothing was written to it in this unit yet.
        at: The time of this change of the chat.
        session: That of the sender's own socket.
    """

    chat: Chat
    at: datetime
    who: Member
    session: str | None
    draft: Draft


async def send(unit: Unit, outgoing: Sequence[Outgoing], wire: Wire) -> list[Update]:
    """Write the messages, each into a chat of its own, and emit them; who had something unread before it has read that
    now, and the others learn so, without the messages that were read (`marks.told`).

    Cost: one round trip; for each with files one more, for each comment two.
    """
    new = [_new(one) for one in outgoing]
    written = await write_messages(unit.connection, new)
    return [await _emit(unit, *each, wire) for each in zip(outgoing, new, written, strict=True)]


def _new(one: Outgoing) -> NewMessage:
    chat, draft = one.chat, one.draft
    update_id = chat.last_update_id + 1
    return NewMessage(
        chat_id=chat.id,
        update_id=update_id,
        type=draft.type,
        sender_id=one.who.id,
        at=one.at,
        content=draft.content,
        expires_at=expiry(one.at, draft.expires_in_s),
        id=message_uuid(chat.id, update_id),
        client_message_id=draft.client_message_id,
        parent_id=None if draft.parent is None else draft.parent.id,
        reply_to=None if draft.reply_to is None else draft.reply_to.id,
        forwarded_from=draft.forwarded_from,
        text=draft.text,
        read_no=one.who.read_no,
        delivered_no=one.who.delivered_no,
        unread=_oldest_unread(chat, one.who),
        look_back_to_no=chat.last_message_no - MAX_LOOKED_AT,
    )


async def _emit(unit: Unit, one: Outgoing, new: NewMessage, written: Written, wire: Wire) -> Update:
    chat, at, who, draft = one.chat, one.at, one.who, one.draft
    attachments = draft.attachments
    if attachments:
        attachments = await attach(unit.connection, new.id, attachments)
    message = Message(
        id=new.id,
        number=written.number,
        chat_id=chat.id,
        update_id=new.update_id,
        message_no=written.message_no,
        sender=who.user,
        created_at=at,
        modified_at=at,
        text=draft.text,
        client_message_id=draft.client_message_id,
        parent=draft.parent,
        reply_to=draft.reply_to,
        forwarded=draft.forwarded_from is not None,
        attachments=attachments,
    )
    update = Update(
        chat_id=chat.id,
        update_id=new.update_id,
        type=draft.type,
        sender_id=who.id,
        created_at=at,
        content=dict(draft.content),
        message=message,
    )
    root = None if draft.parent is None else await root_context(unit, chat, draft.parent, by=1)
    _tell_read(unit, one, written, wire)
    own = draft.client_message_id or str(new.id)
    missed = missed_context(chat, written.message_no, who.id, {**written.names, written.message_no: own})
    unit.emit(
        Modification(
            chat_id=chat.id,
            type="update",
            receivers=chat.member_ids,
            data=update_data(update, wire),
            context=chat_context(
                chat, who, one.session, at, message=message_context(message, readers=()), root=root, **missed
            ),
        )
    )
    return update


async def root_context(unit: Unit, chat: Chat, root: Message, *, by: int) -> dict[str, Any]:
    """A message whose comments became more or fewer, as a snapshot for clients that don't count themselves."""
    assert unit.now is not None
    count = await change_comment_count(unit.connection, root.id, by, unit.now)
    root = msgspec.structs.replace(root, comment_count=count, modified_at=unit.now)
    who_read = await readers(unit.connection, root) if len(chat.members) <= MAX_LISTED_MEMBERS else None
    return message_context(root, readers=who_read)


def _oldest_unread(chat: Chat, who: Member) -> list[int]:
    """Numbers of the messages that are some member's oldest unread; the new one's own is known without asking."""
    if len(chat.members) > MAX_LISTED_MEMBERS:
        return []
    return list(
        {member.read_no + 1 for member in chat.members if member.id != who.id and member.read_no < chat.last_message_no}
    )


def _tell_read(unit: Unit, one: Outgoing, written: Written, wire: Wire) -> None:
    if not written.read_now:
        return
    chat, who = one.chat, one.who
    newest = max(written.read_now, key=lambda message: message.message_no)
    mark = Mark(
        chat_id=chat.id,
        user_id=who.id,
        kind=MarkKind.READ,
        up_to_no=newest.message_no,
        up_to_update_id=newest.update_id,
        marked_at=one.at,
    )
    name = newest.client_message_id or str(message_uuid(chat.id, newest.update_id))
    unit.emit(told(chat, who, one.session, mark, who.read_no, name, written.read_now, wire, {"missed": 0}))
