"""What stands for sockets, records and clients in the gateway's tests without an event loop."""

import asyncio
import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, cast

from tidings.clock import ManualClock
from tidings.closing import CloseCode
from tidings.errors import InvalidToken, TokenExpired, UnknownKey
from tidings.gateway.arrival import Arrival
from tidings.gateway.connection import Connection
from tidings.gateway.farewell import Farewell
from tidings.gateway.frames import Encoding
from tidings.gateway.handshake import Gatekeeper, Policy
from tidings.gateway.node import Node, NodeLimits
from tidings.gateway.resumes import ResumeLimits
from tidings.gateway.session import SessionLimits
from tidings.gateway.stats import Stats
from tidings.gateway.turnstile import Turnstile
from tidings.metrics import CounterName, Metrics
from tidings.tokens import Claims

__all__ = [
    "Frame",
    "LogEntry",
    "Member",
    "Party",
    "Transport",
    "client_frame",
    "parse_sse",
    "record",
    "request",
    "server_frames",
]


@dataclass(frozen=True)
class LogEntry:
    """A record as the log holds it."""

    offset: int
    value: bytes | None
    timestamp: int = 1_700_000_000_000
    headers: Sequence[tuple[str, bytes | None]] = ()
    key: bytes | None = None


def record(receivers: object, type_: object = "t", data: str = "1") -> bytes:
    """A record's value, as any producer may write it."""
    return f'{{"receivers":{json.dumps(receivers)},"type":{json.dumps(type_)},"data":{data}}}'.encode()


@dataclass(eq=False)
class Member:
    """A connection as registry and router see it; it keeps what it was given."""

    user: str
    encoding: int = Encoding.PLAIN
    address: str = "10.0.0.1"
    session_id: str = ""
    greeted: bool = True
    inbox: list[bytes] = field(default_factory=list)
    got: list[bytes] = field(default_factory=list)
    writes: int = 0
    closed: tuple[CloseCode, str] | None = None

    @property
    def protocol(self) -> str:
        return Encoding(self.encoding).protocol

    def send(self, frame: bytes) -> None:
        self.writes += 1
        self.got.append(frame)

    def flush(self) -> None:
        self.writes += 1
        self.got += self.inbox
        self.inbox.clear()

    def close(self, code: CloseCode, reason: str) -> None:
        self.closed = (code, reason)

    def leave(self) -> None:
        self.close(CloseCode.GOING_AWAY, "")

    def resync(self, reason: str) -> None:
        self.got.append(b"resync " + reason.encode())


class Frame(NamedTuple):
    """What a client reads off a web socket."""

    opcode: int
    payload: bytes
    compressed: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.payload)

    @property
    def code(self) -> int:
        return int.from_bytes(self.payload[:2], "big")


def server_frames(stream: bytes) -> list[Frame]:
    """Every frame of a stream that holds whole ones only; a client's view, written apart from the code under test."""
    frames = []
    while stream:
        first, second = stream[:2]
        assert first & 0x80, "the gateway sends no fragments"
        assert second < 128, "the gateway masks nothing"
        start = 2
        length = second
        if second == 126:
            length, start = struct.unpack(">H", stream[2:4])[0], 4
            assert length > 125
        elif second == 127:
            length, start = struct.unpack(">Q", stream[2:10])[0], 10
            assert length > 0xFFFF
        payload, stream = stream[start : start + length], stream[start + length :]
        assert len(payload) == length
        compressed = bool(first & 0x40)
        if compressed:
            payload = zlib.decompressobj(-12).decompress(payload + b"\x00\x00\xff\xff")
        frames.append(Frame(first & 15, payload, compressed))
    return frames


def client_frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = b"\x01\x02\x03\x04",
    length_form: Literal[0, 126, 127] = 0,
) -> bytes:
    """One frame as a client sends it; the other arguments make it a wrong or an odd one."""
    head = bytearray([(0x80 if fin else 0) | rsv << 4 | opcode])
    flag = 0x80 if mask is not None else 0
    length = len(payload)
    if length > 0xFFFF or length_form == 127:
        head += bytes([flag | 127]) + struct.pack(">Q", length)
    elif length > 125 or length_form == 126:
        head += bytes([flag | 126]) + struct.pack(">H", length)
    else:
        head.append(flag | length)
    if mask is None:
        return bytes(head) + payload
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes(head) + mask + masked


