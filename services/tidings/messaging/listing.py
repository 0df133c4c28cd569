"""Entries of lists, marks and people, in the words of the wire in use."""

from typing import Any

from tidings.messaging.domain.entry import Entry, Mark, status_of
from tidings.messaging.domain.model import Kind, User
from tidings.messaging.wire import Wire, chat_data, marks_set

__all__ = ["entry_data", "mark_data", "user_data"]

Data = dict[str, Any]


def entry_data(entry: Entry, viewer: str, wire: Wire) -> Data:
    """A chat in a list: the chat with its newest update's id, and what differs from member to member.

    Where the last message was read with it, `last_message_status` tells how far that one came.
    """
    chat = entry.chat
    data = chat_data(chat, wire, last_update_id=True)
    if chat.kind is Kind.PERSONAL:
        data["info"]["blocked_by"] = list(entry.blocked_by) or None
    data |= {
        "members": entry.members,
        "number": chat.number,
        "room": chat.room,
        "last_message_no": chat.last_message_no,
        "read_up_to_message_no": entry.read_no,
        "unread": entry.unread,
        "first_unread": None,
        "likes": entry.likes,
        "liked": entry.liked,
    }
    if entry.first_unread is not None and entry.unread:
        data["first_unread"] = {
            "message_id": str(entry.first_unread.id),
            "update_id": entry.first_unread.update_id,
            "message_no": entry.first_unread.message_no,
            "client_message_id": entry.first_unread.client_message_id,
        }
    status = status_of(entry, viewer)
    if status is not None:
        data["last_message_status"] = status.value
    return data


def mark_data(mark: Mark, wire: Wire) -> Data:
    """How far a member is: data of `marks_set`, and item of every read."""
    return marks_set(
        mark.chat_id,
        mark.user_id,
        mark.kind.value,
        up_to_message_no=mark.up_to_no,
        up_to_update_id=mark.up_to_update_id,
        marked_at=mark.marked_at,
        wire=wire,
    )


def user_data(user: User) -> Data:
    """A person."""
    return {
        "user_id": user.id,
        "number": user.number,
        "username": user.username,
        "name": user.name,
        "avatar": user.avatar,
    }
