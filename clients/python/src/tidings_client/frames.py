"""The frames of `tidings.v1`, from their text. Pure."""

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from tidings_client.errors import ProtocolViolation
from tidings_client.position import parse_cursor

__all__ = ["Checkpoint", "Drain", "Event", "Problem", "Resync", "Welcome", "decode", "may_be_control", "token_frame"]

_AT: Final = re.compile(r"[0-9]{1,6}:[0-9]{1,19}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Event:
    """What a service told this user.

    Attributes:
        type: What happened. Names that begin with `$` are the protocol's own.
        data: Any JSON value. An integer of more than 4,300 digits is a `Decimal`.
        at: `<partition>:<next offset>`; None for what is never sent again, such as "somebody is typing".
    """

    type: str
    data: Any
    at: str | None = None


@dataclass(frozen=True, slots=True)
class Resync(Event):
    """What came between the position so far and `cursor` can't be had from the gateways: fetch it elsewhere.

    Attributes:
        reason: expired, log_changed, invalid, ahead or budget; others may come.
        cursor: Events go on from here.
        log: Which log that cursor belongs to.
    """

    reason: str = ""
    cursor: str = ""
    log: str = ""


@dataclass(frozen=True, slots=True)
class Welcome:
    """The first frame of a connection, but for `Drain` and `Problem`, which may come at any time."""

    session: str
    node: str
    log: str
    cursor: str
    resumed: bool
    heartbeat_s: float


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The whole cursor moved on although nothing was sent."""

    cursor: str


@dataclass(frozen=True, slots=True)
class Drain:
    """The node goes."""

    reconnect_after_s: float


@dataclass(frozen=True, slots=True)
class Problem:
    """The gateway did not take what the client sent."""

    reason: str


Frame = Event | Welcome | Checkpoint | Drain | Problem


def may_be_control(payload: bytes) -> bool:
    """False means: surely an event. Cheap, so that events can wait as bytes and be decoded when they are wanted."""
    return b'"$' in payload


def token_frame(token: str) -> str:
    """Shows the gateway a new token."""
    return json.dumps({"type": "$token", "data": {"token": token}})


def decode(payload: bytes) -> Frame | None:
    """One frame; None for a kind of control frame that this version does not know.

    Raises:
        ProtocolViolation: No gateway sends this.
    """
    frame = _load(payload)
    if not isinstance(frame, dict) or not isinstance(kind := frame.get("type"), str) or "data" not in frame:
        raise ProtocolViolation(f"a frame is {{type, data}}: {payload[:80]!r}")
    data = frame["data"]
    if kind.startswith("$"):
        try:
            return _control(kind, data)
        except (TypeError, KeyError, ValueError, OverflowError) as error:
            raise ProtocolViolation(f"{kind} is not as agreed: {error!r}") from None
    at = frame.get("at")
    if at is not None and not (isinstance(at, str) and _AT.fullmatch(at)):
        raise ProtocolViolation(f"`at` is <partition>:<offset>: {str(at)[:80]!r}")
    return Event(kind, data, at)


def _control(kind: str, data: Any) -> Frame | None:
    match kind:
        case "$welcome":
            session, node, log, cursor = (str(data[name]) for name in ("session", "node", "log", "cursor"))
            parse_cursor(cursor)
            return Welcome(session, node, log, cursor, data["resumed"] is True, float(data["heartbeat_s"]))
        case "$checkpoint":
            cursor = str(data["cursor"])
            parse_cursor(cursor)
            return Checkpoint(cursor)
        case "$resync":
            reason, log, cursor = (str(data[name]) for name in ("reason", "log", "cursor"))
            parse_cursor(cursor)
            return Resync(kind, data, None, reason, cursor, log)
        case "$drain":
            return Drain(max(0.0, float(data["reconnect_after_ms"]) / 1000))
        case "$error":
            return Problem(str(data["reason"]))
    return None


def _load(payload: bytes) -> Any:
    try:
        text = payload.decode()
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            raise
        except ValueError:
            # An integer that Python does not convert. It is good JSON all the same, and refusing it would mean to meet
            # it again after each reconnect.
            return json.loads(text, parse_int=_any_int)
    except (ValueError, RecursionError) as error:
        raise ProtocolViolation(f"a frame is JSON ({error!r}): {payload[:80]!r}") from None


def _any_int(digits: str) -> int | Decimal:
    try:
        return int(digits)
    except ValueError:
        return Decimal(digits)
