"""What a chat is made of, as plain values: no SQL, no HTTP, no clock."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec

__all__ = [
    "Actor",
    "Attachment",
    "Chat",
    "File",
    "Kind",
    "Member",
    "Message",
    "Update",
    "UpdateType",
    "User",
]


class Kind(StrEnum):
    """The four kinds of chat."""

    PERSONAL = "personal"
    GROUP = "group"
    SECRET_PERSONAL = "secret_personal"  # noqa: S105 - a kind of chat
    SECRET_GROUP = "secret_group"  # noqa: S105

    @property
    def is_group(self) -> bool:
        return self in (Kind.GROUP, Kind.SECRET_GROUP)

    @property
    def is_secret(self) -> bool:
        return self in (Kind.SECRET_PERSONAL, Kind.SECRET_GROUP)


class UpdateType(StrEnum):
    """What can happen in a chat's one sequence of updates."""

    TEXT = "text_message"
    EDIT = "text_message_edited"
    FILE = "file"
    REACTION = "reaction"
    DELETE = "delete"
    SECRET = "secret_update"  # noqa: S105
    ACTION_LOG = "action_log"

    @property
    def is_message(self) -> bool:
        """Whether it is something that a person wrote, with a row in `messages`."""
        return self in (UpdateType.TEXT, UpdateType.FILE, UpdateType.SECRET)


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks: the token's user, and what its claims say.

    Attributes:
        session: The gateway session that the request came through (header `Tidings-Session`), so that an edge can leave
            that socket out.
    """

    id: str
    username: str = ""
    name: str = ""
    avatar: str = ""
    session: str | None = None


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A person: the id of the tokens, and a number for protocols that count."""

    id: str
    number: int
    username: str = ""
    name: str = ""
    avatar: str = ""


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A user in a chat.

    Attributes:
        blocked: This member blocks the (personal) chat.
        read_no: The newest message that it read or wrote; so `last_message_no - read_no` are unread, all by others.
        delivered_no: The newest that reached a device of it.
    """

    user: User
    joined_at: datetime
    blocked: bool = False
    read_no: int = 0
    delivered_no: int = 0

    @property
    def id(self) -> str:
        return self.user.id


class Chat(msgspec.Struct, frozen=True, kw_only=True):
    """A chat with its present members, in the order in which they joined."""

    id: UUID
    number: int
    kind: Kind
    creator_id: str
    admin_id: str | None
    created_at: datetime
    members: tuple[Member, ...]
    room: str = ""
    name: str = ""
    description: str = ""
    photo: str = ""
    expiration_s: int | None = None
    last_update_id: int = 0
    last_message_no: int = 0

    def member(self, user: str) -> Member | None:
        """The membership of a user, if it is one."""
        return next((member for member in self.members if member.id == user), None)

    @property
    def member_ids(self) -> list[str]:
        return [member.id for member in self.members]

    @property
    def blocked_by(self) -> list[str]:
        return [member.id for member in self.members if member.blocked]


class File(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of a file that its owner made known, before any message shows it."""

    id: UUID
    owner_id: str
    file_name: str
    mime_type: str
    file_size: int
    file_url: str
    created_at: datetime


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of a file; its bytes are another service's."""

    file_id: UUID
    file_name: str
    mime_type: str
    file_size: int
    file_url: str
    created_at: datetime
    number: int = 0
    meta: dict[str, Any] = {}


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What a person wrote.

    Attributes:
        number: Unique across all chats.
        message_no: Counts the chat's messages without a gap.
        text: The newest text; empty once it was deleted for all.
        parent: Of a comment: the message under which it stands.
        reply_to: The message that it answers.
    """

    id: UUID
    number: int
    chat_id: UUID
    update_id: int
    message_no: int
    sender: User
    created_at: datetime
    modified_at: datetime
    text: str = ""
    client_message_id: str | None = None
    parent: "Message | None" = None
    reply_to: "Message | None" = None
    forwarded: bool = False
    comment_count: int = 0
    edited_at: datetime | None = None
    deleted_at: datetime | None = None
    attachments: tuple[Attachment, ...] = ()


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a chat's sequence.

    Attributes:
        target_update_id: Of an edit, a reaction, a deletion: what it is about.
        deleted_mode: Of a deletion: `all` or `only_me`.
        content: What the type needs beyond the message: new_text, reaction, the parts of a secret, an action log.
        message: Of a message: what was written.
        edited: Of a text message in a read: its newest edit.
        reactions: Of a message in a read: those that stand.
    """

    chat_id: UUID
    update_id: int
    type: UpdateType
    sender_id: str
    created_at: datetime
    target_update_id: int | None = None
    deleted_mode: str | None = None
    content: dict[str, Any] = {}
    message: Message | None = None
    edited: "Update | None" = None
    reactions: Sequence["Update"] = ()
    deleted_at: datetime | None = None
