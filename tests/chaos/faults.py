"""What goes wrong, each with a way in and a way out."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Final

from tests.chaos.arena import Arena
from tests.chaos.feed import audience
from tests.chaos.recoveries import Recoveries
from tests.chaos.transactions import Writer

_MAX_PARTITIONS: Final = 64

__all__ = ["DECKS", "Fault", "strike"]


class Fault(ABC):
    """One fault, for one use: `inject`, then `heal`. `hold_s`: how long it lasts in between, at least and at most."""

    kind: ClassVar[str]
    hold_s: ClassVar[tuple[float, float]] = (1.0, 5.0)

    def __init__(self, arena: Arena, recoveries: Recoveries) -> None:
        self.arena = arena
        self.recoveries = recoveries

    @abstractmethod
    async def inject(self) -> None: ...

    @abstractmethod
    async def heal(self) -> None: ...


async def strike(fault: Fault, hold_s: float | None = None) -> None:
    """The fault from its beginning to its end; counted."""
    fault.arena.faults[fault.kind] += 1
    try:
        await fault.inject()
        await asyncio.sleep(fault.arena.random.uniform(*fault.hold_s) if hold_s is None else hold_s)
    finally:
        await fault.heal()


class _OnNode(Fault):
    def __init__(self, arena: Arena, recoveries: Recoveries, index: int | None = None) -> None:
        super().__init__(arena, recoveries)
        self.node = arena.nodes[arena.random.randrange(len(arena.nodes)) if index is None else index]


class GatewayKilled(_OnNode):
    kind = "gateway killed"
    hold_s = (0.0, 4.0)

    async def inject(self) -> None:
        victims = self.arena.crowd.on(self.node.index)
        self.recoveries.begin(self.arena, victims)
        await self.node.kill()
        if victims:
            # One record for all of them, so that what is measured is not how seldom somebody is written to. In the
            # partition that no hanging transaction holds up.
            everybody = audience(sorted({device.user for device in victims}))
            self.arena.feed.send(everybody, partition=self.arena.partitions - 1)

    async def heal(self) -> None:
        await self.node.start()


class RollingRestart(Fault):
    """One node after the other drains, ends and is started again; each is ready before the next one goes."""

    kind = "rolling restart"
    hold_s = (0.0, 0.0)

    async def inject(self) -> None:
        for node in self.arena.nodes:
            code = await node.terminate()
            assert code == 0, f"the node ended with {code}:\n{node.gateway.log[-2000:]}"
            await node.start()

    async def heal(self) -> None:
        for node in self.arena.nodes:
            if not node.running:
                await node.start()


class GatewayFrozen(_OnNode):
    """Longer than clients are patient: they move to the others, whose records the node then has to catch up with."""

    kind = "gateway frozen"
    hold_s = (3.0, 12.0)

    async def inject(self) -> None:
        self.node.freeze()

    async def heal(self) -> None:
        self.node.thaw()


class _OnBroker(Fault):
    def __init__(self, arena: Arena, recoveries: Recoveries) -> None:
        super().__init__(arena, recoveries)
        self.broker = arena.cluster.brokers[0]

    async def _choose_leader(self) -> None:
        leader = await asyncio.to_thread(self.arena.leader_of, self.arena.random.randrange(self.arena.partitions))
        self.broker = self.arena.cluster.brokers[leader]

    async def heal(self) -> None:
        self.broker.resume()
        if not self.broker.alive:
            await asyncio.to_thread(self.broker.start)
        await self.arena.until_in_sync()


class LeaderKilled(_OnBroker):
    kind = "leader killed"
    hold_s = (1.0, 8.0)

    async def inject(self) -> None:
        await self._choose_leader()
        await asyncio.to_thread(self.broker.kill)


class BrokerRestarted(_OnBroker):
    kind = "broker restarted"
    hold_s = (0.0, 0.0)

    async def inject(self) -> None:
        await self._choose_leader()
        await asyncio.to_thread(self.broker.restart)


class BrokerFrozen(_OnBroker):
    kind = "broker frozen"
    hold_s = (4.0, 15.0)

    async def inject(self) -> None:
        await self._choose_leader()
        self.broker.pause()


class ClusterDown(Fault):
    kind = "cluster down"
    hold_s = (3.0, 8.0)

    async def inject(self) -> None:
        await asyncio.to_thread(self.arena.cluster.kill)

    async def heal(self) -> None:
        await asyncio.to_thread(self.arena.cluster.start)
        await self.arena.until_in_sync()


class ClientsCut(Fault):
    """A tenth of the clients lose their connection; some of them stay away for a while."""

    kind = "clients cut"
    hold_s = (0.0, 6.0)

    def __init__(self, arena: Arena, recoveries: Recoveries) -> None:
        super().__init__(arena, recoveries)
        devices = arena.crowd.devices
        self.cut = arena.random.sample(devices, max(1, len(devices) // 10))
        self.away = self.cut[: len(self.cut) // 2]

    async def inject(self) -> None:
        for device in self.away:
            device.go_offline()
        for device in self.cut:
            device.cut()

    async def heal(self) -> None:
        for device in self.away:
            device.go_online()


class ClientsSlow(Fault):
    """Some stop to read, and get what waits then."""

    kind = "clients slow"
    hold_s = (2.0, 10.0)

    def __init__(self, arena: Arena, recoveries: Recoveries) -> None:
        super().__init__(arena, recoveries)
        devices = arena.crowd.devices
        self.slow = arena.random.sample(devices, max(1, len(devices) // 20))

    async def inject(self) -> None:
        for device in self.slow:
            device.stop_reading()

    async def heal(self) -> None:
        for device in self.slow:
            device.read_on()


class Storm(_OnNode):
    """All clients of a node at once."""

    kind = "storm"
    hold_s = (0.0, 1.0)

    async def inject(self) -> None:
        for device in self.arena.crowd.on(self.node.index):
            device.cut()

    async def heal(self) -> None:
        pass


class TransactionHanging(Fault):
    """Somebody's transaction is open: committed readers stop before it, in those partitions."""

    kind = "transaction hanging"
    hold_s = (2.0, 8.0)

    async def inject(self) -> None:
        self.writer = Writer(self.arena.kafka, self.arena.topics.modifications, self.arena.recorder, "hanging")
        await asyncio.to_thread(self._open)

    def _open(self) -> None:
        feed = self.arena.feed
        deadline = time.monotonic() + 60
        while True:  # brokers may be away just now: other faults go on meanwhile
            try:
                self.writer.begin()
                for partition in range(min(2, self.arena.partitions)):
                    self.writer.send(feed.audiences[partition], partition)
                self.writer.flush()
            except Exception:
                self.writer.vanish()
                if time.monotonic() > deadline:
                    raise
            else:
                return

    async def heal(self) -> None:
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        try:
            self.writer.abort()
        except Exception:
            # The next producer of that name ends it.
            self.writer.vanish()
            deadline = time.monotonic() + 120
            while True:
                try:
                    self.writer.begin()
                    self.writer.abort()
                except Exception:
                    self.writer.vanish()
                    if time.monotonic() > deadline:
                        raise
                else:
                    return


class PartitionsAdded(Fault):
    """One more; a long run stops at as many as a cursor in a URL is promised to hold."""

    kind = "partitions added"
    hold_s = (0.0, 0.0)

    async def inject(self) -> None:
        if self.arena.partitions < _MAX_PARTITIONS:
            await asyncio.to_thread(self.arena.add_partitions, 1)

    async def heal(self) -> None:
        pass


DECKS: Final[Mapping[str, tuple[type[Fault], ...]]] = {
    "gateways": (GatewayKilled, RollingRestart, GatewayFrozen),
    "brokers": (LeaderKilled, BrokerRestarted, BrokerFrozen, ClusterDown, PartitionsAdded),
    "clients": (ClientsCut, ClientsSlow, Storm),
    "transactions": (TransactionHanging,),
}
"""Faults that may not meet one of the same deck; those of different decks do meet."""
