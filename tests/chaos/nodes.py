"""Gateways that are killed, frozen and started again on the same ports."""

import asyncio
import random
import signal
import socket
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

from tests.chaos.sockets import Endpoint
from tests.integration.processes import Gateway, GatewayFactory

__all__ = ["Node", "low_ports"]

_LOWEST: Final = 20_000
_HIGHEST: Final = 32_000
"""Below the ports that the kernel gives to outgoing connections, so that nobody takes one while its node is down."""


def low_ports(count: int) -> list[int]:
    """Free ports of the loopback address that no outgoing connection will be given."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(_LOWEST, _HIGHEST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


class Node:
    """One gateway of the fleet over all its lives. The coroutines wait in threads for what processes take.

    Attributes:
        settings: GatewaySettings by their field names, for the next start; `environ`: variables beside them.
    """

    def __init__(
        self, index: int, factory: GatewayFactory, settings: Mapping[str, Any], environ: Mapping[str, str]
    ) -> None:
        self.index = index
        self.settings = {**settings}
        self.environ = {**environ}
        self._factory = factory
        self._port, self._admin_port = low_ports(2)
        self._gateway: Gateway | None = None
        self._banked: defaultdict[tuple[str, tuple[tuple[str, str], ...]], float] = defaultdict(float)
        self._watched: set[tuple[str, tuple[tuple[str, str], ...]]] = set()

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint("127.0.0.1", self._port)

    @property
    def gateway(self) -> Gateway:
        assert self._gateway is not None, "not started yet"
        return self._gateway

    @property
    def running(self) -> bool:
        return self._gateway is not None and self._gateway.process.poll() is None

    async def start(self, *, wait: bool = True) -> None:
        def work() -> None:
            self._gateway = self._factory(
                wait=wait,
                environ=self.environ,
                **{
                    **self.settings,
                    "node": f"node-{self.index}",
                    "port": self._port,
                    "admin_port": self._admin_port,
                },
            )

        await asyncio.to_thread(work)

    async def wait_ready(self, timeout_s: float = 60) -> None:
        await asyncio.to_thread(self.gateway.wait_ready, timeout_s)

    async def kill(self) -> None:
        """SIGKILL."""
        await asyncio.to_thread(self._bank)
        self.gateway.process.kill()
        await asyncio.to_thread(self.gateway.process.wait)

    async def terminate(self, timeout_s: float = 60) -> int:
        """SIGTERM, and wait until it has drained; the exit code."""
        await asyncio.to_thread(self._bank)
        self.gateway.process.terminate()
        return await asyncio.to_thread(self.gateway.process.wait, timeout_s)

    def freeze(self) -> None:
        self.gateway.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        if self.running:
            self.gateway.signal(signal.SIGCONT)

    async def total(self, name: str, **labels: str) -> float:
        """A counter over all lives of the node. What it counted between the last look and a SIGKILL is not in it."""
        key = (name, tuple(sorted(labels.items())))
        self._watched.add(key)
        now = await asyncio.to_thread(self.gateway.metric, name, **labels) if self.running else 0.0
        return self._banked[key] + now

    def watch(self, name: str, **labels: str) -> None:
        """Have `total` count from here on, whatever becomes of the process."""
        self._watched.add((name, tuple(sorted(labels.items()))))

    def _bank(self) -> None:
        for name, labels in self._watched:
            self._banked[name, labels] += self.gateway.metric(name, **dict(labels))
