"""What a group may be called, who comes and goes, and what may be its photo."""

from collections.abc import Iterable

import msgspec

from tidings.errors import Conflict, Forbidden, InvalidInput
from tidings.messaging.domain.limits import (
    MAX_DESCRIPTION_BYTES,
    MAX_GROUP_MEMBERS,
    MAX_GROUP_NAME_BYTES,
    MAX_MEMBERS_BYTES,
    MAX_PHOTO_BYTES,
    MAX_ROOM_CHARS,
    PHOTO_TYPES,
)
from tidings.messaging.domain.model import Chat
from tidings.messaging.domain.rules import checked_text, checked_user_id, membership, must_be_admin

__all__ = [
    "checked_description",
    "checked_group_members",
    "checked_group_name",
    "checked_joining",
    "checked_leaving",
    "checked_photo",
    "checked_photo_there",
    "checked_room",
]

_encode = msgspec.json.Encoder().encode


def checked_group_name(name: str) -> str:
    """The name as given; nothing is trimmed.

    Raises:
        InvalidInput: `group_name_empty`, `group_name_too_long`, or `validation_failed`.
    """
    if not name:
        raise InvalidInput("group_name_empty")
    if len(checked_text(name, "name").encode()) > MAX_GROUP_NAME_BYTES:
        raise InvalidInput("group_name_too_long", f"over {MAX_GROUP_NAME_BYTES} bytes")
    return name


def checked_description(description: str) -> str:
    """The description as given; it may be empty.

    Raises:
        InvalidInput: `group_description_too_long`, or `validation_failed`.
    """
    if len(checked_text(description, "description").encode()) > MAX_DESCRIPTION_BYTES:
        raise InvalidInput("group_description_too_long", f"over {MAX_DESCRIPTION_BYTES} bytes")
    return description


def checked_room(room: str) -> str:
    """The room's name of the rooms protocol; it may be empty.

    Raises:
        InvalidInput: `validation_failed`.
    """
    if len(room) > MAX_ROOM_CHARS:
        raise InvalidInput("validation_failed", f"room: over {MAX_ROOM_CHARS} characters")
    return checked_text(room, "room")


def checked_group_members(admin: str, members: Iterable[str]) -> list[str]:
    """Who a new group begins with: each once, in the order given.

    Raises:
        Forbidden: `admin_not_member`: its maker is not among them.
        InvalidInput: `validation_failed`: an id that can't be one; `too_many_members` for one record to name.
    """
    once = list(dict.fromkeys(checked_user_id(member, "members") for member in members))
    if admin not in once:
        raise Forbidden("admin_not_member")
    _must_fit(once)
    return once


def checked_joining(chat: Chat, actor: str, user: str) -> str:
    """Who the admin adds to the group.

    Raises:
        NotFound, Forbidden: As `must_be_admin`.
        Conflict: `user_already_member`.
        InvalidInput: `validation_failed`: an id that can't be one; `too_many_members`.
    """
    must_be_admin(chat, actor)
    checked_user_id(user, "memberId")
    if chat.member(user) is not None:
        raise Conflict("user_already_member")
    _must_fit([*chat.member_ids, user])
    return user


def checked_leaving(chat: Chat, actor: str, user: str) -> str:
    """Who leaves the group by itself, or is removed by the admin. The admin itself stays.

    Raises:
        NotFound: `chat_not_found`: the actor is not a member.
        Forbidden: `sender_not_admin`: somebody else than the admin removes another; `member_is_admin`;
            `user_not_member`.
    """
    membership(chat, actor)
    if actor not in (chat.admin_id, user):
        raise Forbidden("sender_not_admin")
    if user == chat.admin_id:
        raise Forbidden("member_is_admin")
    if chat.member(user) is None:
        raise Forbidden("user_not_member")
    return user


def checked_photo(mime_type: str, file_size: int) -> None:
    """Whether a file may be a group's photo.

    Raises:
        InvalidInput: `invalid_photo`.
    """
    if mime_type not in PHOTO_TYPES or file_size > MAX_PHOTO_BYTES:
        raise InvalidInput("invalid_photo", f"an image of at most {MAX_PHOTO_BYTES} bytes")


def checked_photo_there(chat: Chat) -> None:
    """Whether there is a photo to take away.

    Raises:
        InvalidInput: `group_photo_empty`.
    """
    if not chat.photo:
        raise InvalidInput("group_photo_empty")


def _must_fit(members: list[str]) -> None:
    if len(members) > MAX_GROUP_MEMBERS or sum(len(_encode(member)) + 1 for member in members) > MAX_MEMBERS_BYTES:
        raise InvalidInput("too_many_members")
