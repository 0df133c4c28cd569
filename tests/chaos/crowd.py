"""Clients by the thousand in one event loop, and what they share."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.chaos.clients import Device
from tests.chaos.recorder import Recorder
from tests.chaos.sockets import Endpoint, Kind

__all__ = ["Crowd"]

_SWEEP_S: Final = 0.2


@dataclass
class Crowd:
    """What the clients share.

    Attributes:
        nodes: All that there are.
        choices: Those that clients connect to now.
        on_delivery: Called with the number of each record that comes to anybody.
    """

    recorder: Recorder
    nodes: Sequence[Endpoint]
    token: Callable[[str], str]
    seed: int = 0
    choices: list[int] = field(default_factory=list)
    devices: list[Device] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    on_delivery: Callable[[Device, int], None] | None = None

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.choices = self.choices or list(range(len(self.nodes)))
        self._tasks: list[asyncio.Task[None]] = []
        self._starting = asyncio.Semaphore(64)
        self._devices_of: Counter[str] = Counter()

    def add(self, user: str, kind: Kind = "v1", *, receive_bytes: int = 0) -> Device:
        """One more client of that user; it connects once `start` is called.

        Args:
            receive_bytes: The size of its socket's receive buffer; 0: the kernel's.
        """
        number = self._devices_of[user]
        self._devices_of[user] += 1
        device = Device(self, self.recorder.device(f"{user}/{number}", user), kind, receive_bytes)
        self.devices.append(device)
        return device

    async def start(self, timeout_s: float = 60) -> None:
        """Connect those who are not yet, a few at a time; returns once all are welcomed."""
        new = [device for device in self.devices if device.task is None]
        for device in new:
            device.task = asyncio.create_task(device.run(self._starting), name=device.seen.device)
            self._tasks.append(device.task)
        if not any(task.get_name() == "sweep" for task in self._tasks):
            self._tasks.append(asyncio.create_task(self._sweep(), name="sweep"))
        async with asyncio.timeout(timeout_s):
            await asyncio.gather(*(device.first_welcome.wait() for device in new))

    async def stop(self) -> None:
        for device in self.devices:
            device.cut()
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    def on(self, node: int) -> list[Device]:
        """Those connected to that node."""
        return [device for device in self.devices if device.node == node]

    def connected(self) -> int:
        return sum(device.connected for device in self.devices)

    async def all_connected(self, timeout_s: float = 60) -> None:
        """Until every client is welcomed; none may be offline."""
        deadline = time.monotonic() + timeout_s
        while self.connected() < len(self.devices):
            assert time.monotonic() < deadline, f"{self.connected()} of {len(self.devices)} are connected"
            await asyncio.sleep(0.05)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            now = time.monotonic()
            for device in self.devices:
                device.check_silence(now)