def parse_sse(stream: bytes) -> list[tuple[str, str | None]]:
    """Data and last event id of each event, by the rules of the HTML standard (section 9.2.6)."""
    events: list[tuple[str, str | None]] = []
    data: list[str] = []
    last_id: str | None = None
    text = stream.decode().replace("\r\n", "\n").replace("\r", "\n")
    for line in text.split("\n")[:-1]:
        if not line:
            if data:
                events.append(("\n".join(data), last_id))
            data = []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "id" and "\0" not in value:
            last_id = value
    return events


def unchunked(stream: bytes) -> bytes:
    """The body of a chunked answer, whether it has ended or not."""
    body = b""
    while stream:
        size, _, rest = stream.partition(b"\r\n")
        length = int(size, 16)
        body += rest[:length]
        assert rest[length : length + 2] == b"\r\n"
        stream = rest[length + 2 :]
    return body


def request(path: str = "/ws", *lines: str, token: str | None = "alice", upgrade: bool = True) -> bytes:
    """A client's request head. The token `alice` is good for the user of that name, see `Party`."""
    head = [f"GET {path} HTTP/1.1", "Host: gateway.test"]
    if upgrade:
        head += [
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version: 13",
        ]
    if token is not None:
        head.append(f"Authorization: Bearer {token}")
    return "\r\n".join([*head, *lines, "", ""]).encode("latin-1")


class Transport:
    """A socket whose kernel takes `room` bytes; like uvloop's it calls back from within a write.

    `sent` is what the client's side has got, `buffered` what the transport holds.
    """

    def __init__(
        self, connection: Arrival | Connection | Farewell, room: float = float("inf"), peer: str = "192.0.2.1"
    ) -> None:
        self.connection: Arrival | Connection | Farewell = connection
        self.room = room
        self.peer = peer
        self.socket: Any = None
        """With a `fileno`, frames may be written there, past the transport."""
        self.sent = b""
        self.buffered = b""
        self.paused = False
        self.pauses_first = False
        """It tells to pause before it has tried the kernel, and to resume from within the same write."""
        self.eof = False
        self.closing = False
        self.aborted = False
        self.writes = 0

    # What a connection calls

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == 0

    def get_extra_info(self, name: str) -> Any:
        if name == "peername":
            return self.peer, 40000
        return self.socket if name == "socket" else None

    def get_write_buffer_size(self) -> int:
        return len(self.buffered)

    def write(self, data: bytes) -> None:
        self.writelines([data])

    def writelines(self, frames: list[bytes]) -> None:
        self.writes += 1
        if self.closing:
            return
        self.buffered += b"".join(frames)
        if self.pauses_first and not self.paused:
            self.paused = True
            self.connection.pause_writing()
        self._push()
        if self.buffered and not self.paused:
            self.paused = True
            self.connection.pause_writing()

    def is_closing(self) -> bool:
        return self.closing

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, Connection | Farewell)
        self.connection = protocol

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.eof = True

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    # What the test does

    @property
    def opened(self) -> Connection:
        """The connection of a client that was let in."""
        assert isinstance(self.connection, Connection)
        return self.connection

    def drain(self, room: float = float("inf")) -> None:
        """The client reads: the kernel takes that many bytes more."""
        self.room += room
        self._push()

    def lose(self) -> None:
        """The socket is gone."""
        self.connection.connection_lost(None)

    def _push(self) -> None:
        taken = self.buffered if self.room >= len(self.buffered) else self.buffered[: int(self.room)]
        self.sent += taken
        self.buffered = self.buffered[len(taken) :]
        self.room -= len(taken)
        if not self.buffered and self.paused:
            self.paused = False
            self.connection.resume_writing()


