"""A process of its own that measures how late records come to some clients of one node: `probe.py HOST PORT USERS…`.

Apart from the crowd, whose own work would delay what it measures. Tokens come on the first line of standard input. For
each later line there it prints what came since the line before, as JSON: milliseconds from production to arrival.
"""

import asyncio
import json
import re
import sys
import time
from typing import Final, cast

import uvloop

from tests.chaos.wire import CLOSE, PING, PONG, TEXT, Frames, client_frame, request, take_head

__all__ = ["main"]

_STAMP: Final = re.compile(rb'"t":(\d+)')


class _Listener(asyncio.Protocol):
    def __init__(self, token: str, delays_ms: list[float], welcomed: asyncio.Semaphore) -> None:
        self._token = token
        self._delays_ms = delays_ms
        self._welcomed = welcomed
        self._head: bytearray | None = bytearray()
        self._frames = Frames()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(request("/ws", self._token, upgrade=True))

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        if self._head is not None:
            self._head += data
            answer = take_head(self._head)
            if answer is None:
                return
            assert answer.status == 101, answer
            data, self._head = bytes(self._head), None
        for opcode, payload in self._frames.feed(data):
            if opcode == TEXT:
                stamp = _STAMP.search(payload)
                if stamp is not None:
                    self._delays_ms.append((now - int(stamp[1])) / 1e6)
                elif b"$welcome" in payload:
                    self._welcomed.release()
            elif opcode == PING:
                self._transport.write(client_frame(PONG, payload))
            elif opcode == CLOSE:
                sys.exit("the node closed a connection that only listens")


async def listen(host: str, port: int, tokens: list[str]) -> None:
    loop = asyncio.get_running_loop()
    delays_ms: list[float] = []
    welcomed = asyncio.Semaphore(0)
    for token in tokens:
        await loop.create_connection(lambda token=token: _Listener(token, delays_ms, welcomed), host, port)  # type: ignore[misc]
    for _ in tokens:
        await welcomed.acquire()
    print("ready", flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        taken, delays_ms[:] = delays_ms[:], []
        print(json.dumps(taken), flush=True)


def main() -> None:
    tokens = json.loads(sys.stdin.readline())
    uvloop.run(listen(sys.argv[1], int(sys.argv[2]), tokens))


if __name__ == "__main__":
    main()
