"""The token of the user-wide feed: what a client has, and how far it is within the pages of an answer.

A row is shown if the transaction that wrote it last is the token's `since` or a later one. `since` is the oldest
transaction that was still under way when the client read (the xmin of that read's snapshot), so what committed out of
order, after the read but with a lower id than others, is shown next time. What the client saw already may come again.
"""

import base64
import binascii
from typing import Annotated, Final, Self
from uuid import UUID

import msgspec
from msgspec import Meta

from tidings.errors import InvalidInput

__all__ = ["MAX_PREVIEW", "Place", "Reached", "Token"]

MAX_PREVIEW: Final = 20
"""Newest messages of each chat that an account's current state may hold."""

_MAX_CHARS: Final = 512
_VERSION: Final = 1

Xid = Annotated[int, Meta(ge=0)]


class Reached(msgspec.Struct, frozen=True, array_like=True):
    """How far the pages of one answer went within a chat.

    Its updates come in the order of the transactions that changed them last, and those that one transaction changed in
    the order of their ids: so the next page needs no look at what was shown before. One that changes between two pages
    moves behind the later one, or into the next answer.

    Attributes:
        changed: Of the last update that was looked at.
        update_id: Likewise.
    """

    changed: Xid
    update_id: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]


class Place(msgspec.Struct, frozen=True, array_like=True):
    """How far the pages of one answer went; chats come in the order of their ids.

    Attributes:
        chat_id: The newest one shown.
        reached: How far its updates were; None: all of it was shown. (The release before wrote an update id here, in
            another order; such a token is refused.)
    """

    chat_id: UUID
    reached: Reached | None


class Token(msgspec.Struct, frozen=True, array_like=True):
    """What `next` says, and `since` asks.

    Attributes:
        epoch: The database that it belongs to.
        since: Rows of this transaction and later ones are new to the client; None: all are.
        until: While pages are left: what becomes `since` after the last one, since the first page was read there.
        preview: Without `since`, so many newest messages of each chat.
        place: While pages are left.
    """

    epoch: UUID
    since: Xid | None
    until: Xid | None = None
    preview: Annotated[int, Meta(ge=0, le=MAX_PREVIEW)] = 0
    place: Place | None = None
    version: Annotated[int, Meta(ge=_VERSION, le=_VERSION)] = _VERSION

    def text(self) -> str:
        """For the client, which looks into it never."""
        return base64.urlsafe_b64encode(_encode(self)).rstrip(b"=").decode()

    @classmethod
    def of(cls, text: str) -> Self:
        """The token that `text` wrote.

        Raises:
            InvalidInput: `invalid_since`.
        """
        try:
            if len(text) > _MAX_CHARS:
                raise ValueError(text[:_MAX_CHARS])
            raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
            token = msgspec.msgpack.decode(raw, type=cls)
        except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
            raise InvalidInput("invalid_since", "no token of /sync") from error
        if (token.place is None) != (token.until is None):
            raise InvalidInput("invalid_since", "no token of /sync")
        return token

    def check(self, epoch: UUID, newest: int) -> None:
        """Refuse a token that this database did not give.

        Args:
            newest: The first transaction id that is not in use yet.
        Raises:
            InvalidInput: `invalid_since`: of another database, or of this one before it was set back.
        """
        if self.epoch != epoch or max(self.since or 0, self.until or 0) > newest:
            raise InvalidInput("invalid_since", "of another database")

    def further(self, place: Place, horizon: int) -> "Token":
        """The next page's token.

        Args:
            horizon: The oldest transaction under way when this page was read.
        """
        return Token(self.epoch, self.since, horizon if self.until is None else self.until, self.preview, place)

    def done(self, horizon: int) -> "Token":
        """The token after the last page. Pages are read at different moments; the first one's horizon holds for all."""
        return Token(self.epoch, horizon if self.until is None else self.until)


_encode: Final = msgspec.msgpack.Encoder(uuid_format="bytes").encode
