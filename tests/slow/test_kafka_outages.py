"""Long outages: Kafka gone for a minute, a leader of three killed, a broker frozen for longer than anybody waits."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.producing import numbered, producer, read_all
from tests.integration.receiving import Receiver
from tests.integration.sites import Site, site
from tidings.kafka.apache import ApacheKafka

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

KafkaFactory = Callable[..., ApacheKafka]


class Feed:
    """Produces numbered records for ann to all four partitions, some a second, whatever the brokers do."""

    def __init__(self, own: Site) -> None:
        self._topic = own.modifications
        # Retried until Kafka is back, each once and in order (idempotent).
        self._client = producer(
            own.kafka, enable_idempotence=True, message_timeout_ms=300_000, reconnect_backoff_max_ms=1000, linger_ms=5
        )
        self.sent = 0
        self.failures: list[str] = []

    def send(self, count: int = 4) -> None:
        for _ in range(count):
            (value,) = numbered([self.sent], "ann")
            self._client.produce(self._topic, value=value, partition=self.sent % 4, on_delivery=self._told)
            self.sent += 1
        self._client.poll(0)

    async def during(self, work: "asyncio.Future[Any]") -> None:
        """Send until the work is done."""
        while not work.done():
            self.send()
            await asyncio.sleep(0.05)
        await work

    async def flush(self) -> None:
        assert await asyncio.to_thread(self._client.flush, 120) == 0
        assert not self.failures, self.failures[0]

    def expected(self) -> dict[int, list[int]]:
        return {partition: list(range(partition, self.sent, 4)) for partition in range(4)}

    def _told(self, error: object, _: object) -> None:
        if error is not None:
            self.failures.append(str(error))


def thread(work: Callable[..., object], *arguments: object) -> "asyncio.Future[object]":
    return asyncio.ensure_future(asyncio.to_thread(work, *arguments))


async def all_once(feed: Feed, readers: list[Receiver], timeout_s: float = 60) -> None:
    """Everything that was sent has come to each reader, once, in order, over the socket of the beginning."""
    await feed.flush()
    for reader in readers:
        await reader.settled(feed.sent, timeout_s)
        assert reader.by_partition() == feed.expected()
        assert reader.control_types() <= {"$welcome", "$checkpoint"}


async def test_kafka_gone_for_a_minute(kafka_factory: KafkaFactory, tmp_path: Path) -> None:
    cluster = kafka_factory()
    with site(cluster, tmp_path) as own:
        nodes = [own.gateway(), own.gateway()]
        async with Receiver(nodes[0], "ann") as first, Receiver(nodes[1], "ann") as second:
            feed = Feed(own)
            feed.send(40)
            await feed.flush()
            await asyncio.to_thread(cluster.stop)
            await feed.during(asyncio.ensure_future(asyncio.sleep(60)))
            for node in nodes:
                assert node.metric("tidings_gateway_kafka_up") == 0
                assert node.ready(), "an outage is no reason to take the whole fleet out of service"
                assert node.metric("tidings_gateway_connections") == 1
            assert len(first.received) == 40
            await feed.during(thread(cluster.start))
            feed.send(40)
            await all_once(feed, [first, second])
            for node in nodes:
                await node.until_metric("tidings_gateway_kafka_up", 1, timeout_s=5)
                # A minute of refused connections is told in some lines a second at most.
                assert len(node.log.splitlines()) < 300


async def test_kafka_killed_for_a_minute(kafka_factory: KafkaFactory, tmp_path: Path) -> None:
    cluster = kafka_factory()
    with site(cluster, tmp_path) as own:
        node = own.gateway()
        async with Receiver(node, "ann") as reader:
            feed = Feed(own)
            feed.send(40)
            await feed.flush()
            await asyncio.to_thread(cluster.kill)
            await feed.during(asyncio.ensure_future(asyncio.sleep(60)))
            await feed.during(thread(cluster.start))
            feed.send(40)
            await all_once(feed, [reader])


async def test_a_broker_frozen_for_longer_than_anybody_waits(kafka_factory: KafkaFactory, tmp_path: Path) -> None:
    cluster = kafka_factory()
    with site(cluster, tmp_path) as own:
        node = own.gateway()
        async with Receiver(node, "ann") as reader:
            feed = Feed(own)
            for seconds in (15, 45):
                feed.send(40)
                await feed.flush()
                cluster.brokers[0].pause()
                await feed.during(asyncio.ensure_future(asyncio.sleep(seconds)))
                assert node.metric("tidings_gateway_kafka_up") == 0
                cluster.brokers[0].resume()
                feed.send(40)
                await all_once(feed, [reader])


async def test_a_killed_leader_of_three_brokers(kafka_factory: KafkaFactory, tmp_path: Path) -> None:
    """Twice, each time another one; what was acknowledged is on the replicas, and clients see it once."""
    cluster = kafka_factory(brokers=3)
    with site(cluster, tmp_path) as own:
        nodes = [own.gateway(), own.gateway()]
        async with Receiver(nodes[0], "ann") as first, Receiver(nodes[1], "ann") as second:
            feed = Feed(own)
            feed.send(40)
            await feed.flush()
            for broker in cluster.brokers[:2]:
                await feed.during(thread(broker.kill))
                began = time.monotonic()
                await feed.during(asyncio.ensure_future(asyncio.sleep(15)))
                await feed.flush()  # the two that are left elect leaders for all partitions
                await first.until(feed.sent, 20)
                assert time.monotonic() - began < 60
                await feed.during(thread(broker.start))
                await asyncio.sleep(5)  # back in sync before the next one goes
            feed.send(40)
            await all_once(feed, [first, second])
            assert len(await asyncio.to_thread(read_all, own.kafka, own.modifications, 4)) == feed.sent


async def test_brokers_restarted_one_after_the_other(kafka_factory: KafkaFactory, tmp_path: Path) -> None:
    cluster = kafka_factory(brokers=3)
    with site(cluster, tmp_path) as own:
        node = own.gateway()
        async with Receiver(node, "ann") as reader:
            feed = Feed(own)
            for broker in cluster.brokers:
                await feed.during(thread(broker.restart))
                await feed.during(asyncio.ensure_future(asyncio.sleep(5)))
            await all_once(feed, [reader])
