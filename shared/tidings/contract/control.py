"""The control frames of `tidings.v1` and of Server-Sent Events, and the signals that gateways obey: their `data`."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

__all__ = [
    "FROM_CLIENT",
    "OBEYED_SIGNALS",
    "TO_CLIENT",
    "TO_SSE_CLIENT",
    "Checkpoint",
    "Close",
    "Disconnect",
    "Drain",
    "Problem",
    "Resync",
    "Token",
    "Welcome",
]

Cursor = Annotated[
    str,
    Meta(
        pattern=r"^([0-9]+:[0-9]+(,[0-9]+:[0-9]+)*)?$",
        description="The next offset to read in each partition, such as `0:17,1:4`; each at most once, in any order.",
    ),
]
Log = Annotated[str, Meta(description="Opaque: which topic, and which of its lives, the offsets belong to.")]


class Welcome(msgspec.Struct, kw_only=True, frozen=True):
    """The first frame: who you talk to, and where this connection starts."""

    session: str
    node: str
    log: Log
    cursor: Cursor
    resumed: Annotated[bool, Meta(description="Whether it starts at the cursor given; if not, now.")]
    heartbeat_s: Annotated[float, Meta(ge=0, description="Seconds between the gateway's pings.")]


class Checkpoint(msgspec.Struct, kw_only=True, frozen=True):
    """The cursor moved on although nothing was sent; it replaces the whole one."""

    cursor: Cursor


class Resync(msgspec.Struct, kw_only=True, frozen=True):
    """The gap can't be filled from here: refetch over REST, then go on from this cursor."""

    reason: Literal["expired", "log_changed", "invalid", "ahead", "budget"]
    log: Log
    cursor: Cursor


class Drain(msgspec.Struct, kw_only=True, frozen=True):
    """The node is about to go: reconnect, with the cursor."""

    reconnect_after_ms: Annotated[int, Meta(ge=0)]


class Problem(msgspec.Struct, kw_only=True, frozen=True):
    """The client's frame was not taken."""

    reason: str


class Token(msgspec.Struct, kw_only=True, frozen=True):
    """A new token, sent before the old one ends."""

    token: str


class Close(msgspec.Struct, kw_only=True, frozen=True):
    """The stream ends after this, with the close code that a web socket would get."""

    code: Annotated[int, Meta(ge=1000, le=4999)]


class Disconnect(msgspec.Struct, kw_only=True, frozen=True):
    """Close all sessions of the receivers, or one of them, with 4002."""

    reason: str = ""
    session: str | UnsetType | None = UNSET


TO_CLIENT: Final[Mapping[str, type[msgspec.Struct]]] = MappingProxyType(
    {"$welcome": Welcome, "$checkpoint": Checkpoint, "$resync": Resync, "$drain": Drain, "$error": Problem}
)
"""The control frames that a gateway sends, by `type`."""

TO_SSE_CLIENT: Final[Mapping[str, type[msgspec.Struct]]] = MappingProxyType(
    {"$welcome": Welcome, "$resync": Resync, "$close": Close}
)
"""As `TO_CLIENT`, as Server-Sent Events: a checkpoint is an `id:` there, and what closes them says so in an event."""

FROM_CLIENT: Final[Mapping[str, type[msgspec.Struct]]] = MappingProxyType({"$token": Token})
"""The frames that a client may send, by `type`."""

OBEYED_SIGNALS: Final[Mapping[str, type[msgspec.Struct]]] = MappingProxyType({"$disconnect": Disconnect})
"""The signals that gateways obey and never deliver, by `type`."""
