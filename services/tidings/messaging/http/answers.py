"""What good answers look like, for the documentation: types and examples. Nothing is encoded by these."""

from typing import Annotated, Any, Final, TypeAlias
from uuid import UUID

from msgspec import Meta, Struct

__all__ = ["CHAT", "NOTHING", "UPDATE", "ChatData", "ChatList", "Nothing", "UpdateData", "UpdateList"]

Time: TypeAlias = Annotated[
    str | int, Meta(description="RFC 3339 with microseconds; unix seconds where TIDINGS_MESSAGING_WIRE is chakchat.")
]


class UpdateData(Struct):
    """One entry of a chat's sequence."""

    update_id: int
    chat_id: UUID
    sender_id: str
    type: Annotated[str, Meta(description="text_message, text_message_edited, file, reaction, delete, …")]
    created_at: Time
    content: Annotated[dict[str, Any], Meta(description="By type; see the record's schemas.")]


class ChatData(Struct):
    """A chat. What `info` holds depends on its type."""

    chat_id: UUID
    created_at: Time
    type: Annotated[str, Meta(description="personal, group, secret_personal or secret_group")]
    members: list[str]
    info: dict[str, Any]
    last_update_id: int = 0
    update_preview: list[UpdateData] = []


class ChatList(Struct):
    """Several chats."""

    chats: list[ChatData]


class UpdateList(Struct):
    """Updates in the order of their ids."""

    updates: list[UpdateData]
    next_from: Annotated[int | None, Meta(description="Where the next page begins; none: this was the last.")] = None


class Nothing(Struct):
    """An empty object."""


_CHAT_ID: Final = "0b8f7c3e-1c2d-4e5f-8a9b-0c1d2e3f4a5b"

CHAT: Final[dict[str, Any]] = {
    "chat_id": _CHAT_ID,
    "created_at": "2025-12-04T17:00:00.000000Z",
    "type": "personal",
    "members": ["alice", "bob"],
    "info": {"blocked_by": None},
}
UPDATE: Final[dict[str, Any]] = {
    "update_id": 7,
    "chat_id": _CHAT_ID,
    "sender_id": "alice",
    "type": "text_message",
    "created_at": "2025-12-04T17:00:00.000000Z",
    "content": {"text": "hi"},
}
NOTHING: Final[dict[str, Any]] = {}
