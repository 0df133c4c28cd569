"""One client's open socket: frames in both directions, written at once or kept in a backlog."""

import asyncio
import socket
import sys
from enum import Enum
from typing import TYPE_CHECKING, Final

from tidings.closing import CloseCode
from tidings.errors import InvalidToken, UnknownKey
from tidings.gateway.backlog import Backlog, Verdict
from tidings.gateway.cursor import format_cursor
from tidings.gateway.frames import Encoding, sse_chunk, sse_event
from tidings.gateway.handshake import Accepted, watched_until
from tidings.gateway.protocols import native
from tidings.gateway.session import Due, Session
from tidings.gateway.wsframes import (
    ClientEvent,
    ClientFrames,
    Opcode,
    ProtocolViolation,
    close_frame,
    pong_frame,
    text_frame,
)

if TYPE_CHECKING:
    from tidings.gateway.node import Node

__all__ = ["Connection"]

_SSE_END: Final = b"0\r\n\r\n"
_SSE_RETRY_MS: Final = 2000
_CLOSING_S: Final = 2.0
"""How long a peer may take to answer a close frame."""
_REFILL_BYTES: Final = 262_144
"""Given to the transport at once when a socket takes more again."""
_ABNORMAL: Final = 1006
_ORDERLY: Final = frozenset({Encoding.V1, Encoding.V1_DEFLATE})


class _State(Enum):
    OPEN = 0
    CLOSING = 1
    CLOSED = 2


