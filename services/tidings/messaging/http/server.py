"""The HTTP server: uvicorn inside of our own process, without its signals, its log and its way to end."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from math import ceil
from typing import Any, Final

import uvicorn

from tidings.messaging.http.connection import Connection, ConnectionLimits

__all__ = ["HttpServer"]

_BACKLOG: Final = 2048
_LIMITS: Final = ConnectionLimits()
_KEEP_ALIVE_S: Final = 75
"""Longer than load balancers keep an idle connection (60 s): else they send into one that we are just closing."""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the application's."""
        yield


class HttpServer:
    """Serves one ASGI application on one listening socket.

    Args:
        drain_s: How long requests under way may take to finish after `stop`.
        limits: Of connections and of what comes before the application sees a request.
        refused: Told of each refusal by one of them: the error type of the answer, or `no_request` if there was none.
    """

    def __init__(
        self,
        app: Any,
        listening: socket.socket,
        drain_s: float,
        limits: ConnectionLimits = _LIMITS,
        refused: Callable[[str], None] = lambda _: None,
    ) -> None:
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        config = uvicorn.Config(
            app,
            http=Connection.within(limits, refused),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=ceil(drain_s),
        )
        self._server = _Server(config)
        self._listening = listening
        self._serving: asyncio.Task[None] | None = None

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._server.server_state.connections)

    async def start(self) -> None:
        """Return once requests are taken."""
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._listening]), name="http")
        while not self._server.started:
            if self._serving.done():
                self._serving.result()
            await asyncio.sleep(0.005)

    async def wait_ended(self) -> None:
        """Return, or raise what broke, when it has ended."""
        if self._serving is not None:
            await asyncio.shield(self._serving)

    async def stop(self) -> None:
        """Take no more connections, finish the requests under way, close. What is not done after `drain_s` is cut."""
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving
            self._serving = None
