"""What is emitted and answered, in the words of the wire in use: the written contract's, or those of chakchat's code.

Both say the same. They differ in how a time, an answered message and the missing photo are written, in two names of
update types and two of ways to delete, and in whether a file's facts lie flat.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, Literal
from uuid import UUID, uuid5

from tidings.errors import InvalidInput
from tidings.messaging.domain.model import Attachment, Chat, Kind, Message, Update, UpdateType

__all__ = [
    "DeleteMode",
    "Wire",
    "chat_changed",
    "chat_created",
    "chat_data",
    "chat_expiration_set",
    "delete_mode",
    "group_info_updated",
    "group_members",
    "marks_set",
    "message_uuid",
    "time_of",
    "update_data",
]

Data = dict[str, Any]
DeleteMode = Literal["all", "only_me"]

_NANOSECONDS: Final = 1_000_000_000


class Wire(StrEnum):
    """Whose words."""

    SEED = "seed"
    CHAKCHAT = "chakchat"


_DELETE_MODES: Final[Mapping[str, DeleteMode]] = MappingProxyType(
    {"all": "all", "for_all": "all", "only_me": "only_me", "for_deletion_sender": "only_me"}
)
_CHAKCHAT_DELETE_MODES: Final = MappingProxyType({"all": "for_all", "only_me": "for_deletion_sender"})
_CHAKCHAT_TYPES: Final = MappingProxyType({UpdateType.FILE: "file_message", UpdateType.DELETE: "update_deleted"})


def message_uuid(chat_id: UUID, update_id: int) -> UUID:
    """The uuid of the message that an update of a chat is: version 5, the chat's id as namespace, the id in decimal.

    So whoever has an update knows the uuid under which a later one names it in `reply_to`.
    """
    return uuid5(chat_id, str(update_id))


def time_of(at: datetime, wire: Wire) -> str | int:
    """RFC 3339 with microseconds and `Z`, or whole unix seconds."""
    if wire is Wire.CHAKCHAT:
        return int(at.timestamp())
    return at.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def delete_mode(text: str) -> DeleteMode:
    """For whom something is deleted, in the spelling of either wire.

    Raises:
        InvalidInput: `invalid_delete_mode`.
    """
    mode = _DELETE_MODES.get(text)
    if mode is None:
        raise InvalidInput("invalid_delete_mode", "one of " + ", ".join(_DELETE_MODES))
    return mode


def chat_data(chat: Chat, wire: Wire, *, last_update_id: bool = False, preview: Sequence[Update] | None = None) -> Data:
    """A chat, as answered and as inside `chat_created`.

    Args:
        last_update_id: Add the id of the chat's newest update; 0 when it has none.
        preview: Add these updates.
    """
    data: Data = {
        "chat_id": str(chat.id),
        "created_at": time_of(chat.created_at, wire),
        "type": chat.kind.value,
        "members": chat.member_ids,
        "info": _info(chat, wire),
    }
    if last_update_id:
        data["last_update_id"] = chat.last_update_id
    if preview is not None:
        data["update_preview"] = [update_data(update, wire) for update in preview]
    return data


def _info(chat: Chat, wire: Wire) -> Data:
    if chat.kind is Kind.PERSONAL:
        return {"blocked_by": chat.blocked_by or None}
    if chat.kind is Kind.SECRET_PERSONAL:
        return {"expiration": _nanoseconds(chat.expiration_s)}
    info: Data = {
        "admin_id": chat.admin_id,
        "name": chat.name,
        "description": chat.description,
        "group_photo": chat.photo if wire is Wire.CHAKCHAT else chat.photo or None,
    }
    if chat.kind is Kind.SECRET_GROUP:
        info["expiration"] = _nanoseconds(chat.expiration_s)
    return info


def _nanoseconds(seconds: int | None) -> int | None:
    return None if seconds is None else seconds * _NANOSECONDS


def chat_created(sender_id: str, chat: Chat, wire: Wire) -> Data:
    """Data of `chat_created`."""
    return {"sender_id": sender_id, "chat": chat_data(chat, wire)}


def chat_changed(sender_id: str, chat_id: UUID) -> Data:
    """Data of the kinds that say nothing but who and where: deleted, blocked, unblocked, liked, unliked."""
    return {"sender_id": sender_id, "chat_id": str(chat_id)}


def chat_expiration_set(sender_id: str, chat_id: UUID, expiration_s: int | None) -> Data:
    """Data of `chat_expiration_set`: nanoseconds, or null for never."""
    return {"chat_id": str(chat_id), "sender_id": sender_id, "expiration": _nanoseconds(expiration_s)}


def group_info_updated(sender_id: str, chat: Chat) -> Data:
    """Data of `group_info_updated`: every field as it now is, "" for nothing."""
    return {
        "sender_id": sender_id,
        "chat_id": str(chat.id),
        "name": chat.name,
        "description": chat.description,
        "group_photo": chat.photo,
    }


def group_members(sender_id: str, chat_id: UUID, members: Sequence[str]) -> Data:
    """Data of `group_members_added` and `group_members_removed`."""
    return {"sender_id": sender_id, "chat_id": str(chat_id), "members": list(members)}


def marks_set(
    chat_id: UUID,
    user_id: str,
    kind: str,
    *,
    up_to_message_no: int,
    up_to_update_id: int,
    marked_at: datetime,
    wire: Wire,
) -> Data:
    """Data of `marks_set`: a user has (`delivered`), or has read, everything up to that message."""
    return {
        "chat_id": str(chat_id),
        "user_id": user_id,
        "kind": kind,
        "up_to_message_no": up_to_message_no,
        "up_to_update_id": up_to_update_id,
        "marked_at": time_of(marked_at, wire),
    }


def update_data(update: Update, wire: Wire) -> Data:
    """An update: data of `update`, answer to what caused it, and item of every read.

    Beyond what both wires know, the content of a message tells `attachments`, `parent`, `client_message_id` and
    `forwarded` where there are any.
    """
    chakchat = wire is Wire.CHAKCHAT
    return {
        "update_id": update.update_id,
        "chat_id": str(update.chat_id),
        "sender_id": update.sender_id,
        "type": _CHAKCHAT_TYPES.get(update.type, update.type.value) if chakchat else update.type.value,
        "created_at": time_of(update.created_at, wire),
        "content": _content(update, wire),
    }


def _content(update: Update, wire: Wire) -> Data:
    match update.type:
        case UpdateType.TEXT | UpdateType.FILE:
            assert update.message is not None
            return _message(update, update.message, wire)
        case UpdateType.EDIT:
            return {"message_id": update.target_update_id, "new_text": update.content["new_text"]}
        case UpdateType.REACTION:
            return {"reaction": update.content["reaction"], "message_id": update.target_update_id}
        case UpdateType.DELETE:
            assert update.deleted_mode is not None
            mode = update.deleted_mode
            return {
                "deleted_id": update.target_update_id,
                "deleted_mode": _CHAKCHAT_DELETE_MODES[mode] if wire is Wire.CHAKCHAT else mode,
            }
        case UpdateType.SECRET:
            content = update.content
            return {key: content.get(key, "") for key in ("payload", "initialization_vector", "key_hash")}
        case UpdateType.ACTION_LOG:
            return dict(update.content)


def _message(update: Update, message: Message, wire: Wire) -> Data:
    content: Data
    if update.type is UpdateType.TEXT:
        content = {"text": message.text}
        if update.edited is not None:
            content["edited"] = update_data(update.edited, wire)
        further = message.attachments
    else:
        first = message.attachments[0] if message.attachments else _nothing(message)
        facts = _file(first)
        if wire is Wire.CHAKCHAT:
            content = {"file": facts | {"created_at": time_of(first.created_at, wire)}}
        else:
            content = facts | {"message_id": update.update_id}
        further = message.attachments if len(message.attachments) > 1 else ()
    if message.reply_to is not None:
        content["reply_to"] = _reference(message.reply_to, wire)
    if update.reactions:
        content["reactions"] = [update_data(reaction, wire) for reaction in update.reactions]
    if further:
        content["attachments"] = [_file(attachment) | {"meta": attachment.meta} for attachment in further]
    if message.parent is not None:
        content["parent"] = _reference(message.parent, wire)
    if message.client_message_id is not None:
        content["client_message_id"] = message.client_message_id
    if message.forwarded:
        content["forwarded"] = True
    return content


def _nothing(message: Message) -> Attachment:
    """In the place of a file that was deleted with its message."""
    return Attachment(
        file_id=UUID(int=0), file_name="", mime_type="", file_size=0, file_url="", created_at=message.created_at
    )


def _reference(message: Message, wire: Wire) -> str | int:
    return message.update_id if wire is Wire.CHAKCHAT else str(message.id)


def _file(attachment: Attachment) -> Data:
    return {
        "file_id": str(attachment.file_id),
        "file_name": attachment.file_name,
        "mime_type": attachment.mime_type,
        "file_size": attachment.file_size,
        "file_url": attachment.file_url,
    }
