"""A socket before it is a connection: the request's bytes, the decision, and the answer to those who are not let in."""

import asyncio
import math
import random
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, cast

from websockets.http11 import Request

from tidings.errors import InvalidToken, UnknownKey
from tidings.gateway.connection import Connection
from tidings.gateway.handshake import parse_request, unauthorized
from tidings.gateway.refusals import Refused, come_again, refusal

if TYPE_CHECKING:
    from tidings.gateway.node import Node

__all__ = ["Arrival"]

_HEAD_END: Final = b"\r\n\r\n"
_LEAVE_S: Final = 2.0
"""How long a client may take to read a refusal."""
_RESUME_LATER: Final = frozenset({"resume_rate", "user_resume_rate"})


class Arrival(asyncio.Protocol):
    """Takes a socket from accept to a decision; then a `Connection` takes the transport over and this object is gone.

    Args:
        node: What connections share.
    """

    __slots__ = ("_cut", "_due_at", "_head", "_node", "_over", "_peer", "_transport", "_waiting")

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._head = b""
        self._peer = ""
        self._due_at = 0.0
        self._waiting = False  # for its turn, or for token keys
        self._over = False  # refused or handed on
        self._cut = False  # to make room

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        node = self._node
        self._transport = cast(asyncio.Transport, transport)
        node.sockets += 1
        node.handshakes += 1
        if not node.has_room():
            node.stats.refused("node_full")
            self._end()
            self._transport.abort()
            return
        node.expendable[self] = None
        peername = transport.get_extra_info("peername")
        self._peer = peername[0] if peername else ""
        sock = transport.get_extra_info("socket")
        if sock is not None and node.limits.socket_send_buffer_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, node.limits.socket_send_buffer_bytes)
        self._wake_at(node.clock.monotonic() + node.limits.handshake_timeout_s)

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        if self._waiting and len(self._head) + len(data) > self._node.limits.header_bytes:
            self._end()
            self._transport.abort()
            return
        self._head += data
        if not self._waiting:
            self._on_head()

    def eof_received(self) -> None:
        """The client half-closed: nothing can be agreed any more, the transport closes."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        self._node.expendable.pop(self, None)
        if self._cut:
            self._node.made_room()
        self._node.socket_closed()

    def make_room(self) -> None:
        """Go at once, for another."""
        self._node.expendable.pop(self, None)
        if not self._over:
            self._node.stats.refused("made_room")
        self._cut = True
        self._end()
        self._transport.abort()

    def on_due(self, now: float) -> None:
        """A deadline may have come; entries that no longer hold are recognised here."""
        if now < self._due_at or self._transport.is_closing():
            return
        if self._over:
            self._transport.abort()
        else:
            self._refuse(Refused(HTTPStatus.REQUEST_TIMEOUT, "handshake_timeout", "The request took too long."))

    def _wake_at(self, due_at: float) -> None:
        self._due_at = due_at
        self._node.wheel.enter(self, due_at)

    def _on_head(self) -> None:
        limit = self._node.limits.header_bytes
        end = self._head.find(_HEAD_END)
        if end > limit or (end < 0 and len(self._head) > limit):
            self._refuse(
                Refused(
                    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                    "header_too_big",
                    f"The request's head is over {limit} bytes.",
                )
            )
            return
        if end < 0:
            return
        self._waiting = True
        self._node.expendable.pop(self, None)
        self._node.turnstile.enter(self._on_turn, self._node.clock.monotonic())

    def _on_turn(self) -> None:
        """The head is there, and it is this client's turn."""
        self._waiting = False
        end = self._head.index(_HEAD_END) + len(_HEAD_END)
        head, self._head = self._head[:end], self._head[end:]
        try:
            request = parse_request(head)
        except Refused as refused:
            self._refuse(refused)
            return
        try:
            self._decide(request)
        except UnknownKey as unknown:
            self._waiting = True
            self._node.spawn(self._decide_with_new_keys(request, unknown))

    def _decide(self, request: Request) -> None:
        node = self._node
        try:
            accepted = node.gatekeeper.decide(request, self._peer, node.clock.now())
            node.admit(accepted)
        except Refused as refused:
            self._refuse(refused, request)
            return
        self._end()
        self._due_at = math.inf  # the wheel still holds this object: nothing of it is due any more
        connection = Connection(node, self._transport, accepted)
        self._transport.set_protocol(connection)
        connection.open(accepted, self._head)

    async def _decide_with_new_keys(self, request: Request, unknown: InvalidToken) -> None:
        await self._node.refresh_keys()
        if self._over:
            return
        # Whether or not that brought new keys: another's fetch may have, between our first look and this one.
        try:
            self._decide(request)
            return
        except UnknownKey:
            pass
        try:
            unauthorized(unknown)
        except Refused as refused:
            self._refuse(refused, request)

    def _refuse(self, refused: Refused, request: Request | None = None) -> None:
        node = self._node
        if refused.body:
            node.stats.refused(refused.error)
        origin = None
        if request is not None and request.path.partition("?")[0] == "/sse":
            try:  # a page that may ask may also read why it was refused
                origin = node.gatekeeper.allowed_origin(request)
            except Refused:
                origin = None
        self._end()
        self._node.expendable[self] = None
        if request is not None and refused.error in _RESUME_LATER and _is_event_source(request):
            wait_s = int(dict(refused.headers)["Retry-After"]) + random.random()  # noqa: S311 - nothing secret
            self._transport.write(come_again(int(wait_s * 1000), origin))
        else:
            self._transport.write(refusal(refused, origin))
        # Not closed at once: bytes of the request still under way would make the kernel reset the connection and the
        # answer would be lost. The client closes, or the deadline does.
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._wake_at(node.clock.monotonic() + _LEAVE_S)

    def _end(self) -> None:
        """The handshake is over, whichever way."""
        if not self._over:
            self._over = True
            self._node.handshakes -= 1
            self._node.turnstile.leave(self._on_turn)


def _is_event_source(request: Request) -> bool:
    """Whether it is a browser's, which cannot read refusals: it says what it accepts, as others seldom do."""
    path = request.path.partition("?")[0]
    return path == "/sse" and "text/event-stream" in request.headers.get_all("Accept")
