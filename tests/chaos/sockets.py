"""The connections of clients: octets in both directions, nothing remembered beyond one connection's life."""

import asyncio
import socket
import time
from typing import Final, Literal, NamedTuple, Protocol, cast

from tests.chaos.recorder import Seen
from tests.chaos.wire import CLOSE, PING, PONG, TEXT, Answer, Events, Frames, client_frame, take_head

__all__ = ["Endpoint", "Kind", "Owner", "Socket", "dial"]

Kind = Literal["v1", "sse"]

_SOURCE: Final = "127.0.0.2"
"""Clients come from an address of their own, so that no port of theirs is one that a node wants to listen on again."""


class Endpoint(NamedTuple):
    """Where a node listens."""

    host: str
    port: int


class Owner(Protocol):
    """Whose connection it is."""

    @property
    def seen(self) -> Seen: ...

    def request(self) -> bytes:
        """The head of the request that asks for the stream."""

    def accepted(self, connection: "Socket") -> None:
        """The node will send frames on it."""

    def owns(self, connection: "Socket") -> bool:
        """Whether it is still the one in use."""

    def on_frame(self, payload: bytes, event_id: str | None = None) -> None:
        """One frame."""


class Socket(asyncio.Protocol):
    """One connection of a client.

    Attributes:
        answer: The head of the HTTP answer.
        welcomed: Its owner has called `welcome`.
        closed: The close code; 1006 without one.
    """

    def __init__(self, owner: Owner, kind: Kind) -> None:
        loop = asyncio.get_running_loop()
        self._owner = owner
        self._kind = kind
        self.answer: asyncio.Future[Answer] = loop.create_future()
        self.welcomed: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[int] = loop.create_future()
        self.code = 1006
        self.heard_at = time.monotonic()
        self._head: bytearray | None = bytearray()
        self._frames = Frames()
        self._events = Events()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by its type
        self.transport.write(self._owner.request())

    def data_received(self, data: bytes) -> None:
        self.heard_at = time.monotonic()
        if self._head is not None:
            self._head += data
            answer = take_head(self._head)
            if answer is None:
                return
            data, self._head = bytes(self._head), None
            if not self.answer.done():
                self.answer.set_result(answer)
            if answer.status not in (101, 200):
                return
            # Only now it is known whose frames they are: `$welcome` may come with the same octets.
            self._owner.accepted(self)
        if not self._owner.owns(self):
            return  # given up on; what still comes must not move the cursor of the next connection
        try:
            self._take(data)
        except (ValueError, LookupError) as error:
            self._owner.seen.odd.append(f"octets that are no {self._kind} stream: {error!r} in {data[:200]!r}")
            self.transport.abort()

    def _take(self, data: bytes) -> None:
        if self._kind == "sse":
            for event_id, payload in self._events.feed(data):
                self._owner.on_frame(payload, event_id)
            return
        for opcode, payload in self._frames.feed(data):
            if opcode == TEXT:
                self._owner.on_frame(payload)
            elif opcode == PING:
                self.transport.write(client_frame(PONG, payload))
            elif opcode == CLOSE:
                self.code = int.from_bytes(payload[:2], "big")
                self.transport.write(client_frame(CLOSE, payload))
                self.transport.close()

    def welcome(self) -> None:
        if not self.welcomed.done():
            self.welcomed.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        lost = ConnectionError(str(exc))
        for waiting in (self.answer, self.welcomed):
            if not waiting.done():
                waiting.set_exception(lost)
                waiting.exception()  # whoever does not wait for it has no need to know
        if not self.closed.done():
            self.closed.set_result(self.code)


async def dial(owner: Owner, kind: Kind, endpoint: Endpoint, receive_bytes: int) -> Socket:
    """Connect and send the request.

    Args:
        receive_bytes: The size of the socket's receive buffer; 0: the kernel's.
    Raises:
        OSError: Nobody listens, or nothing can be sent.
    """
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.bind((_SOURCE, 0))
        await loop.sock_connect(sock, endpoint)
    except BaseException:
        sock.close()
        raise
    _, connection = await loop.create_connection(lambda: Socket(owner, kind), sock=sock)
    return connection
