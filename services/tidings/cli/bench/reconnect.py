"""The client of the resume part: one web socket with a cursor, timed from its TCP connect to the last missed frame."""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import quote

from tidings.cli.bench.handshakes import Wanted, request
from tidings.cli.bench.processes import BenchFault

__all__ = ["Away", "Reconnect", "reconnect"]

_PROTOCOL: Final = "tidings.v1"
_AT: Final = b'"at":"'
"""Stands once in each frame that has a place in the log, and nowhere else in what the bench sends."""
_WELCOME: Final = b'{"type":"$welcome"'
_RESYNC: Final = b'"$resync"'
_KEEP: Final = len(_AT) - 1
_BUFFER: Final = 1 << 20
_buffer = bytearray(_KEEP + _BUFFER)
"""One for all connections: what a read brought is counted before the next read."""
_view = memoryview(_buffer)


@dataclass(frozen=True, slots=True)
class Away:
    """Where a client was when it went; an empty log: it comes for the first time."""

    log: str = ""
    cursor: str = ""

    @property
    def path(self) -> str:
        return f"/ws?cursor={self.cursor}&log={quote(self.log, safe='')}" if self.log else "/ws"

    def positions(self) -> Mapping[int, int]:
        return {
            int(number): int(offset) for number, offset in (one.split(":") for one in self.cursor.split(",") if one)
        }


class Reconnect(asyncio.BufferedProtocol):
    """Counts frames by searching each read in C: no object per frame, one read takes up to 1 MiB.

    Attributes:
        frames: Those with a place in the log.
        welcome_ns: From `began_ns` to the read that brought `$welcome`.
        last_ns: From there to the read that brought the last missed frame, or `$welcome` if none was missed.
        done: Set with the last; fails with a `BenchFault` when something else comes.
    """

    def __init__(self, said: bytes, missed: int, began_ns: int) -> None:
        self._said = said
        self._missed = missed
        self._began_ns = began_ns
        self._head = b""
        self._rest = b""
        self._transport: asyncio.Transport | None = None
        self.frames = 0
        self.welcome_ns = 0
        self.last_ns = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none of asyncio's classes
        self._transport.write(self._said)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _view[_KEEP:]

    def buffer_updated(self, nbytes: int) -> None:
        now_ns = time.perf_counter_ns() - self._began_ns
        begin, end = _KEEP - len(self._rest), _KEEP + nbytes
        # The mark may be cut: the bytes before this read, too few to hold a whole one, go in front of it.
        _buffer[begin:_KEEP] = self._rest
        self.frames += _buffer.count(_AT, begin, end)
        if not self.welcome_ns:
            self._head += _buffer[_KEEP:end]
            if not self._head.startswith(b"HTTP/1.1 101"):
                self._fail(f"refused: {self._head[:300].decode('latin-1')}")
                return
            if b"}}" in self._head.partition(_WELCOME)[2]:
                self.welcome_ns = now_ns
        if _buffer.find(_RESYNC, begin, end) >= 0:
            self._fail("the cursor led nowhere: " + _buffer[begin:end][-300:].decode("latin-1"))
        self._rest = bytes(_buffer[max(begin, end - _KEEP) : end])
        if self.welcome_ns and not self.last_ns and self.frames >= self._missed:
            self.last_ns = now_ns
            if not self.done.done():
                self.done.set_result(None)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"connection lost: {exc}")

    def _fail(self, text: str) -> None:
        if not self.done.done():
            self.done.set_exception(BenchFault(f"resume: {text}"))

    def away(self) -> Away:
        """Where it stood when it was welcomed."""
        _, mark, rest = self._head.partition(_WELCOME)
        welcome: dict[str, Any] = json.JSONDecoder().raw_decode((mark + rest).decode("utf-8", "ignore"))[0]["data"]
        return Away(welcome["log"], welcome["cursor"])

    def close(self) -> None:
        """End it. Raises: BenchFault: it got more than it missed."""
        if self._transport is not None:
            self._transport.close()
        if self.frames > self._missed:
            raise BenchFault(f"resume: {self.frames} frames for {self._missed} missed records")


async def reconnect(port: int, token: str, away: Away, missed: int, timeout_s: float) -> Reconnect:
    """Connect and wait until all that was missed is there; the caller closes it.

    Raises:
        BenchFault: Refused, `$resync`, or not done in `timeout_s`.
    """
    said = request(port, Wanted(away.path, token), _PROTOCOL)
    began_ns = time.perf_counter_ns()
    _, client = await asyncio.get_running_loop().create_connection(
        lambda: Reconnect(said, missed, began_ns), "127.0.0.1", port
    )
    try:
        async with asyncio.timeout(timeout_s):
            await client.done
    except TimeoutError:
        raise BenchFault(f"resume: {client.frames} of {missed} frames after {timeout_s:.0f} s") from None
    return client
