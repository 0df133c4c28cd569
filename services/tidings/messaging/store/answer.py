"""The answer to a request that may come again."""

from uuid import UUID

import msgspec

__all__ = ["AnsweredBefore", "Kept", "Stored"]


class Stored(msgspec.Struct, frozen=True):
    """What was answered to the first of equal requests."""

    request_hash: bytes
    status: int
    body: bytes


class Kept(msgspec.Struct, frozen=True):
    """Of whose request, to which path and with which key it is the answer.

    Attributes:
        chat_id, update_id: Which update it shows; None: none. When that is deleted, its content goes from here too.
    """

    user: str
    path: str
    key: str
    stored: Stored
    chat_id: UUID | None = None
    update_id: int | None = None


class AnsweredBefore(Exception):
    """Another answer to the same user, path and key stands already, so this work must not take effect."""
