"""What happens to Kafka, on three brokers with replication 3 and two in sync to write."""

import asyncio
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]  # public, not in its __all__

from tests.chaos.arena import Arena, arena
from tests.chaos.faults import (
    BrokerFrozen,
    BrokerRestarted,
    ClientsCut,
    ClusterDown,
    Fault,
    LeaderKilled,
    PartitionsAdded,
    Storm,
    strike,
)
from tests.chaos.feed import Mix
from tests.chaos.loops import fast_loop
from tests.chaos.recoveries import Recoveries
from tests.chaos.transactions import Transactions
from tidings.kafka.apache import ApacheKafka
from tidings.kafka.connection import librdkafka_options

pytestmark = [pytest.mark.slow, pytest.mark.kafka]


async def under_load(own: Arena, fault: Fault, hold_s: float) -> None:
    """The fault while records and transactions are produced and some clients come and go; everybody gets all."""
    own.populate(200)
    await own.crowd.start()
    own.feed.begin(Mix(rate=200))
    writing = Transactions(own.kafka, own.feed, own.recorder)
    writing.start()
    await asyncio.sleep(2)
    cutting = asyncio.create_task(cut_now_and_then(own))
    try:
        await strike(fault, hold_s)
        await asyncio.sleep(2)
    finally:
        cutting.cancel()
    await asyncio.to_thread(own.feed.stop)
    await asyncio.to_thread(writing.stop)
    for device in own.crowd.devices:
        device.go_online()
    verdict = await own.verdict()
    print(verdict, dict(own.crowd.counts), f"transactions {writing.committed}/{writing.aborted}/{writing.uncertain}")
    assert verdict.ok, verdict
    assert verdict.deliveries > 1_000
    assert writing.committed
    assert writing.aborted
    for node in own.nodes:
        assert node.gateway.ready(), "an outage is no reason to take a node out of service"


async def cut_now_and_then(own: Arena) -> None:
    while True:
        await strike(ClientsCut(own, Recoveries()), 2)


@fast_loop
async def test_a_leader_killed(cluster: ApacheKafka, tmp_path: Path) -> None:
    async with arena(cluster, tmp_path) as own:
        admin = AdminClient(librdkafka_options(own.kafka))
        topic = ConfigResource(ConfigResource.Type.TOPIC, own.topics.modifications)
        (asked,) = admin.describe_configs([topic]).values()
        assert asked.result(10)["min.insync.replicas"].value == "2"
        await under_load(own, LeaderKilled(own, Recoveries()), 6)


@fast_loop
async def test_a_broker_restarted(cluster: ApacheKafka, tmp_path: Path) -> None:
    async with arena(cluster, tmp_path) as own:
        await under_load(own, BrokerRestarted(own, Recoveries()), 0)


@fast_loop
async def test_a_broker_frozen(cluster: ApacheKafka, tmp_path: Path) -> None:
    async with arena(cluster, tmp_path) as own:
        await under_load(own, BrokerFrozen(own, Recoveries()), 15)


@fast_loop
async def test_the_whole_cluster_down_for_60_s(cluster: ApacheKafka, tmp_path: Path) -> None:
    """Clients come and go meanwhile; afterwards everybody gets the backlog and nobody is closed for it."""
    async with arena(cluster, tmp_path) as own:
        await under_load(own, ClusterDown(own, Recoveries()), 60)
        for node in own.nodes:
            assert await node.total("tidings_gateway_closes_total", code="4008") == 0


@fast_loop
async def test_partitions_added_under_load(cluster: ApacheKafka, tmp_path: Path) -> None:
    """Clients bring cursors that name partitions which their next node may not know yet, or that name too few."""
    async with arena(cluster, tmp_path) as own:
        away = own.crowd.add("user-0")
        own.populate(200)
        await own.crowd.start()
        own.feed.begin(Mix(rate=300))
        await asyncio.sleep(1)
        away.go_offline()
        for _ in range(3):
            await strike(PartitionsAdded(own, Recoveries()))
            for _ in range(4):
                await asyncio.sleep(0.5)
                await strike(Storm(own, Recoveries()), 0)
        away.go_online()
        await asyncio.sleep(1)
        own.feed.stop()
        verdict = await own.verdict()
        print(verdict, dict(own.crowd.counts))
        assert verdict.ok, verdict
        assert {partition for chain in away.seen.chains for _, partition, _ in chain.frames()} == set(range(7))


@fast_loop
async def test_clients_resume_while_no_broker_answers(cluster: ApacheKafka, tmp_path: Path) -> None:
    """Cursors that only brokers can tell good from bad, and records that only they have: all wait, and are pinged."""
    async with arena(cluster, tmp_path, window_bytes=0, ping_interval_s=1) as own:
        own.populate(100, two_devices=0, sse=0.5)
        await own.crowd.start()
        own.feed.begin(Mix(rate=100))
        await asyncio.sleep(2)
        for device in own.crowd.devices:
            device.go_offline()
        await asyncio.sleep(1)
        for broker in cluster.brokers:
            broker.pause()
        for device in own.crowd.devices:
            device.go_online()
        await asyncio.sleep(8)
        for broker in cluster.brokers:
            broker.resume()
        await asyncio.sleep(1)
        own.feed.stop()
        verdict = await own.verdict()
        print(verdict, dict(own.crowd.counts))
        assert verdict.ok, verdict
