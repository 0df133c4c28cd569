"""The sending process of the messaging part: text messages over HTTP, and some members' web sockets that wait for them.

`python -m tidings.cli.bench.senders HOST PORT [GATEWAY_PORT]`. The first line on standard input is a JSON object:
`chats`, each with `id` and `members`, and `tokens` by user. Then each line is answered with one JSON line:

- `flood SECONDS CONNECTIONS`: each connection sends its next message once it has the answer to the one before;
- `pace SECONDS RATE`: that many messages a second, whatever the answers take; the delay counts from when each was due.
"""

import asyncio
import itertools
import json
import random
import re
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import uvloop
from websockets.asyncio.client import connect

__all__ = ["main"]

_STAMP: Final = re.compile(rb'"text":"(\d+) ')
_LENGTH: Final = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_PACED_CONNECTIONS: Final = 64
_SETTLE_S: Final = 1.0


@dataclass(slots=True)
class Found:
    """What one round came to; times in milliseconds."""

    sent_ms: list[float] = field(default_factory=list)
    """From when it was due to the answer."""
    arrived_ms: list[float] = field(default_factory=list)
    """From when it was due to another member's web socket."""
    refused: list[str] = field(default_factory=list)
    span_s: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return {
            "sent_ms": [round(one, 3) for one in self.sent_ms],
            "arrived_ms": [round(one, 3) for one in self.arrived_ms],
            "error": "; ".join(self.refused[:3]),
            "span_s": self.span_s,
        }


class Connection:
    """One keep-alive connection; one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def post(self, path: str, token: str, body: bytes) -> int:
        """The status of the answer."""
        self._writer.write(
            b"POST %b HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %b\r\nIdempotency-Key: %b\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (path.encode(), token.encode(), uuid.uuid4().hex.encode(), len(body), body)
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if length is not None:
            await self._reader.readexactly(int(length[1]))
        return int(head[9:12])


class Senders:
    """All chats, and who writes to them.

    Args:
        plan: As on the first line.
    """

    def __init__(self, host: str, port: int, plan: dict[str, Any], random_seed: int = 1) -> None:
        self._at = (host, port)
        self._chance = random.Random(random_seed)  # noqa: S311 - a load, no secret
        self._chats = plan["chats"]
        self._tokens = plan["tokens"]
        self._number = itertools.count()
        self.found = Found()

    async def open(self, count: int) -> list[Connection]:
        return [Connection(*await asyncio.open_connection(*self._at)) for _ in range(count)]

    async def one(self, connection: Connection, due_ns: int | None = None) -> None:
        """Send a message to the next chat, from any member of it."""
        chat = self._chats[next(self._number) % len(self._chats)]
        # The first member of each chat is the one whose web socket waits.
        sender = self._chance.choice(chat["members"][1:])
        due_ns = due_ns or time.monotonic_ns()
        body = b'{"text":"%d a message as people write them, of some eighty characters"}' % due_ns
        status = await connection.post(f"/v1.0/chat/group/{chat['id']}/update/message/text", self._tokens[sender], body)
        if status == 200:
            self.found.sent_ms.append((time.monotonic_ns() - due_ns) / 1e6)
        else:
            self.found.refused.append(f"status {status}")

    async def flood(self, seconds: float, count: int) -> None:
        connections = await self.open(count)
        ends = time.monotonic() + seconds

        async def send(connection: Connection) -> None:
            while time.monotonic() < ends:
                await self.one(connection)

        await self._measured(lambda: asyncio.gather(*map(send, connections)))

    async def pace(self, seconds: float, rate: float) -> None:
        free: asyncio.Queue[Connection] = asyncio.Queue()
        for connection in await self.open(_PACED_CONNECTIONS):
            free.put_nowait(connection)

        async def send(due_ns: int) -> None:
            connection = await free.get()
            try:
                await self.one(connection, due_ns)
            finally:
                free.put_nowait(connection)

        async def all_of_them() -> None:
            began_ns = time.monotonic_ns()
            async with asyncio.TaskGroup() as group:
                for number in range(int(seconds * rate)):
                    due_ns = began_ns + int(number * 1e9 / rate)
                    await asyncio.sleep(max(0.0, (due_ns - time.monotonic_ns()) / 1e9))
                    group.create_task(send(due_ns))

        await self._measured(all_of_them)

    async def _measured(self, work: Callable[[], Awaitable[object]]) -> None:
        self.found = Found()
        began = time.monotonic()
        await work()
        self.found.span_s = time.monotonic() - began
        await asyncio.sleep(_SETTLE_S)

    async def listen(self, port: int, chat: dict[str, Any], ready: asyncio.Semaphore) -> None:
        """The web socket of a chat's first member."""
        headers = {"Authorization": f"Bearer {self._tokens[chat['members'][0]]}"}
        async with connect(f"ws://{self._at[0]}:{port}/ws", additional_headers=headers, compression=None) as socket:
            ready.release()
            async for frame in socket:
                stamp = _STAMP.search(frame if isinstance(frame, bytes) else frame.encode())
                if stamp is not None:
                    self.found.arrived_ms.append((time.monotonic_ns() - int(stamp[1])) / 1e6)


async def serve(host: str, port: int, gateway_port: int | None) -> None:
    lines = asyncio.StreamReader(limit=1 << 26)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    plan = json.loads(await lines.readline())
    senders = Senders(host, port, plan)
    listening: list[asyncio.Task[None]] = []
    if gateway_port is not None:
        ready = asyncio.Semaphore(0)
        listening = [asyncio.create_task(senders.listen(gateway_port, chat, ready)) for chat in plan["chats"]]
        for _ in listening:
            await ready.acquire()
    print("{}", flush=True)
    while line := (await lines.readline()).split():
        await getattr(senders, {b"flood": "flood", b"pace": "pace"}[line[0]])(float(line[1]), int(line[2]))
        print(json.dumps(senders.found.as_dict()), flush=True)
    for task in listening:
        task.cancel()


def main() -> None:
    gateway_port = int(sys.argv[3]) if len(sys.argv) > 3 else None
    uvloop.run(serve(sys.argv[1], int(sys.argv[2]), gateway_port))


if __name__ == "__main__":
    main()
