"""The answer to a request that may come again."""

import msgspec

__all__ = ["AnsweredBefore", "Kept", "Stored"]


class Stored(msgspec.Struct, frozen=True):
    """What was answered to the first of equal requests."""

    request_hash: bytes
    status: int
    body: bytes


class Kept(msgspec.Struct, frozen=True):
    """Of whose request, to which path and with which key it is the answer."""

    user: str
    path: str
    key: str
    stored: Stored


class AnsweredBefore(Exception):
    """Another answer to the same user, path and key stands already, so this work must not take effect."""
