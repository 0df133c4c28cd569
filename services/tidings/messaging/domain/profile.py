"""What people may be called."""

from typing import Final

from tidings.errors import InvalidInput
from tidings.messaging.domain.rules import checked_text

__all__ = ["MAX_AVATAR_CHARS", "MAX_NAME_CHARS", "MAX_USERNAME_CHARS", "checked_profile", "claimed"]

MAX_USERNAME_CHARS: Final = 64
MAX_NAME_CHARS: Final = 256
MAX_AVATAR_CHARS: Final = 4_096


def checked_profile(username: str | None, name: str | None, avatar: str | None) -> None:
    """Whether somebody may be called so; None: stays as it is, "": nothing.

    Raises:
        InvalidInput: `validation_failed`: too long, characters that can't be kept, or a username with blanks.
    """
    for value, field, limit in (
        (username, "username", MAX_USERNAME_CHARS),
        (name, "name", MAX_NAME_CHARS),
        (avatar, "avatar", MAX_AVATAR_CHARS),
    ):
        if value is None:
            continue
        if len(value) > limit:
            raise InvalidInput("validation_failed", f"{field}: at most {limit} characters")
        checked_text(value, field)
    if username and not _is_username(username):
        raise InvalidInput("validation_failed", "username: no blanks or control characters")


def claimed(username: str) -> str:
    """The username of a token's claim, if it can be one; else none."""
    return username if len(username) <= MAX_USERNAME_CHARS and _is_username(username) else ""


def _is_username(text: str) -> bool:
    return text.isprintable() and not any(map(str.isspace, text))
