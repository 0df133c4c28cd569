"""What may be written, and what may be done to what was written.

Each rule returns what the caller goes on with, or raises the refusal.
"""

import re
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import msgspec

from tidings.errors import Conflict, Forbidden, InvalidInput, NotFound
from tidings.messaging.domain.limits import (
    MAX_ATTACHMENTS,
    MAX_CLIENT_MESSAGE_ID_CHARS,
    MAX_META_BYTES,
    MAX_SECRET_CHARS,
    MAX_TEXT_CHARS,
    REACTIONS,
)
from tidings.messaging.domain.model import Message, Update, UpdateType
from tidings.messaging.domain.rules import checked_text

__all__ = [
    "Reference",
    "checked_attachments",
    "checked_client_message_id",
    "checked_message_text",
    "checked_range",
    "checked_reaction",
    "checked_secret",
    "must_be_own_reaction",
    "must_be_own_text",
    "must_be_root",
    "must_stand",
    "reference",
]

Reference = int | UUID
"""A message of a chat: by its update id, or by its uuid."""

_BASE64: Final = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_MAX_UPDATE_ID: Final = (1 << 63) - 1

_encode = msgspec.json.Encoder().encode


def reference(value: int | str, field: str) -> Reference:
    """A message as a client names it: its update id (also as text, in a path), or its uuid.

    Raises:
        InvalidInput: `validation_failed`.
    """
    if isinstance(value, int):
        return _update_id(value, field)
    if value.isascii() and value.isdecimal() and len(value) < 20:
        return _update_id(int(value), field)
    try:
        return UUID(value)
    except ValueError:
        raise InvalidInput("validation_failed", f"{field}: neither an update id nor a uuid") from None


def _update_id(value: int, field: str) -> int:
    if not 1 <= value <= _MAX_UPDATE_ID:
        raise InvalidInput("validation_failed", f"{field}: an update id is at least 1")
    return value


def checked_range(first: int, last: int) -> tuple[int, int]:
    """The update ids to read, both included. A range that ends before it begins is empty, not wrong.

    Raises:
        InvalidInput: `validation_failed`: more than 64 bits.
    """
    for value, field in ((first, "from"), (last, "to")):
        if not -_MAX_UPDATE_ID <= value <= _MAX_UPDATE_ID:
            raise InvalidInput("validation_failed", f"{field}: more than 64 bits")
    return first, last


def checked_message_text(text: str, *, may_be_empty: bool = False) -> str:
    """The text as given; nothing is trimmed.

    Args:
        may_be_empty: There is something else to see, such as a file.
    Raises:
        InvalidInput: `text_empty`, `too_many_characters`, or `validation_failed`.
    """
    if not text and not may_be_empty:
        raise InvalidInput("text_empty")
    if len(text) > MAX_TEXT_CHARS:
        raise InvalidInput("too_many_characters", f"over {MAX_TEXT_CHARS}")
    return checked_text(text, "text")


def checked_reaction(name: str) -> str:
    """One of the reactions there are.

    Raises:
        InvalidInput: `invalid_reaction_type`.
    """
    if name not in REACTIONS:
        raise InvalidInput("invalid_reaction_type", "one of " + ", ".join(sorted(REACTIONS)))
    return name


def checked_secret(payload: str, initialization_vector: str, key_hash: str) -> dict[str, str]:
    """The content of a secret update; what it hides only the members can read.

    Raises:
        InvalidInput: `too_many_characters`; `validation_failed`: not base64 with padding, or no payload.
    """
    content = {"payload": payload, "initialization_vector": initialization_vector, "key_hash": key_hash}
    for field, text in content.items():
        if len(text) > MAX_SECRET_CHARS:
            raise InvalidInput("too_many_characters", f"{field}: over {MAX_SECRET_CHARS}")
        if not text or _BASE64.fullmatch(text) is None:
            raise InvalidInput("validation_failed", f"{field}: base64 with padding")
    return content


def checked_client_message_id(name: str | None) -> str | None:
    """The name that a client gave its message, so that a retry is recognised.

    Only what can be printed, as every uuid, number or hash: records repeat the name, and each control character would
    take six bytes in them.

    Raises:
        InvalidInput: `validation_failed`.
    """
    if name is None:
        return None
    if not 0 < len(name) <= MAX_CLIENT_MESSAGE_ID_CHARS:
        raise InvalidInput("validation_failed", f"client_message_id: 1 to {MAX_CLIENT_MESSAGE_ID_CHARS} characters")
    if not name.isprintable():
        raise InvalidInput("validation_failed", "client_message_id: characters that can't be printed")
    return name


def checked_attachments(attachments: Mapping[UUID, Mapping[str, Any]]) -> None:
    """Whether a message may have these files, each with what its sender says about it.

    Raises:
        InvalidInput: `validation_failed`.
    """
    if len(attachments) > MAX_ATTACHMENTS:
        raise InvalidInput("validation_failed", f"attachments: at most {MAX_ATTACHMENTS}")
    for meta in attachments.values():
        try:
            encoded = _encode(meta)
        except UnicodeEncodeError:
            raise InvalidInput("validation_failed", "attachments: characters that can't be stored") from None
        if len(encoded) > MAX_META_BYTES:
            raise InvalidInput("validation_failed", f"attachments: meta over {MAX_META_BYTES} bytes")
        if _NUL.search(encoded):
            raise InvalidInput("validation_failed", "attachments: characters that can't be stored")


def must_stand(target: Update) -> Update:
    """What was deleted, for all or for this user, is past answering, changing and deleting.

    Raises:
        Conflict: `update_deleted`.
    """
    if target.deleted_at is not None:
        raise Conflict("update_deleted")
    return target


def must_be_root(message: Message) -> Message:
    """Comments stand under messages, not under comments.

    Raises:
        InvalidInput: `validation_failed`.
    """
    if message.parent is not None:
        raise InvalidInput("validation_failed", "parent: is a comment itself")
    return message


def must_be_own_text(target: Update, user: str) -> Message:
    """A text is edited by who wrote it.

    Raises:
        NotFound: `message_not_found`: no text.
        Forbidden: `user_not_sender`.
    """
    if target.type is not UpdateType.TEXT or target.message is None:
        raise NotFound("message_not_found")
    if target.sender_id != user:
        raise Forbidden("user_not_sender")
    return target.message


def must_be_own_reaction(target: Update, user: str) -> None:
    """A reaction is taken back by who gave it.

    Raises:
        Forbidden: `reaction_not_from_user`.
    """
    if target.sender_id != user:
        raise Forbidden("reaction_not_from_user")
