"""One client's open socket: frames in both directions, written at once or kept in a backlog."""

import asyncio
import socket
import sys
from collections.abc import Mapping
from os import write, writev
from typing import TYPE_CHECKING, Final

from tidings.closing import CloseCode
from tidings.gateway import dialogue
from tidings.gateway.backlog import Backlog, Verdict
from tidings.gateway.cursor import format_cursor
from tidings.gateway.farewell import Farewell
from tidings.gateway.frames import Encoding, sse_chunk, sse_event
from tidings.gateway.greeting import control_frame, greeting, heartbeat, place
from tidings.gateway.handshake import Accepted
from tidings.gateway.protocols import native
from tidings.gateway.replay import Replay
from tidings.gateway.session import Due, Session
from tidings.gateway.wsframes import (
    ClientEvent,
    ClientFrames,
    Opcode,
    ProtocolViolation,
    close_frame,
    ping_frame,
    pong_frame,
)

if TYPE_CHECKING:
    from tidings.gateway.node import Node

__all__ = ["Connection"]

_SSE_END: Final = b"0\r\n\r\n"
_REFILL_BYTES: Final = 262_144
"""Given to the transport at once when a socket takes more again."""
_PATIENCE_S: Final = 0.25
_PATIENCE_BYTES: Final = 4 * 1024 * 1024
_NO_CODE: Final = 1005
_ABNORMAL: Final = 1006
_NO_DESCRIPTOR: Final = -1
_ORDERLY: Final = frozenset({Encoding.V1, Encoding.V1_DEFLATE})
_RESUMABLE: Final = frozenset({Encoding.V1, Encoding.V1_DEFLATE, Encoding.SSE})


