"""What requests carry, as types. Fields that are not listed are ignored; wrong types are refused before any work.

Lengths here only keep nonsense out; what chats allow is decided by the domain, so that its codes are answered.
"""

from typing import Annotated, Any, Literal, TypeAlias
from uuid import UUID

from litestar.params import Parameter
from msgspec import Meta, Struct

__all__ = [
    "MAX_NUMBER",
    "AttachedFile",
    "Expiration",
    "FileFacts",
    "FileMessage",
    "Forward",
    "GroupInfo",
    "Mark",
    "Me",
    "MessageRef",
    "NewGroup",
    "NewPersonal",
    "Number",
    "PathUser",
    "Photo",
    "Reaction",
    "SecretUpdate",
    "TextEdit",
    "TextMessage",
    "Typing",
    "UserId",
]

MAX_NUMBER = (1 << 63) - 1

UserId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256, description="A user's id, as in its token.")]
PathUser: TypeAlias = Annotated[str, Parameter(min_length=1, max_length=256, description="A user's id.")]
"""The same in a path."""
Number: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_NUMBER)]
MessageRef: TypeAlias = (
    Number | Annotated[str, Meta(min_length=32, max_length=36, description="A message's uuid, or its update id.")]
)
_ClientId: TypeAlias = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        description="The sender's own name for it, of characters that can be printed: a retry gets the first answer.",
    ),
]
_Text: TypeAlias = Annotated[str, Meta(description="1 to 2,000 characters.")]
_Base64: TypeAlias = Annotated[str, Meta(description="Standard base64, padded.")]


class NewPersonal(Struct, frozen=True):
    """The other one of a personal chat."""

    member_id: UserId


class NewGroup(Struct, frozen=True):
    """A group and whom it begins with."""

    name: Annotated[str, Meta(description="1 to 50 bytes.")]
    members: Annotated[list[UserId], Meta(description="Including the creator; repeats count once.")]
    description: Annotated[str, Meta(description="Up to 300 bytes.")] = ""
    room: Annotated[str, Meta(max_length=256, description="Name of the room, for the rooms protocol.")] = ""


class GroupInfo(Struct, frozen=True):
    """Replaces both."""

    name: Annotated[str, Meta(description="1 to 50 bytes.")]
    description: Annotated[str, Meta(description="Up to 300 bytes.")] = ""


class Expiration(Struct, frozen=True):
    """How long secret updates live."""

    expiration: Annotated[
        Annotated[int, Meta(ge=0, le=MAX_NUMBER)] | None, Meta(description="Nanoseconds; null: for ever.")
    ] = None


class Photo(Struct, frozen=True):
    """A file whose facts are known here."""

    photo_id: UUID


class AttachedFile(Struct, frozen=True):
    """A file of a message, and what its sender says about it."""

    file_id: UUID
    meta: Annotated[dict[str, Any], Meta(description="Such as width, height, duration; kept as given.")] = {}


class TextMessage(Struct, frozen=True):
    """A text to send. With attachments it may be empty."""

    text: _Text
    reply_to: MessageRef | None = None
    client_message_id: _ClientId | None = None
    parent: Annotated[MessageRef | None, Meta(description="The message that this one comments.")] = None
    attachments: Annotated[
        list[UUID | AttachedFile], Meta(max_length=100, description="Files: their ids, or objects that say more.")
    ] = []


class TextEdit(Struct, frozen=True):
    """The text that stands from now on."""

    text: _Text


class FileMessage(Struct, frozen=True):
    """A file to send."""

    file_id: UUID
    reply_to: MessageRef | None = None
    client_message_id: _ClientId | None = None
    parent: Annotated[MessageRef | None, Meta(description="The message that this one comments.")] = None


class Reaction(Struct, frozen=True):
    """A reaction to a message."""

    reaction: Annotated[str, Meta(description="heart, like, thunder, cry, dislike or bzZZ.")]
    message_id: MessageRef


class Forward(Struct, frozen=True):
    """A message of another chat."""

    message: MessageRef
    from_chat_id: UUID
    client_message_id: _ClientId | None = None


class SecretUpdate(Struct, frozen=True):
    """What only the members can read."""

    payload: _Base64
    initialization_vector: _Base64
    key_hash: _Base64
    client_message_id: _ClientId | None = None


class FileFacts(Struct, frozen=True):
    """What is known of a file whose bytes lie elsewhere."""

    file_name: Annotated[str, Meta(min_length=1, max_length=1_024)]
    mime_type: Annotated[str, Meta(min_length=1, max_length=256)]
    file_size: Annotated[int, Meta(ge=0, le=MAX_NUMBER, description="Bytes.")]
    file_url: Annotated[str, Meta(min_length=1, max_length=4_096)]


class Me(Struct, frozen=True):
    """What others see of a user; what is not given stays."""

    username: Annotated[str, Meta(max_length=256)] | None = None
    name: Annotated[str, Meta(max_length=256)] | None = None
    avatar: Annotated[str, Meta(max_length=4_096)] | None = None


class Mark(Struct, frozen=True):
    """Everything up to that message was delivered or read."""

    kind: Literal["delivered", "read"]
    up_to: Annotated[MessageRef | None, Meta(description="Not given: the newest message.")] = None


class Typing(Struct, frozen=True):
    """Somebody types, or no longer."""

    stop: bool = False
