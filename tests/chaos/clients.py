"""A resumable client: it keeps its cursor, comes back for ever, and records what it gets."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from tests.chaos.recorder import Seen
from tests.chaos.sockets import Kind, Socket, dial
from tests.chaos.wire import Answer, delivered, request

if TYPE_CHECKING:
    from tests.chaos.crowd import Crowd

__all__ = ["Device"]

_ANSWER_S: Final = 4.0
"""A node that takes a connection and does not answer within this is frozen, or as good as that."""
_WELCOME_S: Final = 30.0
_BACKOFF_S: Final = 0.1
_BACKOFF_MAX_S: Final = 5.0
_SILENT_HEARTBEATS: Final = 3.0
_FAULTS: Final = frozenset({1002, 1003, 1007, 1008, 1009, 1011, 4001, 4002})
"""Close codes that mean a fault of the client or of the node: none may come here."""


class Device:
    """One client. `run` is its life; the other methods are what a test does to it.

    Attributes:
        node: The index of the node that it is connected to; -1 if none.
        choices: The nodes that it connects to, in place of the crowd's.
    """

    def __init__(self, crowd: "Crowd", seen: Seen, kind: Kind, receive_bytes: int) -> None:
        self.crowd = crowd
        self.seen = seen
        self.user = seen.user
        self.kind: Kind = kind
        self.node = -1
        self.choices: list[int] | None = None
        self.task: asyncio.Task[None] | None = None
        self.first_welcome = asyncio.Event()
        self.may_connect = asyncio.Event()
        self.may_connect.set()
        self.cursor: dict[int, int] = {}
        self.log = ""
        self.event_id = ""
        self.heartbeat_s = 25.0
        self.awaited: tuple[int, Callable[[Device], None]] | None = None
        """A number, and who is told once a record with it or a later one comes."""
        self._receive_bytes = receive_bytes
        self._token = crowd.token(self.user)
        self._socket: Socket | None = None
        self._avoid = -1
        self._failures = 0
        self._paused = False

    @property
    def connected(self) -> bool:
        return self.node >= 0

    @property
    def reads(self) -> bool:
        """It is neither kept offline nor from reading."""
        return self.may_connect.is_set() and not self._paused

    def go_offline(self) -> None:
        """Hang up and stay away until `go_online`."""
        self.may_connect.clear()
        self.cut()

    def go_online(self) -> None:
        self.may_connect.set()

    def cut(self) -> None:
        """The connection is gone without a word, as when a phone loses its network."""
        if self._socket is not None:
            self._socket.transport.abort()

    def stop_reading(self) -> None:
        self._paused = True
        if self._socket is not None:
            self._socket.transport.pause_reading()

    def read_on(self) -> None:
        self._paused = False
        if self._socket is not None and not self._socket.transport.is_closing():
            self._socket.transport.resume_reading()
            self._socket.heard_at = time.monotonic()

    def check_silence(self, now: float) -> None:
        current = self._socket
        if current is None or self._paused:
            return
        if now - current.heard_at > self.heartbeat_s * _SILENT_HEARTBEATS:
            self.crowd.counts["silent"] += 1
            current.transport.abort()

    # Its life

    async def run(self, starting: asyncio.Semaphore) -> None:
        async with starting:
            wait_s = await self._connect()
        while True:
            if wait_s is None:
                assert self._socket is not None
                wait_s = self._after_close(await self._socket.closed)
                self._socket, self.node = None, -1
            await asyncio.sleep(wait_s)
            await self.may_connect.wait()
            wait_s = await self._connect()

    async def _connect(self) -> float | None:
        """One attempt. None: it is welcomed; else how long to wait before the next."""
        crowd = self.crowd
        node = self._pick()
        attempt: Socket | None = None
        crowd.counts["connects"] += 1
        try:
            # More patient each time: giving up on a busy node only makes it busier.
            async with asyncio.timeout(_ANSWER_S * 2 ** min(self._failures, 3)):
                attempt = await dial(self, self.kind, crowd.nodes[node], self._receive_bytes)
                answer = await attempt.answer
            if answer.status not in (101, 200):
                return self._refused(answer, node, attempt)
            self._socket, self.node = attempt, node
            async with asyncio.timeout(_WELCOME_S):
                await attempt.welcomed
        except (OSError, TimeoutError) as error:
            stage = "dial" if attempt is None else "welcome" if self._socket is not None else "answer"
            crowd.counts[f"failed {stage} {type(error).__name__}"] += 1
            if attempt is not None:
                attempt.transport.abort()
            self._socket, self.node = None, -1
            self._avoid = node
            return self._backoff_s()
        self._failures = 0
        self._avoid = -1
        if self._paused:
            self.read_on()
        if not self.may_connect.is_set():
            attempt.transport.abort()
        self.first_welcome.set()
        return None

    def _pick(self) -> int:
        choices = self.choices or self.crowd.choices
        others = [node for node in choices if node != self._avoid]
        return self.crowd.random.choice(others or choices)

    def _backoff_s(self) -> float:
        self._failures += 1
        limit_s = min(_BACKOFF_MAX_S, _BACKOFF_S * 2 ** min(self._failures, 10))
        return self.crowd.random.uniform(0, limit_s)

    def _refused(self, answer: Answer, node: int, attempt: Socket) -> float:
        attempt.transport.abort()
        self.crowd.counts[f"refused {answer.status}"] += 1
        if answer.status not in (429, 503) or "retry-after" not in answer.headers:
            self.seen.odd.append(f"node {node} refused with {answer}")
        self._avoid = node if len(self.choices or self.crowd.choices) > 1 else -1
        # Whole seconds are told; a fraction more, so that those who were told the same do not come at once.
        return float(answer.headers.get("retry-after", 1)) + self.crowd.random.random()

    def _after_close(self, code: int) -> float:
        self.crowd.counts[f"closed {code}"] += 1
        if code in _FAULTS:
            self.seen.odd.append(f"closed with {code}")
        if code == 1001:
            self._avoid = self.node
            return 0.0
        return self._backoff_s()

    # What the node says

    def accepted(self, connection: Socket) -> None:
        self._socket = connection

    def owns(self, connection: Socket) -> bool:
        return self._socket is connection

    def request(self) -> bytes:
        resumes = bool(self.seen.chains)
        lines = []
        query = ""
        if resumes and self.kind == "sse" and self.event_id:
            lines.append(f"Last-Event-ID: {self.event_id}")
        elif resumes:
            self.crowd.counts["resumes"] += 1
            query = f"?cursor={','.join(f'{key}:{value}' for key, value in self.cursor.items())}&log={self.log}"
        path = f"/ws{query}" if self.kind == "v1" else f"/sse{query}"
        return request(path, self._token, *lines, upgrade=self.kind == "v1")

    def on_frame(self, payload: bytes, event_id: str | None = None) -> None:
        frame = delivered(payload)
        if event_id is not None:
            self.event_id = event_id
        if frame is None:
            if payload:
                self._on_control(json.loads(payload))
            return
        number, partition, next_offset = frame
        if partition >= 0:
            self.cursor[partition] = next_offset
        self.seen.chain.got(number, partition, next_offset)
        if self.awaited is not None and number >= self.awaited[0]:
            told, self.awaited = self.awaited[1], None
            told(self)
        if self.crowd.on_delivery is not None:
            self.crowd.on_delivery(self, number)

    def _on_control(self, frame: dict[str, Any]) -> None:
        data = frame["data"]
        match frame["type"]:
            case "$welcome":
                self._on_welcome(data)
            case "$checkpoint":
                cursor = parse(data["cursor"])
                if any(cursor.get(partition, 0) < offset for partition, offset in self.cursor.items()):
                    self.seen.odd.append(f"$checkpoint {cursor} is below {self.cursor}")
                self.cursor = cursor
            case "$resync":
                self.crowd.counts[f"resync {data['reason']}"] += 1
                self._begin(data, data["reason"])
            case "$drain":
                self.crowd.counts["$drain"] += 1
            case "$close":
                if self._socket is not None:
                    self._socket.code = data["code"]
            case other:
                self.seen.odd.append(f"a frame {other}: {data}")

    def _on_welcome(self, data: Mapping[str, Any]) -> None:
        self.heartbeat_s = data["heartbeat_s"]
        if not self.seen.chains:
            if data["resumed"]:
                self.seen.odd.append("resumed without a cursor")
            self._begin(data, None)
        elif self.kind == "v1" and data["resumed"] and (data["log"], parse(data["cursor"])) != (self.log, self.cursor):
            self.seen.odd.append(f"resumed {data['log']} {data['cursor']} in place of {self.log} {self.cursor}")
        # Else the cursor was refused, and `$resync` follows in the same breath.
        if self._socket is not None:
            self._socket.welcome()

    def _begin(self, data: Mapping[str, Any], resync: str | None) -> None:
        self.log = data["log"]
        self.cursor = parse(data["cursor"])
        self.event_id = ""
        self.seen.begins(self.log, self.cursor, resync)


def parse(cursor: str) -> dict[int, int]:
    """A cursor's entries."""
    if not cursor:
        return {}
    return {
        int(partition): int(offset) for partition, _, offset in (entry.partition(":") for entry in cursor.split(","))
    }