class Party:
    """A node with a manual clock and fake sockets. A token is the user's name; `name@seconds` ends then (Unix time)."""

    def __init__(self, *, policy: Policy | None = None, compress_min_bytes: int = 512, **limits: Any) -> None:
        self.clock = ManualClock()
        self.metrics = Metrics()
        session = {
            "ping_interval_s": 25.0,
            "idle_timeout_s": 75.0,
            "frames_per_s": 20.0,
            "frames_burst": 100,
        }
        session |= {name: limits.pop(name) for name in list(limits) if name in session}
        defaults: dict[str, Any] = {
            "connections": 0,
            "connections_per_user": 0,
            "connections_per_address": 0,
            "header_bytes": 16_384,
            "handshake_timeout_s": 5.0,
            "message_bytes": 65_536,
            "unsent_bytes": 4 << 20,
            "slow_unsent_bytes": 1 << 20,
            "slow_after_s": 5.0,
            "unsent_total_bytes": 256 << 20,
            "socket_send_buffer_bytes": 0,
            "window_bytes": 16 << 20,
            "window_s": 3600.0,
        }
        resume: dict[str, Any] = {
            "per_s": 0.0,
            "per_user_per_min": 0.0,
            "readback_bytes": 16 << 20,
            "readback_timeout_s": 5.0,
        }
        resume |= {name: limits.pop(name) for name in list(limits) if name in resume}
        self.known_keys = True
        self.refreshes = 0
        self.node = Node(
            name="n1",
            boot="b00t",
            limits=NodeLimits(
                **(defaults | limits),
                session=SessionLimits(**cast(dict[str, Any], session)),
                resume=ResumeLimits(**resume),
            ),
            gatekeeper=Gatekeeper(policy or Policy(), self._verify),
            refresh_keys=self._refresh,
            clock=self.clock,
            stats=Stats(self.metrics),
            compress_min_bytes=compress_min_bytes,
        )
        self.node.turnstile = Turnstile(per_turn=1_000_000)  # no event loop turns here
        self.node.router.begin(0, 10, None)
        self.node.router.begin(1, 20, None)
        self.node.router.log = "log1"

    def _verify(self, token: str, now: float) -> Claims:
        user, _, ends = token.partition("@")
        if user == "bad":
            raise InvalidToken("the token is bad")
        if user == "unknown" and not self.known_keys:
            raise UnknownKey("no such key")
        expires_at = float(ends) if ends else now + 3600
        if now >= expires_at + 10:
            raise TokenExpired("the token has expired")
        return Claims(user, expires_at, expires_at + 10, {})

    async def _refresh(self) -> bool:
        self.refreshes += 1
        self.known_keys = True
        return True

    def dial(self, room: float = float("inf"), peer: str = "192.0.2.1", socket: object = None) -> Transport:
        """A client whose socket was accepted and that has said nothing yet."""
        connection = Arrival(self.node)
        transport = Transport(connection, room, peer)
        transport.socket = socket
        connection.connection_made(cast(Any, transport))
        return transport

    def connect(
        self,
        user: str = "alice",
        path: str = "/ws",
        *lines: str,
        peer: str = "192.0.2.1",
        room: float = float("inf"),
        inspected: bool = False,
        socket: object = None,
    ) -> Transport:
        """A client that was let in; `sent` begins behind the head of the answer.

        Args:
            inspected: Its cursor makes the node ask the brokers, who are not there: let that come to its end.
        """
        transport = self.dial(room, peer=peer, socket=socket)
        head = request(path, *lines, token=user, upgrade=not path.startswith("/sse"))
        if inspected:
            asyncio.run(self._connect_and_wait(transport, head))
        else:
            transport.connection.data_received(head)
        self.run_resumes()
        head, _, rest = transport.sent.partition(b"\r\n\r\n")
        assert head.startswith((b"HTTP/1.1 101 ", b"HTTP/1.1 200 ")), head
        transport.sent = rest
        return transport

    async def _connect_and_wait(self, transport: Transport, head: bytes) -> None:
        transport.connection.data_received(head)
        await self.settled()

    async def settled(self) -> None:
        """Wait until nothing of any connection waits."""
        while self.node._tasks:
            await asyncio.wait(self.node._tasks)

    def run_resumes(self) -> None:
        """Let connections that catch up have their turns until none is ready."""
        while self.node.resumes.turn():
            pass

    def deliver(
        self, *entries: LogEntry, topic: str = "modifications", partition: int = 0, gather: bool = False
    ) -> None:
        """What the consumer does with a fetch."""
        from tidings.gateway.router import Routed

        routed = Routed()
        if topic == "modifications":
            self.node.router.route_modifications(topic, partition, entries, entries[-1].offset + 1, routed)
        else:
            self.node.router.route_signals(topic, partition, entries, routed)
        self.node.write(routed, gather=gather)
        self.node.routed()
        self.node.disconnect(routed.disconnects)

    def advance(self, seconds: float) -> None:
        """Time goes on, a tick every quarter of a second."""
        end = self.clock.monotonic() + seconds
        while (left := end - self.clock.monotonic()) > 1e-9:
            self.clock.advance(min(0.25, left))
            self.node.tick(self.clock.monotonic())

    def count(self, name: CounterName, **labels: str) -> float:
        """A counter's value."""
        return self.metrics.counter(name, **labels).value
