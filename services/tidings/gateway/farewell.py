"""A socket after its connection: the close frame is written, the peer may answer it, then the socket is cut."""

import asyncio
from typing import TYPE_CHECKING, Final

from tidings.gateway.wsframes import ClientFrames, Opcode, ProtocolViolation

if TYPE_CHECKING:
    from tidings.gateway.node import Node

__all__ = ["Farewell"]

_CLOSING_S: Final = 2.0
"""How long a peer may take to answer a close frame."""
_MAX_FRAMES: Final = 1_000
"""Looked through for the answer; they were under way when the close frame was written."""


class Farewell(asyncio.Protocol):
    """Takes a transport over from a `Connection` that is closed; nothing of it is routed or kept any more.

    Args:
        node: What connections share.
        transport: The close frame has been written to it.
        frames: Reads the peer's answer; None: the peer has nothing to say that could be understood.
        close_code: For the metric.
    """

    __slots__ = ("_due_at", "_frames", "_frames_left", "_node", "_transport", "close_code")

    def __init__(
        self, node: "Node", transport: asyncio.Transport, frames: ClientFrames | None, close_code: int
    ) -> None:
        self._node = node
        self._transport = transport
        self._frames = frames
        self._frames_left = _MAX_FRAMES
        self.close_code = close_code
        self._due_at = node.clock.monotonic() + _CLOSING_S
        node.wheel.enter(self, self._due_at)
        transport.set_protocol(self)

    def stop_reading(self) -> None:
        """After a violation nothing of the client can be understood, its close frame least of all: it hangs up, or the
        deadline does. Not at once: octets still under way (the rest of a message that is too big) would make the kernel
        reset the connection, and the client would never see why.
        """
        self._frames = None
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def data_received(self, data: bytes) -> None:
        frames = self._frames
        if frames is None:
            return
        try:
            closed = any(event.opcode == Opcode.CLOSE for event in frames.feed(data, self._frames_left))
        except ProtocolViolation:
            self.stop_reading()
            return
        self._frames_left -= frames.taken
        if closed:
            self._transport.close()

    def eof_received(self) -> None:
        """The client half-closed: nothing can be agreed any more, the transport closes."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._frames = None
        self._node.stats.closed(self.close_code)
        self._node.socket_closed()

    def on_due(self, now: float) -> None:
        """The deadline may have come."""
        if now >= self._due_at:
            self._transport.abort()
