"""The log itself is cut or replaced: then, and only then, a client is told that its chain ends, never in silence."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from tests.chaos.arena import Arena, arena
from tests.chaos.clients import Device
from tests.chaos.feed import audience
from tests.chaos.loops import fast_loop
from tidings.kafka.apache import ApacheKafka
from tidings.kafka.connection import librdkafka_options

pytestmark = [pytest.mark.slow, pytest.mark.kafka]

PATIENT: dict[str, Any] = {"ping_interval_s": 20}
"""So that clients stay where they are while a node is frozen for some seconds."""
EVERYBODY = audience(["ann", "bob"])


async def crowd(own: Arena) -> tuple[list[Device], list[Device], list[Device]]:
    """Clients on node 0, on node 1, and some that go away, half of which will come back to each node."""
    groups: tuple[list[Device], list[Device], list[Device]] = ([], [], [])
    for group in groups:
        for kind in ("v1", "v1", "sse", "sse"):
            group.append(own.crowd.add("ann" if len(group) % 2 else "bob", kind))
    for index, device in enumerate(own.crowd.devices):
        device.choices = [index // 4 if index < 8 else index % 2]
    await own.crowd.start()
    await send(own, 100)
    await own.settle()
    return groups


async def send(own: Arena, count: int) -> None:
    await own.acknowledged([own.feed.send(EVERYBODY, partition=number % own.partitions) for number in range(count)])


def resyncs(devices: list[Device]) -> list[list[str | None]]:
    return [[chain.resync for chain in device.seen.chains] for device in devices]


async def cut_log(own: Arena, before: dict[int, int]) -> None:
    """As retention does, but now: nothing before these offsets is left."""
    admin = AdminClient(librdkafka_options(own.kafka))
    asked = [TopicPartition(own.topics.modifications, partition, offset) for partition, offset in before.items()]
    for future in admin.delete_records(asked).values():
        await asyncio.to_thread(future.result, 30)


async def replace_topic(own: Arena) -> None:
    """Delete it and make another one of that name; the feed is a new one."""
    await asyncio.to_thread(own.feed.close)
    old = await asyncio.to_thread(own.log_tag)
    admin = AdminClient(librdkafka_options(own.kafka))
    for future in admin.delete_topics([own.topics.modifications], operation_timeout=30).values():
        await asyncio.to_thread(future.result, 30)
    for _ in range(100):
        if own.topics.modifications not in (await asyncio.to_thread(admin.list_topics, timeout=10)).topics:
            break
        await asyncio.sleep(0.1)
    await asyncio.to_thread(own.create_topics)
    assert await asyncio.to_thread(own.log_tag) != old
    own.feed = own.new_feed()


@fast_loop
async def test_retention_passes_a_stopped_node_by(cluster: ApacheKafka, tmp_path: Path) -> None:
    """What the node did not read is gone: its clients are told `expired`; those of the other node notice nothing."""
    async with arena(cluster, tmp_path, **PATIENT) as own:
        stopped, live, away = await crowd(own)
        for device in away:
            device.go_offline()
        own.nodes[0].freeze()
        await send(own, 12)  # the answers that the node's fetches wait for: it will find them in its sockets
        await asyncio.sleep(1)
        await send(own, 188)
        await asyncio.sleep(1)
        await asyncio.to_thread(own.learn_log)
        await cut_log(own, {0: 40, 1: 50, 2: 60})
        own.nodes[0].thaw()
        await asyncio.sleep(2)
        for device in away:
            device.go_online()
        await own.crowd.all_connected()
        await send(own, 100)
        verdict = await own.verdict(resyncs={"expired"})
        print(verdict, resyncs(own.crowd.devices))
        assert verdict.ok, verdict
        # Whoever stayed is told once per partition at most; the chains in between are as good as any.
        for chains in resyncs(stopped):
            assert set(chains[:-1]) == {"expired"}
            assert chains[-1] is None
        assert resyncs(live) == [[None]] * 4
        # Node 0 has nothing of before the cut any more; node 1 has it in its window.
        assert resyncs(away[::2]) == [["expired", None]] * 2
        assert resyncs(away[1::2]) == [[None]] * 2


@fast_loop
async def test_retention_passes_by_clients_that_are_away(cluster: ApacheKafka, tmp_path: Path) -> None:
    """Nodes that start after the cut know nothing of before it."""
    async with arena(cluster, tmp_path) as own:
        await crowd(own)
        for device in own.crowd.devices:
            device.go_offline()
        await send(own, 200)
        for node in own.nodes:
            await node.kill()
        await asyncio.to_thread(own.learn_log)
        await cut_log(own, {2: 60})
        for node in own.nodes:
            await node.start()
        for device in own.crowd.devices:
            device.go_online()
        await own.crowd.all_connected()
        await send(own, 100)
        verdict = await own.verdict(resyncs={"expired"})
        print(verdict, resyncs(own.crowd.devices))
        assert verdict.ok, verdict
        assert resyncs(own.crowd.devices) == [["expired", None]] * 12


@fast_loop
async def test_the_topic_deleted_and_made_anew(cluster: ApacheKafka, tmp_path: Path) -> None:
    async with arena(cluster, tmp_path) as own:
        _, _, away = await crowd(own)
        for device in away:
            device.go_offline()
        await replace_topic(own)
        await send(own, 20)
        for device in away:
            device.go_online()
        await all_told(own)
        await send(own, 100)
        verdict = await own.verdict(resyncs={"log_changed"})
        print(verdict, resyncs(own.crowd.devices))
        assert verdict.ok, verdict


@fast_loop
async def test_the_topic_made_anew_has_outgrown_the_old_one(cluster: ApacheKafka, tmp_path: Path) -> None:
    """The old positions are good ones in the new log: only its id tells."""
    async with arena(cluster, tmp_path, **PATIENT) as own:
        _, _, away = await crowd(own)
        for device in away:
            device.go_offline()
        for node in own.nodes:
            node.freeze()
        await asyncio.sleep(3)  # a fetch that the brokers still hold might be answered from either log
        await replace_topic(own)
        await send(own, 400)
        for node in own.nodes:
            node.thaw()
        for device in away:
            device.go_online()
        await all_told(own)
        await send(own, 100)
        verdict = await own.verdict(resyncs={"log_changed"})
        print(verdict, resyncs(own.crowd.devices))
        assert verdict.ok, verdict


async def all_told(own: Arena) -> None:
    """Every client is told of the new log, once, within the ten seconds of the poll and a little."""
    for _ in range(150):
        if all(len(device.seen.chains) > 1 for device in own.crowd.devices):
            break
        await asyncio.sleep(0.1)
    assert resyncs(own.crowd.devices) == [["log_changed", None]] * len(own.crowd.devices)
