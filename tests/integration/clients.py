"""Clients for the tests of a gateway: raw octets over TCP, where a library would tidy up, and what reads answers."""

import asyncio
import json
import os
import socket
import ssl
import time
import urllib.parse
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, Self

from confluent_kafka import Producer
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.integration.processes import SECRET, Gateway
from tidings.config import TopicSettings
from tidings.contract.record import encode
from tidings.kafka.connection import librdkafka_options
from tidings.kafka.ladder import Broker
from tidings.tokens import issue

__all__ = [
    "Answer",
    "Event",
    "Frame",
    "TcpClient",
    "Topics",
    "bearer",
    "client_frame",
    "close_frame",
    "counter",
    "eventually",
    "labelled",
    "receive_json",
    "silent_socket",
    "sse",
    "token_for",
    "upgrade_request",
    "web_socket",
]

TIMEOUT_S = 10.0
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
MASK = b"\x37\xfa\x21\x3d"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def token_for(user: str, ttl_s: float = 600, **more: Any) -> str:
    """A token of this run's secret."""
    return issue(user, SECRET, ttl_s, time.time(), **more)


def bearer(user: str, ttl_s: float = 600) -> dict[str, str]:
    return {"Authorization": f"Bearer {token_for(user, ttl_s)}"}


def client_frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes | None = MASK, length: int = -1
) -> bytes:
    """One frame as a client sends it; every rule may be broken. `length`: claim another one."""
    size = len(payload) if length < 0 else length
    flag = 0x80 if mask is not None else 0
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if size < 126:
        head += bytes([flag | size])
    elif size < 65536:
        head += bytes([flag | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([flag | 127]) + size.to_bytes(8, "big")
    if mask is None:
        return head + payload
    repeated = (mask * (len(payload) // 4 + 1))[: len(payload)]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return head + mask + masked.to_bytes(len(payload), "big")


def close_frame(code: int | None = 1000, reason: bytes = b"") -> bytes:
    return client_frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason)


def upgrade_request(
    path: str = "/ws", headers: Mapping[str, str] | Sequence[tuple[str, str]] = (), host: str = "localhost"
) -> bytes:
    """The head of a web socket's handshake."""
    pairs = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
        *(f"{name}: {value}" for name, value in pairs),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def address(url: str) -> tuple[str, int]:
    parts = urllib.parse.urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


class Answer(NamedTuple):
    """An HTTP answer. Header names are in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> str:
        """The stable name in a refusal's JSON, which must have its two members and nothing else."""
        content = json.loads(self.body)
        assert set(content) == {"error", "reason"}
        assert content["reason"]
        assert self.headers["content-type"] == "application/json"
        return str(content["error"])


class Frame(NamedTuple):
    """A frame from the gateway; `opcode` -1: the end of the stream."""

    opcode: int
    payload: bytes
    compressed: bool = False

    @property
    def code(self) -> int:
        """Of a close frame; 1005 if it has none, 1006 at the end of the stream."""
        if self.opcode == -1:
            return 1006
        assert self.opcode == CLOSE, self
        return int.from_bytes(self.payload[:2], "big") if self.payload else 1005


END = Frame(-1, b"")


class TcpClient:
    """One TCP connection to a gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, gateway: Gateway, tls: ssl.SSLContext | None = None) -> Self:
        host, port = address(gateway.url)
        return cls(*await asyncio.open_connection(host, port, ssl=tls, limit=1 << 24))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    async def send(self, data: bytes, chop: int = 0, pause_s: float = 0.0) -> None:
        """As it is, or in pieces of `chop` octets. A gateway that has hung up is no error here."""
        try:
            if not chop:
                self.writer.write(data)
                await self.writer.drain()
                return
            for start in range(0, len(data), chop):
                self.writer.write(data[start : start + chop])
                await self.writer.drain()
                await asyncio.sleep(pause_s)
        except ConnectionError:
            pass

    async def answer(self, timeout_s: float = TIMEOUT_S) -> Answer:
        """One HTTP answer, with the body that Content-Length promises."""
        async with asyncio.timeout(timeout_s):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            lines = head.split("\r\n")
            headers: dict[str, str] = {}
            for line in lines[1:-2]:
                name, _, value = line.partition(":")
                before = headers.get(name.lower())
                headers[name.lower()] = value.strip() if before is None else f"{before}, {value.strip()}"
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Answer(int(lines[0].split(" ")[1]), headers, body)

    async def ask(self, head: bytes) -> Answer:
        await self.send(head)
        return await self.answer()

    async def upgrade(self, user: str, path: str = "/ws", **headers: str) -> Answer:
        """Open a web socket for that user; `headers` with `_` for `-`."""
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await self.ask(upgrade_request(path, bearer(user) | more))
        assert answer.status == 101, answer
        return answer

    async def frame(self, timeout_s: float = TIMEOUT_S) -> Frame:
        """The next frame of the gateway; every one is checked to be unmasked and whole."""
        try:
            async with asyncio.timeout(timeout_s):
                first, second = await self.reader.readexactly(2)
                size = second & 127
                if size == 126:
                    size = int.from_bytes(await self.reader.readexactly(2), "big")
                elif size == 127:
                    size = int.from_bytes(await self.reader.readexactly(8), "big")
                payload = await self.reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            return END
        assert not second & 0x80, "the gateway masked a frame"
        assert first & 0x80, "the gateway fragmented a frame"
        assert not first & 0x30, "the gateway set reserved bits"
        return Frame(first & 15, payload, bool(first & 0x40))

    async def frame_after_pings(self, timeout_s: float = TIMEOUT_S) -> Frame:
        """The next frame that is no ping of the gateway's own."""
        while True:
            frame = await self.frame(timeout_s)
            if frame.opcode != PING:
                return frame

    async def closed(self, timeout_s: float = TIMEOUT_S) -> int:
        """Read until the gateway's close frame and answer it as a client must; its code."""
        while True:
            frame = await self.frame(timeout_s)
            if frame.opcode in (CLOSE, END.opcode):
                if frame.opcode == CLOSE:
                    await self.send(client_frame(CLOSE, frame.payload))
                return frame.code

    async def ended(self, timeout_s: float = TIMEOUT_S) -> bytes:
        """What still comes until the stream ends."""
        async with asyncio.timeout(timeout_s):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    async def alive(self, payload: bytes = b"are you there?") -> bool:
        """Whether a ping gets its pong."""
        await self.send(client_frame(PING, payload))
        return await self.frame_after_pings() == Frame(PONG, payload)


class Event(NamedTuple):
    """One Server-Sent Event or comment, as the format's algorithm reads it; `fields` are all lines, in order."""

    data: str | None
    id: str | None
    fields: list[tuple[str, str]]

    @property
    def json(self) -> Any:
        assert self.data is not None, self
        return json.loads(self.data)


class EventStream:
    """The body of `/sse`, without its chunks."""

    def __init__(self, tcp: TcpClient, answer: Answer) -> None:
        self._tcp = tcp
        self.answer = answer
        self._body = b""
        self.finished = False

    async def block(self, timeout_s: float = TIMEOUT_S) -> Event:
        """The next block of lines up to an empty one: an event, a comment, `retry:` alone."""
        async with asyncio.timeout(timeout_s):
            while b"\n\n" not in self._body:
                size = int(await self._tcp.reader.readuntil(b"\r\n"), 16)
                self._body += await self._tcp.reader.readexactly(size)
                assert await self._tcp.reader.readexactly(2) == b"\r\n"
                if not size:
                    self.finished = True
                    raise EOFError
        text, _, self._body = self._body.partition(b"\n\n")
        fields = []
        for line in text.decode().split("\n"):
            assert "\r" not in line
            name, _, value = line.partition(":")
            fields.append((name, value.removeprefix(" ")))
        data = [value for name, value in fields if name == "data"]
        ids = [value for name, value in fields if name == "id"]
        return Event("\n".join(data) if data else None, ids[-1] if ids else None, fields)

    async def event(self, timeout_s: float = TIMEOUT_S) -> Event:
        """The next one with data."""
        while True:
            block = await self.block(timeout_s)
            if block.data is not None:
                return block


@asynccontextmanager
async def sse(gateway: Gateway, user: str, path: str = "/sse", **headers: str) -> AsyncIterator[EventStream]:
    """An open event stream."""
    async with await TcpClient.open(gateway) as tcp:
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{name}: {value}" for name, value in (bearer(user) | more).items()]
        await tcp.send("\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode())
        answer = await tcp.answer()
        assert answer.status == 200, answer
        yield EventStream(tcp, answer)


def web_socket(
    gateway: Gateway, user: str, protocol: str | None = None, *, compression: str | None = None, **options: Any
) -> connect:
    """websockets' own client: `async with web_socket(...) as ws`."""
    headers = options.pop("additional_headers", {})
    return connect(
        options.pop("url", gateway.ws_url),
        subprotocols=[Subprotocol(protocol)] if protocol else None,
        additional_headers=bearer(user) | headers,
        compression=compression,
        proxy=None,
        max_size=1 << 22,
        open_timeout=TIMEOUT_S,
        ping_interval=None,
        close_timeout=options.pop("close_timeout", 2),
        **options,
    )


async def receive_json(ws: ClientConnection, timeout_s: float = TIMEOUT_S) -> Any:
    """The next frame but `$checkpoint`, which comes when it likes."""
    async with asyncio.timeout(timeout_s):
        while (frame := json.loads(await ws.recv()))["type"] == "$checkpoint":
            pass
        return frame


def silent_socket(gateway: Gateway, user: str, protocol: str = "", receive_bytes: int = 0) -> socket.socket:
    """A web socket that nobody will ever read: what comes fills the kernel's buffers, and pings stay unanswered."""
    client = socket.socket()
    if receive_bytes:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    client.settimeout(TIMEOUT_S)
    client.connect(address(gateway.url))
    client.sendall(upgrade_request(headers=bearer(user) | ({"Sec-WebSocket-Protocol": protocol} if protocol else {})))
    head = b""
    while not head.endswith(b"\r\n\r\n"):  # octet by octet: what follows the head stays in the kernel
        octet = client.recv(1)
        assert octet, head
        head += octet
    assert head.startswith(b"HTTP/1.1 101 "), head
    return client


class Topics:
    """The topics of some gateways, to produce to."""

    def __init__(self, broker: Broker, names: TopicSettings) -> None:
        self.names = names
        self._producer = Producer(
            librdkafka_options(broker.settings) | {"linger.ms": 0, "message.max.bytes": 5_000_000, "acks": "all"}
        )

    def put(
        self,
        value: bytes | None,
        *,
        topic: str = "",
        partition: int = 0,
        headers: Sequence[tuple[str, bytes]] = (),
        flush: bool = True,
    ) -> None:
        """Any bytes, to `modifications` unless told; returns when the broker has them."""
        self._producer.produce(topic or self.names.modifications, value, partition=partition, headers=list(headers))
        if flush:
            self.flush()

    def flush(self) -> None:
        assert not self._producer.flush(20), "Kafka did not take the records"

    def send(
        self,
        receivers: list[str],
        data: Any,
        type_: str = "update",
        *,
        partition: int = 0,
        headers: Sequence[tuple[str, bytes]] = (),
        flush: bool = True,
    ) -> None:
        """A modification; `data` as bytes is spliced in unchanged."""
        self.put(encode(receivers, type_, data), partition=partition, headers=headers, flush=flush)

    def signal(self, receivers: list[str], data: Any, type_: str, *, partition: int = 0) -> None:
        """A record on `signals`, where types may be reserved ones."""
        value = json.dumps({"receivers": receivers, "type": type_, "data": data}).encode()
        self.put(value, topic=self.names.signals, partition=partition)


def labelled(gateway: Gateway, name: str) -> dict[str, float]:
    """The samples of one metric with one label, by its value."""
    found = {}
    for line in gateway.get("/metrics")[1].splitlines():
        if line.startswith(name + "{"):
            labels, _, value = line.rpartition(" ")
            found[labels.split('"')[1]] = float(value)
    return found


def counter(gateway: Gateway, name: str, label: str) -> float:
    return labelled(gateway, name).get(label, 0.0)


async def eventually(condition: Callable[[], bool], timeout_s: float = TIMEOUT_S, what: str = "") -> None:
    """Until something that tells nobody has happened. The condition may block for milliseconds."""
    deadline = time.monotonic() + timeout_s
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, what or "it did not happen in time"
        await asyncio.sleep(0.02)


def open_files(gateway: Gateway) -> int:
    """Open file descriptors of the process."""
    return len(os.listdir(f"/proc/{gateway.pid}/fd"))


def resident_bytes(gateway: Gateway) -> int:
    with open(f"/proc/{gateway.pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
