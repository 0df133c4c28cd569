"""A gateway for tests: each connection plays the next script; what clients asked for is written down."""

import asyncio
import base64
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from tidings_client.retry import Backoff

__all__ = ["EAGER", "LOG", "FakeGateway", "Peer", "Refusal", "eventually", "jwt", "stay"]

LOG = "log-1"
EAGER = Backoff(first_s=0.01, longest_s=0.05, steady_s=0.2, policy_s=0.3, retry_after_s=0.4)


def jwt(ttl_s: float, **claims: Any) -> str:
    """What looks like a token; nobody checks the signature."""
    payload = json.dumps({"exp": time.time() + ttl_s, **claims}).encode()
    return f"e30.{base64.urlsafe_b64encode(payload).decode().rstrip('=')}.c2ln"


@dataclass(frozen=True)
class Refusal:
    """Instead of a script: this answer."""

    status: int
    error: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Asked:
    """What a client asked for when it connected, and when."""

    token: str
    cursor: str
    log: str
    at: float


class Peer:
    """One connection as the gateway sees it."""

    def __init__(self, ws: ServerConnection, asked: Asked) -> None:
        self.ws = ws
        self.asked = asked

    async def send(self, type_: str, data: Any, **more: Any) -> None:
        await self.ws.send(json.dumps({"type": type_, **more, "data": data}))

    async def welcome(
        self, cursor: str = "0:0", *, log: str = "", resumed: bool | None = None, heartbeat_s: float = 25
    ) -> None:
        """Resumes what was asked for unless told otherwise."""
        if resumed is None:
            resumed = bool(self.asked.cursor)
        log = log or (self.asked.log if resumed else LOG)
        data = {"session": "s-1", "node": "n-1", "log": log, "heartbeat_s": heartbeat_s, "resumed": resumed}
        await self.send("$welcome", data | {"cursor": self.asked.cursor if resumed else cursor})

    async def event(self, at: str, data: Any = None) -> None:
        await self.send("update", data, at=at)

    async def resync(self, cursor: str, reason: str = "expired", log: str = LOG) -> None:
        await self.send("$resync", {"reason": reason, "log": log, "cursor": cursor})

    async def close(self, code: int, reason: str = "") -> None:
        await self.ws.close(code, reason)

    def cut(self) -> None:
        self.ws.transport.abort()

    def write_raw(self, octets: bytes) -> None:
        self.ws.transport.write(octets)

    def fall_silent(self) -> None:
        """Like a machine that is gone: nothing is sent any more, no pong either."""
        self.ws.transport.pause_reading()

    async def stay(self) -> None:
        await self.ws.wait_closed()


Script = Callable[[Peer], Awaitable[None]]


async def stay(peer: Peer) -> None:
    """A script: lets the client in, and that is all."""
    await peer.welcome()
    await peer.stay()


class FakeGateway:
    """Plays one script or refusal per connection; when all are played, `stay`."""

    def __init__(self, *scripts: Script | Refusal, subprotocol: bool = True, ping_s: float | None = None) -> None:
        self._scripts = deque(scripts)
        self._subprotocol = subprotocol
        self._ping_s = ping_s
        self._server: Server
        self.url = ""
        self.asked: list[Asked] = []
        self.heard: list[Any] = []
        self.failures: list[BaseException] = []

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._play,
            "127.0.0.1",
            0,
            process_request=self._answer,
            subprotocols=[Subprotocol("tidings.v1")] if self._subprotocol else None,
            ping_interval=self._ping_s,
            close_timeout=0.5,
            compression=None,
        )
        self.url = f"http://127.0.0.1:{next(iter(self._server.sockets)).getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self._server.connections:
            connection.transport.abort()
        self._server.close()
        await self._server.wait_closed()
        assert not self.failures, self.failures

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        query = parse_qs(urlsplit(request.path).query)
        token = request.headers["Authorization"].removeprefix("Bearer ")
        first = {name: values[0] for name, values in query.items()}
        now = asyncio.get_running_loop().time()
        self.asked.append(Asked(token, first.get("cursor", ""), first.get("log", ""), now))
        script = self._scripts.popleft() if self._scripts else stay
        if not isinstance(script, Refusal):
            connection.script = script  # type: ignore[attr-defined]
            connection.asked = self.asked[-1]  # type: ignore[attr-defined]
            return None
        body = json.dumps({"error": script.error, "reason": "because"}).encode()
        headers = Headers({"Content-Length": str(len(body)), "Connection": "close", **script.headers})
        return Response(script.status, HTTPStatus(script.status).phrase, headers, body)

    async def _play(self, ws: ServerConnection) -> None:
        peer = Peer(ws, ws.asked)  # type: ignore[attr-defined]
        listening = asyncio.create_task(self._listen(ws))
        try:
            await ws.script(peer)  # type: ignore[attr-defined]
        except (AssertionError, AttributeError, TypeError) as error:
            self.failures.append(error)
        finally:
            listening.cancel()

    async def _listen(self, ws: ServerConnection) -> None:
        async for text in ws:
            self.heard.append(json.loads(text))


async def eventually(condition: Callable[[], bool], timeout_s: float = 5) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
