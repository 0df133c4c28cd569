"""Everything of one chaos run together: brokers, topics, gateways, clients, producers, and the verdict."""

import asyncio
import contextlib
import random
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]  # public, not in its __all__

from tests.chaos.clients import Device
from tests.chaos.crowd import Crowd
from tests.chaos.feed import Audience, Feed, audience
from tests.chaos.nodes import Node
from tests.chaos.readback import read_log
from tests.chaos.recorder import Recorder, Verdict
from tests.integration.processes import SECRET, GatewayFactory, environment, stop_all, topic_environment
from tidings.config import KafkaSettings, TopicSettings
from tidings.kafka import topics as kafka_topics
from tidings.kafka.apache import ApacheKafka
from tidings.kafka.connection import librdkafka_options
from tidings.tokens import issue

__all__ = ["Arena", "arena"]

_TOKEN_S: Final = 7 * 86_400.0
_QUIET_S: Final = 0.5
"""After the last record that is owed: what should not come may come a little later."""

LIVELY: Final = {"ping_interval_s": 2, "idle_timeout_s": 60, "drain_s": 2}
"""Settings of the nodes: often a checkpoint, a silent node is noticed soon, a short drain."""


class Arena:
    """A cluster with topics of this run's own, gateways on it, and clients.

    Attributes:
        faults: How often each kind was injected.
    """

    def __init__(self, cluster: ApacheKafka, folder: Path, *, partitions: int, seed: int) -> None:
        mark = secrets.token_hex(4)
        self.cluster = cluster
        self.random = random.Random(seed)
        self.kafka = KafkaSettings(bootstrap_servers=cluster.bootstrap_servers)
        self.topics = TopicSettings(
            modifications=f"modifications-{mark}", signals=f"signals-{mark}", partitions=partitions
        )
        environ = environment(
            TIDINGS_KAFKA_BOOTSTRAP_SERVERS=cluster.bootstrap_servers,
            **topic_environment(self.topics),
            TIDINGS_JWT_SECRET=SECRET,
            TIDINGS_LOG_FORMAT="json",
        )
        self.factory = GatewayFactory(environ, folder)
        self.recorder = Recorder()
        self.nodes: list[Node] = []
        self.faults: Counter[str] = Counter()
        self.partitions = partitions
        self.crowd: Crowd
        self.feed: Feed
        self._seed = seed
        self._admin = AdminClient(librdkafka_options(self.kafka))

    async def start(self, nodes: int, settings: Mapping[str, Any], environ: Mapping[int, Mapping[str, str]]) -> None:
        await asyncio.to_thread(self.create_topics)
        self.nodes = [
            Node(index, self.factory, {**LIVELY, **settings}, environ.get(index, {})) for index in range(nodes)
        ]
        for node in self.nodes:  # one after the other: the factory counts them
            await node.start()
        self.crowd = Crowd(self.recorder, [node.endpoint for node in self.nodes], token, self._seed)
        self.feed = self.new_feed()

    async def stop(self) -> None:
        for node in self.nodes:
            node.thaw()
        if hasattr(self, "crowd"):
            await self.crowd.stop()
        if hasattr(self, "feed"):
            await asyncio.to_thread(self.feed.close)
        await asyncio.to_thread(stop_all, self.factory)
        await asyncio.to_thread(self.delete_topics)

    # Topics

    def create_topics(self) -> None:
        kafka_topics.create(self.kafka, self.topics, roles=("modifications", "signals"), timeout_s=60)

    def delete_topics(self) -> None:
        for future in self._admin.delete_topics(
            [self.topics.modifications, self.topics.signals], operation_timeout=10
        ).values():
            with contextlib.suppress(Exception):
                future.result(15)

    def add_partitions(self, count: int) -> None:
        """More of them, and the feed uses them from now on."""
        total = self.partitions + count
        asked = [NewPartitions(self.topics.modifications, total)]
        for future in self._admin.create_partitions(asked, operation_timeout=30).values():
            future.result(60)
        deadline = time.monotonic() + 30
        while True:
            known = self._admin.list_topics(self.topics.modifications, timeout=10).topics[self.topics.modifications]
            if len(known.partitions) == total and all(one.leader >= 0 for one in known.partitions.values()):
                break
            assert time.monotonic() < deadline, "the new partitions have no leaders"
            time.sleep(0.1)
        self.partitions = self.feed.partitions = total

    def new_feed(self) -> Feed:
        return Feed(
            self.kafka,
            self.topics.modifications,
            self.recorder,
            partitions=self.partitions,
            seed=self.random.getrandbits(32),
        )

    def log_tag(self) -> str:
        """The topic's id as nodes show it to clients."""
        name = self.topics.modifications
        found = kafka_topics.topic_ids(self.kafka, [name], timeout_s=30)[name]
        assert found is not None
        return found.replace("+", "-").replace("/", "_")

    def learn_log(self) -> None:
        """Tell the recorder what the log holds now. Blocks."""
        tag = self.log_tag()
        for partition, entries in read_log(self.kafka, self.topics.modifications, self.partitions):
            self.recorder.truth.logged(tag, partition, entries)

    # Brokers

    def leader_of(self, partition: int) -> int:
        """Index into `cluster.brokers`."""
        known = self._admin.list_topics(self.topics.modifications, timeout=10).topics[self.topics.modifications]
        return int(known.partitions[partition].leader) - 1

    def in_sync(self) -> bool:
        """Whether all replicas of all partitions are."""
        try:
            topics = self._admin.list_topics(timeout=5).topics
        except Exception:
            return False
        ours = (topics[name] for name in (self.topics.modifications, self.topics.signals) if name in topics)
        wanted = min(3, len(self.cluster.brokers))
        return all(one.leader >= 0 and len(one.isrs) == wanted for topic in ours for one in topic.partitions.values())

    async def until_in_sync(self, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while not await asyncio.to_thread(self.in_sync):
            assert time.monotonic() < deadline, f"not all replicas are in sync after {timeout_s} s"
            await asyncio.sleep(0.2)

    # Clients

    def populate(self, users: int, *, two_devices: float = 0.1, sse: float = 0.1, groups: int = 500) -> list[Device]:
        """Users with one or two clients each, and audiences of 1 to 12 of them for the feed."""
        names = [name_of(number) for number in range(users)]
        devices = []
        for number, name in enumerate(names):
            devices.append(self.crowd.add(name, "sse" if number % 100 < sse * 100 else "v1"))
            if number % 100 >= 100 - two_devices * 100:
                devices.append(self.crowd.add(name))
        self.feed.audiences = self.audiences(names, groups)
        return devices

    def audiences(self, names: Sequence[str], groups: int) -> list[Audience]:
        chance = self.random
        made = []
        for _ in range(groups):
            members = chance.sample(list(names), min(len(names), chance.choice([1, 2, 2, 4, 12])))
            if chance.random() < 0.3:
                members.append(f"stranger-{chance.randrange(1000)}")
            made.append(audience(members, chance))
        # Everybody is in one at least.
        return made + [audience(names[first : first + 10], chance) for first in range(0, len(names), 10)]

    async def acknowledged(self, numbers: Sequence[int], timeout_s: float = 60) -> None:
        """Until Kafka has those records of the feed."""
        left = set(numbers)
        deadline = time.monotonic() + timeout_s
        while left := {number for number in left if not self.recorder.truth.is_acknowledged(number)}:
            assert time.monotonic() < deadline, f"{len(left)} records are not acknowledged"
            await asyncio.sleep(0.01)
            self.feed.poll()

    # The end

    async def settle(self, timeout_s: float = 60) -> None:
        """Until everybody has what is owed, as far as counts tell; the producers must have ended."""
        await asyncio.to_thread(self.feed.flush)
        await asyncio.to_thread(self.learn_log)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.crowd.connected() == len(self.crowd.devices) and not self.recorder.missing():
                break
            await asyncio.sleep(0.1)
        await asyncio.sleep(_QUIET_S)

    async def verdict(self, timeout_s: float = 60, **allowed: Any) -> Verdict:
        """Settle and compare; see `Recorder.verdict`."""
        await self.settle(timeout_s)
        return await asyncio.to_thread(self.recorder.verdict, **allowed)


def token(user: str) -> str:
    """Issued days ago and good for days: no clock that jumps by hours makes it a bad one."""
    return issue(user, SECRET, 2 * _TOKEN_S, time.time() - _TOKEN_S)


def name_of(number: int) -> str:
    """Ids of all kinds: words, numbers (which producers write with quotes or without), other alphabets."""
    return (f"user-{number}", str(1_000_000 + number), f"имя-{number}", f"user-{number}")[number % 4]


@contextlib.asynccontextmanager
async def arena(
    cluster: ApacheKafka,
    folder: Path,
    *,
    nodes: int = 2,
    partitions: int = 4,
    seed: int = 0,
    environ: Mapping[int, Mapping[str, str]] | None = None,
    **settings: Any,
) -> AsyncIterator[Arena]:
    """Nodes on topics of their own, no clients yet; `settings` are the gateways', `environ` more of some of them."""
    made = Arena(cluster, folder, partitions=partitions, seed=seed)
    try:
        await made.start(nodes, settings, environ or {})
        yield made
    finally:
        await made.stop()
