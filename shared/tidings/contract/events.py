"""Typed payloads: the `data` of each modification type that a messaging service emits.

For whoever builds or reads a payload (the messaging service, the edges of other protocols, the JSON Schemas). Routing
never looks in here: a record of an unknown type, or of a known one in an unknown shape, is delivered all the same.

The shapes are those of the written contract. Where producers in the field differ, both forms are taken: times as text
or as unix seconds, `reply_to` as the uuid of a message or as its update id, absent or null for nothing, and the update
types `file_message` and `update_deleted` beside `file` and `delete`. Unknown keys are ignored.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

__all__ = [
    "MODIFICATIONS",
    "ActionLog",
    "ActionLogContent",
    "Chat",
    "ChatBlocked",
    "ChatCreated",
    "ChatDeleted",
    "ChatExpirationSet",
    "ChatUnblocked",
    "Delete",
    "DeleteContent",
    "File",
    "FileContent",
    "FileInfo",
    "FileMessage",
    "FileMessageContent",
    "GroupChat",
    "GroupInfo",
    "GroupInfoUpdated",
    "GroupMembersAdded",
    "GroupMembersRemoved",
    "Modification",
    "PersonalChat",
    "PersonalInfo",
    "Reaction",
    "ReactionContent",
    "SecretContent",
    "SecretGroupChat",
    "SecretGroupInfo",
    "SecretPersonalChat",
    "SecretPersonalInfo",
    "SecretUpdate",
    "TextContent",
    "TextMessage",
    "TextMessageEdited",
    "TextMessageEditedContent",
    "Update",
    "UpdateDeleted",
    "UpdateDeletedContent",
    "parse",
]

Id = Annotated[str, Meta(description="An exact string, in most deployments a uuid.")]
UpdateId = Annotated[int, Meta(ge=1, description="Position in the chat: one gap-free sequence for all update types.")]
Time = Annotated[str | int, Meta(description="RFC 3339 text, or unix seconds; producers also send free text.")]
Expiration = Annotated[int | None, Meta(description="Nanoseconds until a message ends; null: never.")]
Photo = Annotated[str | None, Meta(description='URL; null or "" for none.')]
Replied = Annotated[str | int | None, Meta(description="The message answered: its uuid, or its update id.")]


class _Update(msgspec.Struct, kw_only=True, tag_field="type"):
    chat_id: Id
    update_id: UpdateId
    sender_id: Annotated[str, Meta(description="Who caused this update; for a deletion: who deleted.")]
    created_at: Time


class TextMessageEditedContent(msgspec.Struct, kw_only=True):
    new_text: str
    message_id: UpdateId


class TextMessageEdited(_Update, tag="text_message_edited", kw_only=True):
    """A text was replaced; live as an update of its own, in reads nested in the message."""

    content: TextMessageEditedContent


class ReactionContent(msgspec.Struct, kw_only=True):
    reaction: str
    message_id: UpdateId


class Reaction(_Update, tag="reaction", kw_only=True):
    """Somebody reacted to a message."""

    content: ReactionContent


class TextContent(msgspec.Struct, kw_only=True):
    text: str
    edited: TextMessageEdited | UnsetType | None = UNSET
    reply_to: Replied | UnsetType = UNSET
    reactions: list[Reaction] | UnsetType | None = UNSET


class TextMessage(_Update, tag="text_message", kw_only=True):
    """Somebody wrote."""

    content: TextContent


class FileContent(msgspec.Struct, kw_only=True):
    file_id: Id
    file_name: str
    mime_type: str
    file_size: Annotated[int, Meta(ge=0, description="Bytes.")]
    file_url: str
    message_id: UpdateId | UnsetType = UNSET
    reply_to: Replied | UnsetType = UNSET
    reactions: list[Reaction] | UnsetType | None = UNSET


class File(_Update, tag="file", kw_only=True):
    """Somebody sent a file; its facts lie flat in the content."""

    content: FileContent


class FileInfo(msgspec.Struct, kw_only=True):
    file_id: Id
    file_name: str
    mime_type: str
    file_size: Annotated[int, Meta(ge=0, description="Bytes.")]
    file_url: str
    created_at: Time | UnsetType = UNSET


class FileMessageContent(msgspec.Struct, kw_only=True):
    file: FileInfo
    reply_to: Replied | UnsetType = UNSET
    reactions: list[Reaction] | UnsetType | None = UNSET


class FileMessage(_Update, tag="file_message", kw_only=True):
    """Somebody sent a file; its facts lie in an object of their own."""

    content: FileMessageContent


class DeleteContent(msgspec.Struct, kw_only=True):
    deleted_id: UpdateId
    deleted_mode: Literal["all", "only_me"]


class Delete(_Update, tag="delete", kw_only=True):
    """A message, file or reaction was deleted."""

    content: DeleteContent


class UpdateDeletedContent(msgspec.Struct, kw_only=True):
    deleted_id: UpdateId
    deleted_mode: Literal["for_all", "for_deletion_sender"]


class UpdateDeleted(_Update, tag="update_deleted", kw_only=True):
    """As `Delete`, in the words of other producers."""

    content: UpdateDeletedContent


class SecretContent(msgspec.Struct, kw_only=True):
    payload: Annotated[str, Meta(description="Base64 with padding; as the two below.")]
    initialization_vector: str
    key_hash: str


class SecretUpdate(_Update, tag="secret_update", kw_only=True):
    """Something happened in a secret chat; only its members can read what."""

    content: SecretContent


class ActionLogContent(msgspec.Struct, kw_only=True):
    action: Annotated[str, Meta(description="joined, left, removed, renamed; more may come.")]
    users: Annotated[list[Id], Meta(description="Whom it is about: who joined, left or was removed.")] | UnsetType = (
        UNSET
    )
    name: Annotated[str, Meta(description="Of `renamed`: the new name.")] | UnsetType = UNSET


class ActionLog(_Update, tag="action_log", kw_only=True):
    """Something happened to the group itself; `sender_id` is who did it."""

    content: ActionLogContent


Update = (
    TextMessage | TextMessageEdited | File | FileMessage | Reaction | Delete | UpdateDeleted | SecretUpdate | ActionLog
)  # `type` tells which


class _Chat(msgspec.Struct, kw_only=True, tag_field="type"):
    chat_id: Id
    members: list[Id]
    created_at: Time
    last_update_id: Annotated[int, Meta(ge=0)] | UnsetType = UNSET
    update_preview: list[Update] | UnsetType | None = UNSET


class PersonalInfo(msgspec.Struct, kw_only=True):
    blocked_by: list[Id] | UnsetType | None = UNSET


class PersonalChat(_Chat, tag="personal", kw_only=True):
    """Two people."""

    info: PersonalInfo


class GroupInfo(msgspec.Struct, kw_only=True):
    admin_id: Id
    name: str
    description: str
    group_photo: Photo


class GroupChat(_Chat, tag="group", kw_only=True):
    """Many people, one of them the admin."""

    info: GroupInfo


class SecretPersonalInfo(msgspec.Struct, kw_only=True):
    expiration: Expiration


class SecretPersonalChat(_Chat, tag="secret_personal", kw_only=True):
    """Two people; the server sees only ciphertext."""

    info: SecretPersonalInfo


class SecretGroupInfo(GroupInfo, kw_only=True):
    expiration: Expiration


class SecretGroupChat(_Chat, tag="secret_group", kw_only=True):
    """Many people; the server sees only ciphertext."""

    info: SecretGroupInfo


Chat = PersonalChat | GroupChat | SecretPersonalChat | SecretGroupChat  # `type` tells which


class ChatCreated(msgspec.Struct, kw_only=True):
    """The receiver is a member of a chat that it did not know."""

    sender_id: Id
    chat: Chat


class _ChatChanged(msgspec.Struct, kw_only=True):
    sender_id: Id
    chat_id: Id


class ChatDeleted(_ChatChanged, kw_only=True):
    """The chat is gone, with all that was in it."""


class ChatBlocked(_ChatChanged, kw_only=True):
    """The sender blocked the chat: nobody can write to it."""


class ChatUnblocked(_ChatChanged, kw_only=True):
    """The sender took its block back."""


class ChatExpirationSet(_ChatChanged, kw_only=True):
    """From now on messages of this secret chat end after a time; clients see to it."""

    expiration: Expiration


class GroupInfoUpdated(_ChatChanged, kw_only=True):
    """What the group shows of itself; every field is passed, changed or not."""

    name: str
    description: Annotated[str, Meta(description='"": removed.')]
    group_photo: Photo


class GroupMembersAdded(_ChatChanged, kw_only=True):
    """Who is new in the group."""

    members: Annotated[list[Id], Meta(description="Only those added.")]


class GroupMembersRemoved(_ChatChanged, kw_only=True):
    """Who is no longer in the group."""

    members: Annotated[list[Id], Meta(description="Only those removed.")]


Modification = (
    Update
    | ChatCreated
    | ChatDeleted
    | ChatBlocked
    | ChatUnblocked
    | ChatExpirationSet
    | GroupInfoUpdated
    | GroupMembersAdded
    | GroupMembersRemoved
)

MODIFICATIONS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "update": Update,
        "chat_created": ChatCreated,
        "chat_deleted": ChatDeleted,
        "chat_blocked": ChatBlocked,
        "chat_unblocked": ChatUnblocked,
        "chat_expiration_set": ChatExpirationSet,
        "group_info_updated": GroupInfoUpdated,
        "group_members_added": GroupMembersAdded,
        "group_members_removed": GroupMembersRemoved,
    }
)
"""The type of `data` for each `type` of a record."""

_decoders: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    type_: msgspec.json.Decoder(payload) for type_, payload in MODIFICATIONS.items()
}


def parse(type_: str, data: bytes | msgspec.Raw) -> Modification | None:
    """The payload of a record that `record.decode` accepted, as its struct.

    Returns:
        None if the type is none of `MODIFICATIONS`, or `data` has another shape: both are lawful, pass them on as is.
    Cost: msgspec's decode.
    """
    decoder = _decoders.get(type_)
    if decoder is None:
        return None
    try:
        payload: Modification = decoder.decode(data)
    except msgspec.ValidationError:
        return None
    return payload
