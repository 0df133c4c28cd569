"""One client's open socket: its place among all others, what it missed, what it says, and how it ends."""

import asyncio
import socket
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import structlog

from tidings.closing import CloseCode
from tidings.gateway import dialogue
from tidings.gateway.cursor import format_cursor
from tidings.gateway.farewell import Farewell
from tidings.gateway.frames import Encoding, sse_chunk, sse_event
from tidings.gateway.greeting import control_frame, greeting, heartbeat, place
from tidings.gateway.handshake import Accepted
from tidings.gateway.outlet import RESUMABLE, Outlet
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

log = structlog.get_logger(__name__)

_SSE_END: Final = b"0\r\n\r\n"
_NO_CODE: Final = 1005
_ABNORMAL: Final = 1006
_ORDERLY: Final = frozenset({Encoding.V1, Encoding.V1_DEFLATE})


class Connection(Outlet):
    """A socket's life from its handshake (`arrival.py`) to its close frame (`farewell.py`). All on the event loop's
    thread; nothing waits. How its frames are written is `Outlet`'s.
    """

    __slots__ = ("_due_at", "_frames", "_opening", "_session", "_surplus_bytes", "address", "greeted", "replay")

    def __init__(self, node: "Node", transport: asyncio.Transport, accepted: Accepted) -> None:
        super().__init__(node, transport, accepted.encoding)
        now = node.clock.monotonic()
        expires_at = None if accepted.expires_at is None else now + accepted.expires_at - node.clock.now()
        self._session = Session(node.next_session(), accepted.user, expires_at, now, node.limits.session)
        self._frames: ClientFrames | None = None
        if accepted.encoding is not Encoding.SSE:
            self._frames = ClientFrames(node.limits.message_bytes, inflate=accepted.inflate)
        self._surplus_bytes = 0
        self._due_at = 0.0
        self.replay: Replay | None = None
        """What it has to get before it takes part."""
        self._opening = b""
        self.greeted = False
        """It was told where it starts."""
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

    # Transport callbacks

    def data_received(self, data: bytes) -> None:
        if self.is_open:
            try:
                self._on_client_bytes(data)
            except Exception:
                self._fail()

    def eof_received(self) -> None:
        """The client half-closed: nothing can be agreed any more, the transport closes."""

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
        resumes = bool(accepted.cursor) and self.encoding in RESUMABLE
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
        if self.encoding not in RESUMABLE:
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
        return (
            opening
            + greeting(self.encoding, welcome, self._session.number)
            + place(self.encoding, node.router.log, positions)
        )

    def tell(self, payload: bytes) -> None:
        """A control frame, behind what waits already."""
        self._send(control_frame(self.encoding, payload))

    # Resuming

    def answer(self) -> None:
        """Open the stream before it is known where it starts."""
        self._transport.write(self._opening)
        self._opening = b""

    def welcome_back(self, replay: Replay) -> None:
        """The cursor is good: from here on the connection gets what it missed."""
        self.replay = replay
        self._send(self._greeting(replay.positions, resumed=True))

    def take_part(self) -> None:
        """It is where the node is: live from now on."""
        self._release()

    def resync(self, reason: native.ResyncReason) -> None:
        """Its cursor leads nowhere from here: say so, and go on from where the node is. For all but plain ones."""
        if not self.is_open or self.encoding not in RESUMABLE:
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

    def _on_progress(self, now: float) -> None:
        self._session.on_bytes(now)

    def _on_drained(self) -> None:
        if self.replay is not None:
            self._node.resumes.ready(self)

    def _hold_back_if_slow(self) -> None:
        """Behind by more than a little: get the rest from the window when the socket takes it, not from memory."""
        limits, backlog = self._node.limits, self._backlog
        limit_bytes = limits.slow_unsent_bytes or limits.unsent_bytes
        if backlog is None or self.held or self.encoding not in RESUMABLE or not limit_bytes:
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
            self._on_surplus_bytes(len(data))
            return
        now = self._node.clock.monotonic()
        session.on_bytes(now)
        violation: ProtocolViolation | None = None
        try:
            events = frames.feed(data, session.may_send(now, self._node.limits.session))
        except ProtocolViolation as caught:
            violation, events = caught, caught.events
        session.sent(frames.taken)
        for event in events:
            self._on_client_event(event)
            if not self.is_open:
                return
        if violation is not None:
            self._flush_gathered()
        if violation is not None and self.is_open:
            self._close(violation.code, violation.reason).stop_reading()

    def _on_surplus_bytes(self, count: int) -> None:
        """A client of Server-Sent Events has nothing to say; what little it says all the same is dropped."""
        self._surplus_bytes += count
        if self._surplus_bytes > self._node.limits.message_bytes:
            self.close(CloseCode.POLICY, "nothing is read from this stream's client")

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

    # Deadlines

    def _wake_at(self, due_at: float) -> None:
        self._due_at = due_at
        self._node.wheel.enter(self, due_at)

    def on_due(self, now: float) -> None:
        """A deadline of this connection may have come; entries that no longer hold are recognised here."""
        if now < self._due_at or not self.is_open:
            return
        try:
            self._on_deadline(now)
        except Exception:
            self._fail()

    def _on_deadline(self, now: float) -> None:
        if self._backlog is not None:
            # It is not pinged while it is behind: what its socket took is the sign of life then.
            self._session.alive_at(self._backlog.progress_at)
        verdict = self._session.on_due(now, self._node.limits.session)
        if isinstance(verdict, CloseCode):
            self.close(verdict, "token ended" if verdict is CloseCode.TOKEN_ENDED else "nothing heard")
            return
        if verdict is Due.PING and self._backlog is None:
            # A blocked socket is not pinged: the pong could not come before the backlog is through.
            self._send(self._heartbeat())  # the cursor in it is behind what gathers for this connection
            if self.encoding == Encoding.SSE:
                self._session.on_bytes(now)  # its client never sends; a dead one shows by its unsent bytes
        self._wake_at(self._session.due_at)

    def give_up(self, cause: str, reason: str) -> None:
        """Close as too slow; what waits is dropped and counted under `cause`."""
        self._drop_backlog(cause)
        self.close(CloseCode.TOO_SLOW, reason)

    # Closing

    def _fail(self) -> None:
        """A bug of ours: this connection ends, all others go on."""
        log.exception("connection_failed", session=self.session_id)
        self.close(CloseCode.INTERNAL_ERROR, "internal error")

    def leave(self) -> None:
        """The node goes: tell the client to come back elsewhere, then close."""
        if self.encoding in _ORDERLY and self.is_open and self.greeted:
            self.tell(native.drain(0))
        self.close(CloseCode.GOING_AWAY, "the node drains")

    def close(self, code: CloseCode, reason: str) -> None:
        """Tell the client why and end the connection; at once out of the registry, so nothing more is routed to it."""
        if code is not CloseCode.TOO_SLOW:
            self._flush_gathered()
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
        self._flush_gathered()
        if not self.is_open:
            return
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
        self._stop_writing()
        node = self._node
        node.registry.remove(self)
        node.resumes.forget(self)
        self.held = False
        self.replay = None
