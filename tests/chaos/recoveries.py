"""How long it takes until a killed node's clients are served again."""

import asyncio
import time
from dataclasses import dataclass, field

from tests.chaos.arena import Arena
from tests.chaos.clients import Device

__all__ = ["Recoveries"]


@dataclass
class Recoveries:
    """Seconds from each SIGKILL to the last of the node's clients with a record that was produced after it."""

    seconds: list[float] = field(default_factory=list)
    _pending: int = 0

    def begin(self, arena: Arena, devices: list[Device]) -> None:
        """Call it at the kill."""
        began = time.monotonic()
        first = arena.recorder.next_number()
        waiting = {device for device in devices if device.reads and device.awaited is None}
        if not waiting:
            return
        self._pending += 1

        def told(device: Device) -> None:
            waiting.discard(device)
            if not waiting:
                self._pending -= 1
                self.seconds.append(time.monotonic() - began)

        for device in list(waiting):
            device.awaited = (first, told)

    async def all_over(self, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while self._pending:
            assert time.monotonic() < deadline, f"{self._pending} kills that somebody did not recover from"
            await asyncio.sleep(0.05)
