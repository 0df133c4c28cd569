"""One web socket to a gateway: opening it, and noticing that it is dead."""

import asyncio
import json
import logging
import re
import ssl as tls
from typing import Any, Final, Literal
from urllib.parse import urlencode, urlsplit, urlunsplit

from websockets.asyncio import client as websockets_client
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Response
from websockets.typing import Subprotocol

from tidings_client.errors import ProtocolViolation
from tidings_client.position import Position
from tidings_client.retry import Silence

__all__ = ["Opener", "Socket", "read_refusal", "watch"]

log = logging.getLogger("tidings_client")

_PROTOCOL: Final = Subprotocol("tidings.v1")
_CLOSE_TIMEOUT_S: Final = 2.0
_LOOK_S: Final = 0.5
_SCHEMES: Final = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


class Socket(websockets_client.ClientConnection):
    """Notes when anything was heard at all; the gateway's pings and halves of frames are not seen otherwise."""

    heard_at = 0.0

    def data_received(self, data: bytes) -> None:
        self.heard_at = self.loop.time()
        super().data_received(data)


class Opener:
    """Opens sockets to some addresses in turn.

    Raises:
        ValueError: No address, or one that can't be used.
    """

    def __init__(
        self,
        urls: list[str],
        *,
        timeout_s: float,
        max_frame_bytes: int,
        compression: bool,
        ssl: tls.SSLContext | None,
        proxy: str | Literal[True] | None,
    ) -> None:
        if not urls:
            raise ValueError("no address to connect to")
        self._addresses = [_address(url) for url in urls]
        self._turn = 0
        self._options: dict[str, Any] = {
            "subprotocols": [_PROTOCOL],
            "compression": "deflate" if compression else None,
            "proxy": proxy,
            "open_timeout": timeout_s,
            "ping_interval": None,
            "close_timeout": _CLOSE_TIMEOUT_S,
            "max_size": max_frame_bytes,
            "max_queue": 1,  # what waits, waits in our buffer, which counts bytes too
            "create_connection": Socket,
        }
        if ssl is not None:
            self._options["ssl"] = ssl

    @property
    def host(self) -> str:
        """Whose turn it is."""
        return urlsplit(self._addresses[self._turn]).netloc

    def turn(self) -> None:
        """Next time the next address."""
        self._turn = (self._turn + 1) % len(self._addresses)

    async def open(self, token: str, position: Position | None) -> Socket:
        """Connect and resume.

        Raises:
            ProtocolViolation: The other side speaks something else.
            InvalidStatus: It refused.
            OSError, EOFError, InvalidHandshake: There was no sensible answer.
        """
        address = self._addresses[self._turn]
        if position is not None and position.cursor:
            query = urlencode({"cursor": position.cursor, "log": position.log}, safe=":,")
            address += ("&" if "?" in address else "?") + query
        headers = {"Authorization": f"Bearer {token}"}
        socket = await websockets_client.connect(address, additional_headers=headers, **self._options)
        assert isinstance(socket, Socket)
        if socket.subprotocol != _PROTOCOL:
            await socket.close()
            raise ProtocolViolation(f"{self.host} does not speak {_PROTOCOL}")
        socket.heard_at = socket.loop.time()
        return socket


async def watch(socket: Socket, silence: Silence) -> None:
    """Ping the gateway when it is silent for a while, cut the connection when it is for too long."""
    asked_at = 0.0
    while True:
        now = socket.loop.time()
        if socket.transport.is_reading():
            verdict = silence.look(now, socket.heard_at, asked_at)
        else:
            # We do not listen, so silence proves nothing; but the gateway should hear that somebody is here.
            socket.heard_at = now
            verdict = "ping" if now - asked_at >= silence.heartbeat_s else _LOOK_S
        if verdict == "dead":
            log.warning("nothing heard for %.1f s", now - socket.heard_at)
            socket.transport.abort()
            return
        if verdict == "ping":
            asked_at = now
            try:
                async with asyncio.timeout(_LOOK_S):  # a socket that takes nothing must not hold us
                    await socket.ping()
            except TimeoutError:
                pass
            except ConnectionClosed:
                return
        else:
            await asyncio.sleep(min(verdict, _LOOK_S))


def read_refusal(response: Response) -> tuple[int, str, str, float | None]:
    """Status, error, reason and Retry-After of an answer that may be anybody's: of a gateway, or a proxy before it."""
    try:
        body = json.loads(response.body or b"")
        error, reason = str(body.get("error", "")), str(body.get("reason", ""))
    except (ValueError, AttributeError, RecursionError):
        error = reason = ""
    wait = response.headers.get("Retry-After", "")
    return response.status_code, error[:80], reason[:200], float(wait) if re.fullmatch(r"[0-9]{1,9}", wait) else None


def _address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES or not parts.hostname or parts.username is not None:
        raise ValueError(f"no address like wss://gateway.example/ws: {url!r}")
    return urlunsplit((_SCHEMES[parts.scheme], parts.netloc, parts.path.rstrip("/") or "/ws", parts.query, ""))
