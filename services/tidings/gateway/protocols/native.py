"""The native protocol beside its delivered frames (`frames.py` makes those): control frames out, client frames in."""

from dataclasses import dataclass
from typing import Literal

import msgspec

from tidings.contract import control
from tidings.gateway.frames import control_payload

__all__ = ["ClientError", "RenewToken", "checkpoint", "close_event", "drain", "error", "interpret", "resync", "welcome"]

ResyncReason = Literal["expired", "log_changed", "invalid", "ahead", "budget"]


def welcome(session: str, node: str, log: str, cursor: str, *, resumed: bool, heartbeat_s: float) -> bytes:
    """First frame of a connection."""
    return control_payload(
        "$welcome",
        control.Welcome(session=session, node=node, log=log, cursor=cursor, resumed=resumed, heartbeat_s=heartbeat_s),
    )


def checkpoint(cursor: str) -> bytes:
    """A whole cursor, so that a quiet client's does not age."""
    return control_payload("$checkpoint", control.Checkpoint(cursor=cursor))


def resync(reason: ResyncReason, log: str, cursor: str) -> bytes:
    """The gap can't be filled from here; the client goes on from `cursor` once it has refetched."""
    return control_payload("$resync", control.Resync(reason=reason, log=log, cursor=cursor))


def drain(reconnect_after_ms: int) -> bytes:
    """The node goes; the connection will be closed with 1001."""
    return control_payload("$drain", control.Drain(reconnect_after_ms=reconnect_after_ms))


def error(reason: str) -> bytes:
    """A client frame that was not obeyed."""
    return control_payload("$error", control.Problem(reason=reason))


def close_event(code: int) -> bytes:
    """What stands for a close frame in Server-Sent Events."""
    return control_payload("$close", control.Close(code=code))


@dataclass(frozen=True, slots=True)
class RenewToken:
    """The client shows a new token before the old one ends."""

    token: str


@dataclass(frozen=True, slots=True)
class ClientError:
    """A client frame that means nothing here."""

    reason: str


class _ClientFrame(msgspec.Struct):
    type: str
    data: msgspec.Raw


_decode_frame = msgspec.json.Decoder(_ClientFrame).decode
_decode_token = msgspec.json.Decoder(control.Token).decode


def interpret(payload: bytes) -> RenewToken | ClientError:
    """One text message of a `tidings.v1` client. Any bytes give an answer."""
    try:
        frame = _decode_frame(payload)
    except (msgspec.DecodeError, RecursionError):
        return ClientError("a client frame is {type, data}")
    if frame.type != "$token":
        return ClientError("only $token is understood")
    try:
        return RenewToken(_decode_token(frame.data).token)
    except (msgspec.DecodeError, RecursionError):
        return ClientError("$token wants data {token}")
