"""The `context` of a record: what edges of other protocols need to build any frame without asking a database.

Native clients never see it. It is built from the rows that the use case read anyway. Times are microseconds since 1970.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tidings.messaging.domain.model import Attachment, Chat, Member, Message, User

__all__ = [
    "MAX_LISTED_MEMBERS",
    "chat_context",
    "message_context",
    "microseconds",
    "missed_context",
    "person",
]

Facts = dict[str, Any]

MAX_LISTED_MEMBERS: Final = 1_000
"""In larger chats a record says nothing about single receivers: it would grow with every one of them."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def microseconds(at: datetime) -> int:
    """Unix time, exact."""
    return (at - _EPOCH) // _MICROSECOND


def person(user: User) -> Facts:
    """A user, as shown to others."""
    return {
        "id": user.id,
        "number": user.number,
        "username": user.username,
        "name": user.name,
        "avatar": user.avatar,
    }


def chat_context(chat: Chat, actor: Member | User, session: str | None, at: datetime, **more: object) -> Facts:
    """What every record about a chat carries.

    Args:
        actor: Who caused it.
        session: The gateway session that the actor's request came through: an edge may leave that socket out.
        at: When it happened: the same for every receiver, and what clients order by.
        more: Further facts, such as `message` or `receivers`; left out where None.
    """
    about: Facts = {
        "id": str(chat.id),
        "number": chat.number,
        "kind": chat.kind.value,
        "room": chat.room,
        "name": chat.name,
        "photo": chat.photo,
        "admin_id": chat.admin_id,
        "creator_id": chat.creator_id,
        "created_us": microseconds(chat.created_at),
    }
    if not chat.kind.is_group:  # where each receiver's view is the other one
        about["members"] = [person(member.user) for member in chat.members]
    facts: Facts = {
        "at_us": microseconds(at),
        "actor": person(actor.user if isinstance(actor, Member) else actor),
        "chat": about,
    }
    if session is not None:
        facts["session"] = session
    facts.update((key, value) for key, value in more.items() if value is not None)
    return facts


def message_context(
    message: Message, *, readers: Sequence[tuple[User, datetime]] | None = None, deleted: bool | None = None
) -> Facts:
    """A message as a complete snapshot, since some clients replace whole objects.

    Args:
        readers: Who read it and when, where that is known: for a new message nobody.
        deleted: Whether it is deleted, if another than its row says so.
    """
    facts = _quoted(message)
    facts |= {
        "chat_id": str(message.chat_id),
        "parent": None if message.parent is None else message.parent.number,
        "reply_to": None if message.reply_to is None else _quoted(message.reply_to),
        "attachments": [_attachment(attachment) for attachment in message.attachments],
        "comment_count": message.comment_count,
        "edited_us": None if message.edited_at is None else microseconds(message.edited_at),
        "modified_us": microseconds(message.modified_at),
        "forwarded": message.forwarded,
        "deleted": message.deleted_at is not None if deleted is None else deleted,
    }
    if readers is not None:
        facts["readers"] = [{"id": user.id, "number": user.number, "read_us": microseconds(at)} for user, at in readers]
    return facts


def _quoted(message: Message) -> Facts:
    return {
        "id": str(message.id),
        "number": message.number,
        "message_no": message.message_no,
        "update_id": message.update_id,
        "client_message_id": message.client_message_id,
        "text": message.text,
        "created_us": microseconds(message.created_at),
        "sender": person(message.sender),
    }


def _attachment(attachment: Attachment) -> Facts:
    return {
        "number": attachment.number,
        "file_id": str(attachment.file_id),
        "file_name": attachment.file_name,
        "mime_type": attachment.mime_type,
        "file_size": attachment.file_size,
        "file_url": attachment.file_url,
        "created_us": microseconds(attachment.created_at),
        "meta": attachment.meta,
    }


def missed_context(chat: Chat, message_no: int, sender_id: str, names: Mapping[int, str]) -> dict[str, Facts] | None:
    """The `receivers` of a new message: how many each has not read, this one included, and which is the oldest.

    Args:
        chat: As it was before the message.
        message_no: The new message's; the sender has read it.
        names: For message numbers, the client message id, or the uuid where the author gave none.
    Returns:
        None in chats over `MAX_LISTED_MEMBERS`.
    """
    if len(chat.members) > MAX_LISTED_MEMBERS:
        return None
    found: dict[str, Facts] = {}
    for member in chat.members:
        missed = 0 if member.id == sender_id else max(0, message_no - member.read_no)
        facts: Facts = {"missed": missed}
        found[member.id] = facts
        if missed and (name := names.get(member.read_no + 1)) is not None:
            facts["first_missed"] = name
    return found