class Connection(asyncio.Protocol):
    """A socket's life from its handshake (`arrival.py`) to its end. All on the event loop's thread; nothing waits.

    Frames are written as soon as `flush` is called. What the socket does not take stays in a backlog that is made then
    and gone when it is empty, so a connection that keeps up costs no queue.
    """

    __slots__ = (
        "_backlog",
        "_due_at",
        "_frames",
        "_node",
        "_session",
        "_state",
        "_transport",
        "address",
        "close_code",
        "encoding",
        "inbox",
    )

    def __init__(self, node: "Node", transport: asyncio.Transport, accepted: Accepted) -> None:
        now = node.clock.monotonic()
        expires_at = None if accepted.expires_at is None else now + accepted.expires_at - node.clock.now()
        self._node = node
        self._transport = transport
        self._state = _State.OPEN
        self._session = Session(node.next_session(), accepted.user, expires_at, now, node.limits.session)
        self._frames: ClientFrames | None = None
        if accepted.encoding is not Encoding.SSE:
            self._frames = ClientFrames(node.limits.message_bytes, inflate=accepted.inflate)
        self._backlog: Backlog | None = None
        self._due_at = 0.0
        self.inbox: list[bytes] = []
        self.encoding = int(accepted.encoding)
        self.address = sys.intern(accepted.address)  # thousands come from one proxy: one text for all of them
        self.close_code: int = _ABNORMAL

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

    def flush(self) -> None:
        """Write the frames of this batch, in one system call if the socket takes them."""
        inbox = self.inbox
        if self._backlog is not None:
            for frame in inbox:
                if not self._keep(frame):
                    break
        elif len(inbox) == 1:
            self._transport.write(inbox[0])
        elif inbox:
            self._transport.writelines(inbox)
        inbox.clear()

    # Transport callbacks

    def data_received(self, data: bytes) -> None:
        if self._state is _State.OPEN:
            self._on_client_bytes(data)
        elif self._state is _State.CLOSING:
            self._on_bytes_while_closing(data)

    def eof_received(self) -> None:
        """The client half-closed: nothing can be agreed any more, the transport closes."""

    def pause_writing(self) -> None:
        if self._backlog is None and self._state is _State.OPEN:
            limits = self._node.limits
            self._backlog = Backlog(
                limits.unsent_bytes, limits.slow_unsent_bytes, limits.slow_after_s, self._node.clock.monotonic()
            )
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
                return
            before = backlog.bytes
            frames = backlog.take(_REFILL_BYTES)
            self._node.backlog_bytes -= before - backlog.bytes
            self._transport.writelines(frames)
        backlog.refilling = False

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        self._state = _State.CLOSED
        self._frames = None
        self._node.stats.closed(self.close_code)
        self._node.socket_closed()

    def open(self, accepted: Accepted, rest: bytes) -> None:
        """Answer the handshake and take part from now on; `rest` is what an eager client sent behind its request."""
        node = self._node
        # Zero: a write goes to the kernel at once, and `pause_writing` comes as soon as it does not take all of it.
        self._transport.set_write_buffer_limits(high=0)
        if self.encoding == Encoding.SSE:
            self._give_up_on_dead_peers()
        self._transport.write(accepted.response + self._greeting(accepted))
        node.registry.add(self)
        self._wake_at(self._session.due_at)
        if rest:
            self.data_received(rest)

    def _give_up_on_dead_peers(self) -> None:
        # A client of Server-Sent Events answers nothing, so the kernel has to notice that nobody acknowledges.
        sock = self._transport.get_extra_info("socket")
        timeout_s = self._node.limits.session.idle_timeout_s
        if sock is not None and timeout_s and hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(timeout_s * 1000))

    def _greeting(self, accepted: Accepted) -> bytes:
        """The first frames. A cursor is not resumed from: `$resync` says so."""
        if self.encoding in (Encoding.PLAIN, Encoding.PLAIN_DEFLATE):
            return b""
        node = self._node
        cursor = format_cursor(node.router.positions)
        log = node.router.log
        payload = native.welcome(
            self.session_id, node.name, log, cursor, resumed=False, heartbeat_s=node.limits.session.ping_interval_s
        )
        payloads = [payload]
        if accepted.cursor:
            node.stats.resumed("resync")
            payloads.append(native.resync("expired", log, cursor))
        if self.encoding == Encoding.SSE:
            head = b"retry: %d\n\n" % _SSE_RETRY_MS
            return sse_chunk(head + b"".join(sse_event(one, None) for one in payloads))
        return b"".join(text_frame(one) for one in payloads)

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
            if self._state is not _State.OPEN:
                return
        if violation is not None:
            self.close(violation.code, violation.reason)
            self._stop_reading()

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
                    self._on_v1_message(event)

    def _on_v1_message(self, event: ClientEvent) -> None:
        if event.opcode != Opcode.TEXT:
            self._send(text_frame(native.error("frames are text")))
            return
        asked = native.interpret(event.payload)
        if isinstance(asked, native.ClientError):
            self._send(text_frame(native.error(asked.reason)))
            return
        try:
            self._renew(asked.token)
        except UnknownKey:
            self._node.spawn(self._renew_with_new_keys(asked.token))

    def _renew(self, token: str) -> None:
        node, session = self._node, self._session
        try:
            unix_now = node.clock.now()
            claims = node.gatekeeper.check(token, unix_now)
        except UnknownKey:
            raise
        except InvalidToken as refused:
            self._send(text_frame(native.error(f"$token: {refused.reason}")))
            return
        if claims.user != session.user:
            self._send(text_frame(native.error("$token: the token is another user's")))
            return
        if session.expires_at is not None:
            session.renew(node.clock.monotonic() + watched_until(claims, unix_now) - unix_now)
            self._wake_at(session.due_at)

    async def _renew_with_new_keys(self, token: str) -> None:
        await self._node.refresh_keys()
        if self._state is not _State.OPEN:
            return
        try:
            self._renew(token)
        except UnknownKey as unknown:
            self._send(text_frame(native.error(f"$token: {unknown.reason}")))

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
        if now < self._due_at:
            return
        if self._state is _State.OPEN:
            if self._backlog is not None:
                # It is not pinged while it is behind: what its socket took is the sign of life then.
                self._session.alive_at(self._backlog.progress_at)
            verdict = self._session.on_due(now, self._node.limits.session)
            if isinstance(verdict, CloseCode):
                self.close(verdict, "token ended" if verdict is CloseCode.TOKEN_ENDED else "nothing heard")
                return
            if verdict is Due.PING and self._backlog is None:
                # A blocked socket is not pinged: the pong could not come before the backlog is through.
                self._transport.write(self._node.heartbeat(self.encoding))
                if self.encoding == Encoding.SSE:
                    self._session.on_bytes(now)  # its client never sends; a dead one shows by its unsent bytes
            self._wake_at(self._session.due_at)
        elif self._state is _State.CLOSING:
            self._transport.abort()

    def check_progress(self, now: float) -> None:
        """Called now and then while the socket takes no more."""
        backlog = self._backlog
        if backlog is None or self._state is not _State.OPEN:
            return
        if backlog.check(now, self._transport.get_write_buffer_size()) is Verdict.CLOSE_SLOW:
            self.give_up("slow", "no progress")

    def give_up(self, cause: str, reason: str) -> None:
        """Close as too slow; what waits is dropped and counted under `cause`."""
        self._drop_backlog(cause)
        self.close(CloseCode.TOO_SLOW, reason)

    # Closing

    def leave(self) -> None:
        """The node goes: tell the client to come back elsewhere, then close."""
        if self.encoding in _ORDERLY and self._state is _State.OPEN:
            self._send(text_frame(native.drain(0)))
        self.close(CloseCode.GOING_AWAY, "the node drains")

    def close(self, code: CloseCode, reason: str) -> None:
        """Tell the client why and end the connection; at once out of the registry, so nothing more is routed to it."""
        if self._state is not _State.OPEN:
            return
        self.close_code = code
        backlog = self._backlog
        rest: list[bytes] = []
        if backlog is not None and code is not CloseCode.TOO_SLOW:
            rest = backlog.take(backlog.bytes)
            self._node.backlog_bytes -= sum(map(len, rest))
        self._forget()
        self._state = _State.CLOSING
        if self.encoding == Encoding.SSE:
            rest.append(sse_chunk(sse_event(native.close_event(code), None)) + _SSE_END)
        else:
            rest.append(close_frame(code, reason))
        self._transport.writelines(rest)
        if self.encoding == Encoding.SSE and self._transport.can_write_eof():
            self._transport.write_eof()
        self._wake_at(self._node.clock.monotonic() + _CLOSING_S)

    def _on_client_close(self, payload: bytes) -> None:
        self.close_code = int.from_bytes(payload[:2], "big") if payload else 1005
        self._forget()
        self._state = _State.CLOSING
        self._transport.write(close_frame(self.close_code) if payload else b"\x88\x00")
        self._transport.close()
        self._wake_at(self._node.clock.monotonic() + _CLOSING_S)

    def _on_bytes_while_closing(self, data: bytes) -> None:
        frames = self._frames
        if frames is None:
            return
        try:
            closed = any(event.opcode == Opcode.CLOSE for event in frames.feed(data))
        except ProtocolViolation:
            self._stop_reading()
            return
        if closed:
            self._transport.close()

    def _stop_reading(self) -> None:
        """After a violation nothing of the client can be understood, its close frame least of all: it hangs up, or the
        deadline does. Not at once: octets still under way (the rest of a message that is too big) would make the kernel
        reset the connection, and the client would never see why.
        """
        self._frames = None
        if self._state is _State.CLOSING and self._transport.can_write_eof():
            self._transport.write_eof()

    def _forget(self) -> None:
        node = self._node
        node.registry.remove(self)
        node.blocked.discard(self)
        self._drop_backlog("gone")
        self.inbox.clear()

    def _drop_backlog(self, cause: str) -> None:
        if self._backlog is not None:
            if self._backlog:
                self._node.stats.dropped(cause, len(self._backlog))
            self._node.backlog_bytes -= self._backlog.bytes
            self._backlog = None
