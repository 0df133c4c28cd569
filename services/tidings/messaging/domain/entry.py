"""A chat as one of its members sees it in a list, and the marks that tell how far people are."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from tidings.messaging.domain.model import Chat, Member, Message, Update

__all__ = ["Entry", "FirstUnread", "Mark", "MarkKind", "Newest", "Status", "status_of", "statuses"]


class MarkKind(StrEnum):
    """How far something came: to a device, or to the eyes."""

    DELIVERED = "delivered"
    READ = "read"


class Status(StrEnum):
    """How far a message came. Of one's own what counts are the others, of another's oneself."""

    READ = "read"
    UNREAD = "unread"
    UNDELIVERED = "undelivered"


class FirstUnread(msgspec.Struct, frozen=True, kw_only=True):
    """The oldest message that a member has not read."""

    id: UUID
    update_id: int
    message_no: int
    client_message_id: str | None


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """A member's newest mark of a kind: it covers that message and all before it.

    Attributes:
        marked_at: When; messages that an earlier mark covered keep that one's time.
    """

    chat_id: UUID
    user_id: str
    kind: MarkKind
    up_to_no: int
    up_to_update_id: int
    marked_at: datetime


class Newest(msgspec.Struct, frozen=True, kw_only=True):
    """What a chat shows as its newest message.

    Attributes:
        message: None: there is none that was not deleted.
        hidden_from: The present members that deleted it for themselves.
    """

    message: Message | None = None
    hidden_from: frozenset[str] = frozenset()


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A chat in a list.

    Attributes:
        chat: Without its members: thousands of them would only be made to be listed.
        members: Ids of the present members, in the order in which they joined; `blocked_by` those who block the chat.
        read_no: The viewer's own newest mark; `delivered_no` likewise.
        joined: The transaction by which the viewer became a member, the last time if it was one before.
        others_read_no: What all others have read; `others_delivered_no` what reached at least one of them.
        likes: How many members like the chat; `liked` whether the viewer does.
        last: The newest message that the viewer may see, where it was asked for.
    """

    chat: Chat
    members: Sequence[str]
    blocked_by: Sequence[str]
    read_no: int
    delivered_no: int
    joined: int
    others_read_no: int
    others_delivered_no: int
    likes: int
    liked: bool
    first_unread: FirstUnread | None
    last: Update | None = None

    @property
    def unread(self) -> int:
        """How many messages the viewer has not read, all by others: sending implies reading."""
        return max(0, self.chat.last_message_no - self.read_no)


def status_of(entry: Entry, viewer: str) -> Status | None:
    """How far the last message came; None: there is none."""
    if entry.last is None or entry.last.message is None:
        return None
    no = entry.last.message.message_no
    if entry.last.sender_id == viewer:
        return _status(no, entry.others_read_no, entry.others_delivered_no)
    return _status(no, entry.read_no, entry.delivered_no)


def statuses(members: Sequence[Member], message: Message) -> dict[str, Status]:
    """For each of a chat's members, as `status_of`: how far a message came. Cost: one walk over them."""
    others = [member for member in members if member.id != message.sender.id]
    found = {member.id: _status(message.message_no, member.read_no, member.delivered_no) for member in others}
    if len(others) < len(members):
        read_no = min((member.read_no for member in others), default=0)
        delivered_no = max((member.delivered_no for member in others), default=0)
        found[message.sender.id] = _status(message.message_no, read_no, delivered_no)
    return found


def _status(no: int, read_no: int, delivered_no: int) -> Status:
    if no <= read_no:
        return Status.READ
    return Status.UNREAD if no <= delivered_no else Status.UNDELIVERED
