"""A socket's outgoing half: frames written at once, or kept in a backlog while the socket takes no more."""

import asyncio
from abc import ABC, abstractmethod
from socket import SocketType
from typing import TYPE_CHECKING, Final

from tidings.gateway.backlog import Backlog, Verdict
from tidings.gateway.frames import Encoding

if TYPE_CHECKING:
    from tidings.gateway.node import Node

__all__ = ["RESUMABLE", "Outlet"]

RESUMABLE: Final = frozenset({Encoding.V1, Encoding.V1_DEFLATE, Encoding.SSE})

_REFILL_BYTES: Final = 262_144
"""Given to the transport at once when a socket takes more again."""
_PATIENCE_S: Final = 0.25
_PATIENCE_BYTES: Final = 4 * 1024 * 1024


class Outlet(asyncio.Protocol, ABC):
    """Writes to one socket; the half of a `Connection` that knows nothing of what the frames mean.

    Frames are written as soon as `send` or `flush` is called, past the transport while the socket takes all of them.
    What it does not take stays in a backlog that is made then and gone when it is empty, so a connection that keeps up
    costs no queue. Event loop thread only; nothing waits.

    Attributes:
        inbox: Frames that are not written yet, in order: of the batch under way, or one that waits for the next batch.
        held: Nothing is routed to it: its place in the log is not the node's.
    """

    __slots__ = ("_backlog", "_node", "_socket", "_transport", "encoding", "held", "inbox", "is_open")

    def __init__(self, node: "Node", transport: asyncio.Transport, encoding: Encoding) -> None:
        self._node = node
        self._transport = transport
        self._socket = _socket_of(transport)
        self._backlog: Backlog | None = None
        self.inbox: list[bytes] = []
        self.encoding = int(encoding)
        self.held = False
        self.is_open = True

    @abstractmethod
    def give_up(self, cause: str, reason: str) -> None:
        """Close as too slow; what waits is dropped and counted under `cause`."""

    @abstractmethod
    def _hold_back_if_slow(self) -> None:
        """Something was added to the backlog."""

    @abstractmethod
    def _on_progress(self, now: float) -> None:
        """The socket took something."""

    @abstractmethod
    def _on_drained(self) -> None:
        """The socket took everything."""

    @property
    def backlog_bytes(self) -> int:
        return 0 if self._backlog is None else self._backlog.bytes

    @property
    def transport_bytes(self) -> int:
        return self._transport.get_write_buffer_size()

    @property
    def takes_bytes(self) -> bool:
        """Whether the socket takes more at once."""
        return self.is_open and self._backlog is None

    def send(self, frame: bytes) -> None:
        """Write one frame; see `Subscriber`."""
        if self._backlog is not None:
            if self._keep(frame):
                self._hold_back_if_slow()
            return
        taken = 0
        if self._socket is not None:
            try:
                taken = self._socket.send(frame)
            except OSError:  # full or broken: the transport finds out which
                taken = 0
        if taken != len(frame):
            self._transport.write(frame[taken:] if taken else frame)

    def flush(self) -> None:
        """Write the frames of this batch, in one system call if the socket takes them."""
        inbox = self.inbox
        if len(inbox) == 1:
            self.send(inbox.pop())
        elif self._backlog is not None:
            frames, self.inbox = inbox, []
            for place, frame in enumerate(frames, 1):
                if not self._keep(frame):
                    self._count_dropped("unsent", len(frames) - place)
                    break
            else:
                self._hold_back_if_slow()
        elif inbox:
            taken = 0
            if self._socket is not None:
                try:
                    taken = self._socket.sendmsg(inbox)
                except OSError:
                    taken = 0
            if taken != sum(map(len, inbox)):
                self._transport.write(b"".join(inbox)[taken:])
        inbox.clear()

    def write(self, frames: bytes) -> None:
        """Frames for this connection alone; for one that takes bytes."""
        self._transport.write(frames)

    def _send(self, frame: bytes) -> None:
        """Write a frame of this connection alone, behind what waits already."""
        self._flush_gathered()
        if not self.is_open:
            return
        if self._backlog is not None:
            self._keep(frame)
        else:
            self._transport.write(frame)

    def _flush_gathered(self) -> None:
        """What waits for more frames goes first. It may be what makes the connection too slow, and close it."""
        if self.inbox:
            self.flush()

    def _keep(self, frame: bytes) -> bool:
        backlog = self._backlog
        if backlog is None:
            return False
        self._node.backlog_bytes += len(frame)
        if backlog.push(frame, self._transport.get_write_buffer_size()) is Verdict.KEEP:
            return True
        self.give_up("unsent", "too many unsent bytes")
        return False

    def pause_writing(self) -> None:
        if self._backlog is None and self.is_open:
            limits = self._node.limits
            # One that can resume is never too far behind at once: it becomes a position in the window.
            limit_bytes = 0 if self.encoding in RESUMABLE else limits.unsent_bytes
            now = self._node.clock.monotonic()
            self._backlog = Backlog(limit_bytes, limits.slow_unsent_bytes, limits.slow_after_s, now)
            self._node.blocked.add(self)

    def resume_writing(self) -> None:
        backlog = self._backlog
        if backlog is None or backlog.refilling:
            return
        now = self._node.clock.monotonic()
        backlog.progressed(now)
        self._on_progress(now)
        # uvloop calls back from within this write when the socket takes all of it. A loop and a mark, because a long
        # backlog would go deeper than the stack allows.
        backlog.refilling = True
        while self._backlog is backlog and not self._transport.get_write_buffer_size():
            if not backlog.bytes:
                self._backlog = None
                self._node.blocked.discard(self)
                self._on_drained()
                return
            before = backlog.bytes
            frames = backlog.take(_REFILL_BYTES)
            self._node.backlog_bytes -= before - backlog.bytes
            self._transport.writelines(frames)
        backlog.refilling = False

    def check_progress(self, now: float) -> None:
        """Called now and then while the socket takes no more."""
        backlog = self._backlog
        if backlog is None or not self.is_open:
            return
        if backlog.check(now, self._transport.get_write_buffer_size()) is Verdict.CLOSE_SLOW:
            self.give_up("slow", "no progress")

    def catches_up(self, now: float) -> bool:
        """Whether it is far behind, cannot wait in the window, and takes bytes all the same."""
        backlog = self._backlog
        return (
            backlog is not None
            and not self.held
            and backlog.bytes > (self._node.limits.unsent_bytes or _PATIENCE_BYTES) // 4
            and now - backlog.progress_at < _PATIENCE_S
        )

    def _stop_writing(self) -> None:
        """Drop what waits; from now on only the transport is written to, with what ends the connection."""
        self._socket = None  # once the transport is closed the number may be another socket's
        self._node.blocked.discard(self)
        self._drop_backlog("gone")
        self._count_dropped("gone", len(self.inbox))
        self.inbox.clear()

    def _drop_backlog(self, cause: str) -> None:
        if self._backlog is not None:
            self._count_dropped(cause, len(self._backlog))
            self._node.backlog_bytes -= self._backlog.bytes
            self._backlog = None

    def _count_dropped(self, cause: str, frames: int) -> None:
        if frames:
            self._node.stats.dropped(cause, frames)


class _Borrowed(SocketType):
    """A socket whose descriptor is its transport's, and is not closed with it."""

    __slots__ = ()

    def __del__(self) -> None:
        self.detach()


def _socket_of(transport: asyncio.Transport) -> SocketType | None:
    """To write past the transport, which costs less (decision 0004). Not under TLS."""
    theirs = transport.get_extra_info("socket")
    if theirs is None or transport.get_extra_info("ssl_object") is not None:
        return None
    return _Borrowed(fileno=theirs.fileno())