class Connection(asyncio.Protocol):
    """A socket's life from its handshake (`arrival.py`) to its close frame (`farewell.py`). All on the event loop's
    thread; nothing waits.

    Frames are written as soon as `flush` is called. What the socket does not take stays in a backlog that is made then
    and gone when it is empty, so a connection that keeps up costs no queue.
    """

    __slots__ = (
        "_backlog",
        "_due_at",
        "_fd",
        "_frames",
        "_node",
        "_opening",
        "_session",
        "_transport",
        "address",
        "encoding",
        "greeted",
        "held",
        "inbox",
        "is_open",
        "replay",
    )

    def __init__(self, node: "Node", transport: asyncio.Transport, accepted: Accepted) -> None:
        now = node.clock.monotonic()
        expires_at = None if accepted.expires_at is None else now + accepted.expires_at - node.clock.now()
        self._node = node
        self._transport = transport
        self._fd = _descriptor(transport)
        self.is_open = True
        self._session = Session(node.next_session(), accepted.user, expires_at, now, node.limits.session)
        self._frames: ClientFrames | None = None
        if accepted.encoding is not Encoding.SSE:
            self._frames = ClientFrames(node.limits.message_bytes, inflate=accepted.inflate)
        self._backlog: Backlog | None = None
        self._due_at = 0.0
        self.inbox: list[bytes] = []
        self.held = False
        """It has a cursor that is not the node's: nothing is routed to it."""
        self.replay: Replay | None = None
        """What it has to get before it takes part."""
        self._opening = b""
        self.greeted = False
        """It was told where it starts."""
        self.encoding = int(accepted.encoding)
        self.address = sys.intern(accepted.address)  # thousands come from one proxy: one text for all of them

    # What registry and router see

    @property
    def user(self) -> str:
        return self._session.user

    @property
    def protocol(self) -> str:
        return Encoding(self.encoding).protocol

    @property
    def session_id(self) -> str:
        return f"{self._node.boot}-{self._session.number}"

    @property
    def backlog_bytes(self) -> int:
        return 0 if self._backlog is None else self._backlog.bytes

    @property
    def transport_bytes(self) -> int:
        return self._transport.get_write_buffer_size()

    def send(self, frame: bytes) -> None:
        """Write one frame; see `Subscriber`."""
        if self._backlog is not None:
            if self._keep(frame):
                self._hold_back_if_slow()
            return
        taken = 0
        if self._fd >= 0:
            try:
                taken = write(self._fd, frame)
            except OSError:  # full or broken: the transport finds out which
                taken = 0
        if taken != len(frame):
            self._transport.write(frame[taken:] if taken else frame)

    def flush(self) -> None:
        """Write the frames of this batch, in one system call if the socket takes them."""
        inbox = self.inbox
        if len(inbox) == 1:
            self.send(inbox[0])
        elif self._backlog is not None:
            for frame in inbox:
                if not self._keep(frame):
                    break
            else:
                self._hold_back_if_slow()
        elif inbox:
            taken = 0
            if self._fd >= 0:
                try:
                    taken = writev(self._fd, inbox)
                except OSError:
                    taken = 0
            if taken != sum(map(len, inbox)):
                self._transport.write(b"".join(inbox)[taken:])
        inbox.clear()

    # Transport callbacks

    def data_received(self, data: bytes) -> None:
        if self.is_open:
            self._on_client_bytes(data)

    def eof_received(self) -> None:
        """The client half-closed: nothing can be agreed any more, the transport closes."""

    def pause_writing(self) -> None:
        if self._backlog is None and self.is_open:
            limits = self._node.limits
            # One that can resume is never too far behind at once: it becomes a position in the window.
            limit_bytes = 0 if self.encoding in _RESUMABLE else limits.unsent_bytes
            now = self._node.clock.monotonic()
            self._backlog = Backlog(limit_bytes, limits.slow_unsent_bytes, limits.slow_after_s, now)
            self._node.blocked.add(self)

    def resume_writing(self) -> None:
        backlog, session = self._backlog, self._session
        if backlog is None or backlog.refilling:
            return
        now = self._node.clock.monotonic()
        backlog.progressed(now)
        session.on_bytes(now)
        # uvloop calls back from within this write when the socket takes all of it. A loop and a mark, because a long
        # backlog would go deeper than the stack allows.
        backlog.refilling = True
        while self._backlog is backlog and not self._transport.get_write_buffer_size():
            if not backlog.bytes:
                self._backlog = None
                self._node.blocked.discard(self)
                if self.replay is not None:
                    self._node.resumes.ready(self)
                return
            before = backlog.bytes
            frames = backlog.take(_REFILL_BYTES)
            self._node.backlog_bytes -= before - backlog.bytes
            self._transport.writelines(frames)
        backlog.refilling = False

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        self.is_open = False
        self._node.stats.closed(_ABNORMAL)
        self._node.socket_closed()

    def open(self, accepted: Accepted, rest: bytes) -> None:
        """Answer the handshake and take part from now on; `rest` is what an eager client sent behind its request."""
        node = self._node
        # Zero: a write goes to the kernel at once, and `pause_writing` comes as soon as it does not take all of it.
        self._transport.set_write_buffer_limits(high=0)
        if self.encoding == Encoding.SSE:
            self._give_up_on_dead_peers()
        resumes = bool(accepted.cursor) and self.encoding in _RESUMABLE
        self.held = resumes
        node.registry.add(self, held=resumes)
        self._wake_at(self._session.due_at)
        self._opening = accepted.response
        if resumes:
            node.resumes.begin(self, accepted)
        else:
            self._transport.write(self._greeting(node.router.positions, resumed=False))
        if rest:
            self.data_received(rest)

    def _give_up_on_dead_peers(self) -> None:
        # A client of Server-Sent Events answers nothing, so the kernel has to notice that nobody acknowledges.
        sock = self._transport.get_extra_info("socket")
        timeout_s = self._node.limits.session.idle_timeout_s
        if sock is not None and timeout_s and hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(timeout_s * 1000))

    def _greeting(self, positions: Mapping[int, int], *, resumed: bool) -> bytes:
        """The head of the answer, if it is not sent yet, and what the client is told first."""
        self.greeted = True
        opening, self._opening = self._opening, b""
        if self.encoding not in _RESUMABLE:
            return opening
        node = self._node
        welcome = native.welcome(
            self.session_id,
            node.name,
            node.router.log,
            format_cursor(positions),
            resumed=resumed,
            heartbeat_s=node.limits.session.ping_interval_s,
        )
        return opening + greeting(self.encoding, welcome) + place(self.encoding, node.router.log, positions)

    def tell(self, payload: bytes) -> None:
        """A control frame, behind what waits already."""
        self._send(control_frame(self.encoding, payload))

    # Resuming

    @property
    def takes_bytes(self) -> bool:
        """Whether the socket takes more at once."""
        return self.is_open and self._backlog is None

    def answer(self) -> None:
        """Open the stream before it is known where it starts."""
        self._transport.write(self._opening)
        self._opening = b""

    def welcome_back(self, replay: Replay) -> None:
        """The cursor is good: from here on the connection gets what it missed."""
        self.replay = replay
        self._send(self._greeting(replay.positions, resumed=True))

    def write(self, frames: bytes) -> None:
        """Frames for this connection alone; for one that takes bytes."""
        self._transport.write(frames)

    def take_part(self) -> None:
        """It is where the node is: live from now on."""
        self._release()

    def resync(self, reason: native.ResyncReason) -> None:
        """Its cursor leads nowhere from here: say so, and go on from where the node is. For all but plain ones."""
        if not self.is_open or self.encoding not in _RESUMABLE:
            return
        router = self._node.router
        first = b"" if self.greeted else self._greeting(router.positions, resumed=False)
        told = control_frame(self.encoding, native.resync(reason, router.log, format_cursor(router.positions)))
        self._release()
        self._send(first + told + place(self.encoding, router.log, router.positions))

    def _release(self) -> None:
        if self.held:
            self.held = False
            self.replay = None
            self._node.registry.release(self)
            self._node.resumes.forget(self)

    def _hold_back_if_slow(self) -> None:
        """Behind by more than a little: get the rest from the window when the socket takes it, not from memory."""
        limits, backlog = self._node.limits, self._backlog
        limit_bytes = limits.slow_unsent_bytes or limits.unsent_bytes
        if backlog is None or self.held or self.encoding not in _RESUMABLE or not limit_bytes:
            return
        if backlog.bytes > limit_bytes:
            self.held = True
            self.replay = Replay(self.user, self._node.router.positions, self._node.clock.monotonic(), from_live=True)
            self._node.registry.hold(self)
            self._node.stats.held_back()

    def _heartbeat(self) -> bytes:
        if not self.held:
            return self._node.heartbeat(self.encoding)
        if self.replay is None:  # not greeted yet: a sign of life and nothing else
            return sse_chunk(b":\n\n") if self.encoding == Encoding.SSE else ping_frame()
        return heartbeat(self.encoding, self._node.router.log, self.replay.positions)

    # Open

    def _on_client_bytes(self, data: bytes) -> None:
        session, frames = self._session, self._frames
        if frames is None:
            return  # Server-Sent Events: the client has nothing to say
        now = self._node.clock.monotonic()
        session.on_bytes(now)
        violation: ProtocolViolation | None = None
        try:
            events = frames.feed(data)
        except ProtocolViolation as caught:
            violation, events = caught, caught.events
        for event in events:
            if not session.may_send(now, self._node.limits.session):
                self.close(CloseCode.POLICY, "too many frames")
                return
            self._on_client_event(event)
            if not self.is_open:
                return
        if violation is not None:
            self._close(violation.code, violation.reason).stop_reading()

    def _on_client_event(self, event: ClientEvent) -> None:
        count = self._node.stats.client_frame
        match event.opcode:
            case Opcode.PONG:
                count("pong")
            case Opcode.PING:
                count("ping")
                self._send(pong_frame(event.payload))
            case Opcode.CLOSE:
                count("close")
                self._on_client_close(event.payload)
            case _:
                count("text" if event.opcode == Opcode.TEXT else "binary")
                if self.encoding in _ORDERLY:
                    dialogue.on_message(self._node, self, event)

    def renew(self, expires_at: float) -> None:
        """A new token was shown that ends then (the node's monotonic clock)."""
        if self._session.expires_at is not None:
            self._session.renew(expires_at)
            self._wake_at(self._session.due_at)

    def _send(self, frame: bytes) -> None:
        """Write a frame of this connection alone, behind what waits already."""
        if self._backlog is not None:
            self._keep(frame)
        else:
            self._transport.write(frame)

    def _keep(self, frame: bytes) -> bool:
        backlog = self._backlog
        if backlog is None:
            return False
        self._node.backlog_bytes += len(frame)
        if backlog.push(frame, self._transport.get_write_buffer_size()) is Verdict.KEEP:
            return True
        self.give_up("unsent", "too many unsent bytes")
        return False

    # Deadlines

    def _wake_at(self, due_at: float) -> None:
        self._due_at = due_at
        self._node.wheel.enter(self, due_at)

    def on_due(self, now: float) -> None:
        """A deadline of this connection may have come; entries that no longer hold are recognised here."""
        if now < self._due_at or not self.is_open:
            return
        if self._backlog is not None:
            # It is not pinged while it is behind: what its socket took is the sign of life then.
            self._session.alive_at(self._backlog.progress_at)
        verdict = self._session.on_due(now, self._node.limits.session)
        if isinstance(verdict, CloseCode):
            self.close(verdict, "token ended" if verdict is CloseCode.TOKEN_ENDED else "nothing heard")
            return
        if verdict is Due.PING and self._backlog is None:
            # A blocked socket is not pinged: the pong could not come before the backlog is through.
            self._transport.write(self._heartbeat())
            if self.encoding == Encoding.SSE:
                self._session.on_bytes(now)  # its client never sends; a dead one shows by its unsent bytes
        self._wake_at(self._session.due_at)

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

    def give_up(self, cause: str, reason: str) -> None:
        """Close as too slow; what waits is dropped and counted under `cause`."""
        self._drop_backlog(cause)
        self.close(CloseCode.TOO_SLOW, reason)

    # Closing

    def leave(self) -> None:
        """The node goes: tell the client to come back elsewhere, then close."""
        if self.encoding in _ORDERLY and self.is_open:
            self.tell(native.drain(0))
        self.close(CloseCode.GOING_AWAY, "the node drains")

    def close(self, code: CloseCode, reason: str) -> None:
        """Tell the client why and end the connection; at once out of the registry, so nothing more is routed to it."""
        if self.is_open:
            self._close(code, reason)

    def _close(self, code: CloseCode, reason: str) -> Farewell:
        backlog = self._backlog
        rest: list[bytes] = []
        if backlog is not None and code is not CloseCode.TOO_SLOW:
            rest = backlog.take(backlog.bytes)
            self._node.backlog_bytes -= sum(map(len, rest))
        frames = self._end()
        if self.encoding == Encoding.SSE:
            rest.append(sse_chunk(sse_event(native.close_event(code), None)) + _SSE_END)
        else:
            rest.append(close_frame(code, reason))
        self._transport.writelines(rest)
        if self.encoding == Encoding.SSE and self._transport.can_write_eof():
            self._transport.write_eof()
        return Farewell(self._node, self._transport, frames, code)

    def _on_client_close(self, payload: bytes) -> None:
        code = int.from_bytes(payload[:2], "big") if payload else _NO_CODE
        self._end()
        self._transport.write(close_frame(code) if payload else b"\x88\x00")
        self._transport.close()
        Farewell(self._node, self._transport, None, code)

    def _end(self) -> ClientFrames | None:
        """Take part in nothing any more; what is left is a reader for the peer's answer."""
        frames, self._frames = self._frames, None
        self._forget()
        self.is_open = False
        return frames

    def _forget(self) -> None:
        node = self._node
        self._fd = _NO_DESCRIPTOR  # once the transport is closed the number may be another socket's
        node.registry.remove(self)
        node.blocked.discard(self)
        node.resumes.forget(self)
        self.held = False
        self.replay = None
        self._drop_backlog("gone")
        self.inbox.clear()

    def _drop_backlog(self, cause: str) -> None:
        if self._backlog is not None:
            if self._backlog:
                self._node.stats.dropped(cause, len(self._backlog))
            self._node.backlog_bytes -= self._backlog.bytes
            self._backlog = None


def _descriptor(transport: asyncio.Transport) -> int:
    """Where frames may be written past the transport: half a microsecond less each (decision 0004). Not under TLS."""
    sock = transport.get_extra_info("socket")
    return _NO_DESCRIPTOR if sock is None or transport.get_extra_info("ssl_object") is not None else int(sock.fileno())
