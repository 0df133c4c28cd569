"""Who may do what to a chat, and which names and numbers a chat may have.

Each rule returns what the caller goes on with, or raises the refusal. Whoever is no member of a chat is told the same
as if there were none.
"""

from typing import Final

import msgspec

from tidings.errors import Conflict, Forbidden, InvalidInput, NotFound
from tidings.messaging.domain.limits import (
    MAX_EXPIRATION_S,
    MAX_FILE_BYTES,
    MAX_FILE_NAME_CHARS,
    MAX_FILE_URL_CHARS,
    MAX_MIME_TYPE_CHARS,
    MAX_PREVIEW,
    MAX_USER_ID_CHARS,
)
from tidings.messaging.domain.model import Chat, Kind, Member

__all__ = [
    "NANOSECONDS",
    "checked_blockable",
    "checked_expiration_s",
    "checked_file",
    "checked_kind",
    "checked_pair",
    "checked_preview",
    "checked_text",
    "checked_unblockable",
    "checked_user_id",
    "membership",
    "must_be_admin",
    "must_be_open",
    "must_decide_expiration",
    "pair_key",
]

NANOSECONDS: Final = 1_000_000_000

_encode = msgspec.json.Encoder().encode


def membership(chat: Chat, user: str) -> Member:
    """The user's place in the chat.

    Raises:
        NotFound: `chat_not_found`: not a member, so it may not know that the chat exists.
    """
    member = chat.member(user)
    if member is None:
        raise NotFound("chat_not_found")
    return member


def checked_kind(chat: Chat, *kinds: Kind) -> Chat:
    """The chat, if it is of one of those kinds.

    Raises:
        NotFound: `chat_not_found`.
    """
    if chat.kind not in kinds:
        raise NotFound("chat_not_found")
    return chat


def must_be_open(chat: Chat) -> None:
    """Nobody writes to, edits, reacts in or deletes from a chat that one of the two blocks; for both alike.

    Raises:
        Forbidden: `chat_blocked`.
    """
    if chat.kind is Kind.PERSONAL and chat.blocked_by:
        raise Forbidden("chat_blocked")


def must_be_admin(chat: Chat, user: str) -> None:
    """A group is changed by its admin only.

    Raises:
        NotFound: `chat_not_found`: not even a member.
        Forbidden: `sender_not_admin`.
    """
    membership(chat, user)
    if chat.admin_id != user:
        raise Forbidden("sender_not_admin")


def checked_text(text: str, field: str) -> str:
    """The text, if Postgres and JSON can hold it: no NUL, no half of a surrogate pair.

    Raises:
        InvalidInput: `validation_failed`.
    """
    if "\0" in text or not _is_unicode(text):
        raise InvalidInput("validation_failed", f"{field}: characters that can't be stored")
    return text


def checked_user_id(user: str, field: str) -> str:
    """The user id, if a token could carry it.

    Raises:
        InvalidInput: `validation_failed`.
    """
    if not 0 < len(user) <= MAX_USER_ID_CHARS:
        raise InvalidInput("validation_failed", f"{field}: a user id has 1 to {MAX_USER_ID_CHARS} characters")
    return checked_text(user, field)


def checked_pair(user: str, other: str) -> tuple[str, str]:
    """The two of a personal chat.

    Raises:
        InvalidInput: `chat_with_myself`, or `validation_failed`.
    """
    if user == other:
        raise InvalidInput("chat_with_myself")
    return user, checked_user_id(other, "member_id")


def pair_key(kind: Kind, one: str, other: str) -> str:
    """The same for both orders of the two, and for nobody else: one chat of a kind for each pair."""
    return _encode([kind.value, *sorted((one, other))]).decode()


def checked_blockable(chat: Chat, user: str) -> Member:
    """Who blocks a personal chat; the other one may do so too.

    Raises:
        NotFound: `chat_not_found`: not a member, or not a chat that can be blocked.
        Conflict: `already_blocked`, by the same member.
    """
    member = membership(checked_kind(chat, Kind.PERSONAL), user)
    if member.blocked:
        raise Conflict("already_blocked")
    return member


def checked_unblockable(chat: Chat, user: str) -> Member:
    """Who takes its own block back; the other one's stays.

    Raises:
        NotFound: `chat_not_found`: as `checked_blockable`.
        Conflict: `already_unblocked`: this member does not block.
    """
    member = membership(checked_kind(chat, Kind.PERSONAL), user)
    if not member.blocked:
        raise Conflict("already_unblocked")
    return member


def checked_expiration_s(expiration_ns: int | None) -> int | None:
    """The expiration in whole seconds, the fraction cut; None: never.

    Raises:
        InvalidInput: `invalid_expiration`: less than a second, or over `MAX_EXPIRATION_S`.
    """
    if expiration_ns is None:
        return None
    seconds = expiration_ns // NANOSECONDS
    if not 0 < seconds <= MAX_EXPIRATION_S:
        raise InvalidInput("invalid_expiration", "nanoseconds, at least one second's, or null")
    return seconds


def must_decide_expiration(chat: Chat, user: str) -> None:
    """Of a secret chat of two either one decides when things end, of a secret group the admin.

    Raises:
        NotFound: `chat_not_found`: not a member, or no secret chat.
        Forbidden: `sender_not_admin`.
    """
    membership(checked_kind(chat, Kind.SECRET_PERSONAL, Kind.SECRET_GROUP), user)
    if chat.kind.is_group:
        must_be_admin(chat, user)


def checked_file(file_name: str, mime_type: str, file_size: int, file_url: str) -> None:
    """Whether facts of a file can be kept.

    Raises:
        InvalidInput: `file_too_big`, or `validation_failed`.
    """
    for text, field, limit in (
        (file_name, "file_name", MAX_FILE_NAME_CHARS),
        (mime_type, "mime_type", MAX_MIME_TYPE_CHARS),
        (file_url, "file_url", MAX_FILE_URL_CHARS),
    ):
        if not 0 < len(text) <= limit:
            raise InvalidInput("validation_failed", f"{field}: 1 to {limit} characters")
        checked_text(text, field)
    if file_size < 0:
        raise InvalidInput("validation_failed", "file_size: not negative")
    if file_size > MAX_FILE_BYTES:
        raise InvalidInput("file_too_big", f"over {MAX_FILE_BYTES} bytes")


def checked_preview(messages: int | None) -> int | None:
    """How many of the newest messages are shown with a chat; None: no preview is asked for.

    Raises:
        InvalidInput: `invalid_query_param`.
    """
    if messages is not None and not 0 <= messages <= MAX_PREVIEW:
        raise InvalidInput("invalid_query_param", f"preview: 0 to {MAX_PREVIEW}")
    return messages


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
