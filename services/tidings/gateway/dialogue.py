"""What a `tidings.v1` client may say: a new token, before the old one ends. Anything else is answered with `$error`."""

from typing import TYPE_CHECKING

from tidings.errors import InvalidToken, UnknownKey
from tidings.gateway.handshake import watched_until
from tidings.gateway.protocols import native
from tidings.gateway.wsframes import ClientEvent, Opcode

if TYPE_CHECKING:
    from tidings.gateway.connection import Connection
    from tidings.gateway.node import Node

__all__ = ["on_message"]


def on_message(node: "Node", connection: "Connection", event: ClientEvent) -> None:
    """Obey one message of the client, or say why not."""
    if event.opcode != Opcode.TEXT:
        connection.tell(native.error("frames are text"))
        return
    asked = native.interpret(event.payload)
    if isinstance(asked, native.ClientError):
        connection.tell(native.error(asked.reason))
        return
    try:
        _renew(node, connection, asked.token)
    except UnknownKey:
        node.spawn(_renew_with_new_keys(node, connection, asked.token))


def _renew(node: "Node", connection: "Connection", token: str) -> None:
    unix_now = node.clock.now()
    try:
        claims = node.gatekeeper.check(token, unix_now)
    except UnknownKey:
        raise
    except InvalidToken as refused:
        connection.tell(native.error(f"$token: {refused.reason}"))
        return
    if claims.user != connection.user:
        connection.tell(native.error("$token: the token is another user's"))
        return
    connection.renew(node.clock.monotonic() + watched_until(claims, unix_now) - unix_now)


async def _renew_with_new_keys(node: "Node", connection: "Connection", token: str) -> None:
    await node.refresh_keys()
    if not connection.is_open:
        return
    try:
        _renew(node, connection, token)
    except UnknownKey as unknown:
        connection.tell(native.error(f"$token: {unknown.reason}"))
