"""`Modifications` against real Kafka: acknowledged means stored, refused means nothing was sent."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import own_cluster
from tests.integration.processes import GatewayFactory
from tests.integration.producing import Stored, read_all
from tests.integration.receiving import Receiver
from tests.integration.sites import site
from tidings.config import TopicSettings
from tidings.errors import BrokerUnavailable, ContractError, InvalidState
from tidings.kafka.ladder import Broker
from tidings.producer import Modifications

pytestmark = pytest.mark.kafka


@pytest.fixture
async def modifications(kafka: Broker, topics: TopicSettings) -> AsyncIterator[Modifications]:
    async with Modifications(bootstrap_servers=kafka.bootstrap_servers, topic=topics.modifications) as connected:
        yield connected


async def stored(kafka: Broker, topics: TopicSettings) -> list[Stored]:
    return await asyncio.to_thread(read_all, kafka.settings, topics.modifications, topics.partitions)


def value(record: Stored) -> Any:
    return json.loads(record.value or b"")


async def test_acknowledged_means_stored_with_key_and_id(
    kafka: Broker, topics: TopicSettings, modifications: Modifications
) -> None:
    await modifications.send(
        ["ann", 7, "ann"], "update", {"x": 1.0}, key="chat-1", id="my-id", context={"actor": "bob"}
    )
    (one,) = await stored(kafka, topics)
    assert (one.key, one.headers) == (b"chat-1", [("id", b"my-id")])
    assert value(one) == {"receivers": ["ann", "7"], "type": "update", "data": {"x": 1.0}, "context": {"actor": "bob"}}


async def test_bytes_are_stored_unchanged_and_reach_the_client_unchanged(
    kafka: Broker, topics: TopicSettings, modifications: Modifications, gateway: GatewayFactory
) -> None:
    data = '{ "a" : 1.00,\t"b":"\\u00e9é" }'
    node = gateway()
    async with Receiver(node, "ann") as reader:
        await modifications.send(["ann"], "update", data.encode())
        await reader.settled(1)
        assert reader.received[0].text.endswith(f',"data":{data}}}')
    assert data.encode() in ((await stored(kafka, topics))[0].value or b"")


async def test_over_5000_receivers_become_records_with_ids_and_receivers_of_their_own(
    kafka: Broker, topics: TopicSettings, modifications: Modifications, gateway: GatewayFactory
) -> None:
    node = gateway()
    receivers = [f"user-{number}" for number in range(12_000)]
    async with Receiver(node, "user-0") as first, Receiver(node, "user-11999") as last:
        await modifications.send(receivers, "update", {"n": 1}, key="chat")
        await modifications.send(receivers, "update", {"n": 1}, key="chat", id="again")
        await modifications.send(receivers, "update", {"n": 1}, key="chat", id="again")
        for reader in (first, last):
            await reader.settled(2)  # the third was a repeat
    records = await stored(kafka, topics)
    assert len(records) == 9
    parts = [value(one)["receivers"] for one in records[:3]]
    assert all(len(part) <= 5000 for part in parts)
    assert sorted(itertools.chain(*parts)) == sorted(receivers)
    assert len({dict(one.headers)["id"] for one in records}) == 6
    assert len({one.partition for one in records}) == 1


@pytest.mark.parametrize(
    ("receivers", "kind", "data"),
    [
        (["ann"], "$disconnect", {}),
        (["ann"], "", {}),
        (["ann", ""], "update", {}),
        (["ann"], "update", b'{"a":NaN}'),
        (["ann"], "update", b"\xff"),
        (["ann"], "update", "x" * 1_048_576),
        ("ann", "update", {}),
    ],
)
async def test_poison_is_refused_before_anything_is_sent(
    kafka: Broker, topics: TopicSettings, modifications: Modifications, receivers: Any, kind: str, data: object
) -> None:
    with pytest.raises(ContractError):
        await modifications.send(receivers, kind, data)
    assert await stored(kafka, topics) == []
    await modifications.send(["ann"], "update", {})
    assert len(await stored(kafka, topics)) == 1


async def test_a_hidden_fault_in_a_later_part_keeps_the_earlier_ones_back(
    kafka: Broker, topics: TopicSettings, modifications: Modifications
) -> None:
    receivers = [*(f"user-{number}" for number in range(5000)), "z" * 257]
    with pytest.raises(ContractError):
        await modifications.send(receivers, "update", {})
    assert await stored(kafka, topics) == []


async def test_many_sends_at_once_are_all_stored_once(
    kafka: Broker, topics: TopicSettings, modifications: Modifications
) -> None:
    await asyncio.gather(
        *(modifications.send(["ann"], "update", {"n": number}, key=f"chat-{number % 50}") for number in range(3000))
    )
    records = await stored(kafka, topics)
    assert sorted(value(one)["data"]["n"] for one in records) == list(range(3000))
    assert len({one.partition for one in records}) == topics.partitions
    partitions_of: dict[bytes | None, set[int]] = {}
    for one in records:
        partitions_of.setdefault(one.key, set()).add(one.partition)
    assert all(len(partitions) == 1 for partitions in partitions_of.values())


async def test_one_after_the_other_with_one_key_stays_in_order(
    kafka: Broker, topics: TopicSettings, modifications: Modifications
) -> None:
    for number in range(200):
        await modifications.send(["ann"], "update", {"n": number}, key="chat")
    assert [value(one)["data"]["n"] for one in await stored(kafka, topics)] == list(range(200))


async def test_no_broker_is_told_in_time(free_port: Any) -> None:
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable):
        async with Modifications(bootstrap_servers=f"127.0.0.1:{free_port()}", timeout_s=2):
            pass
    assert time.monotonic() - began < 4


async def test_a_missing_topic_is_told_in_time(kafka: Broker) -> None:
    async with Modifications(
        bootstrap_servers=kafka.bootstrap_servers, topic="no-such-topic", timeout_s=3
    ) as connected:
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable, match="no-such-topic"):
            await connected.send(["ann"], "update", {})
        assert time.monotonic() - began < 5


async def test_send_outside_of_async_with_is_a_mistake(kafka: Broker) -> None:
    with pytest.raises(InvalidState):
        await Modifications(bootstrap_servers=kafka.bootstrap_servers).send(["ann"], "update", {})


async def test_a_broker_that_goes_and_comes_back(tmp_path: Path) -> None:
    """Away: told in time, each time. Back: the same object sends again, and the same id makes no second delivery."""
    with own_cluster(tmp_path) as cluster, site(cluster, tmp_path) as own:
        node = own.gateway()
        async with (
            Receiver(node, "ann") as reader,
            Modifications(bootstrap_servers=cluster.bootstrap_servers, topic=own.modifications, timeout_s=3) as sender,
        ):
            await sender.send(["ann"], "update", {"n": 0}, key="chat")
            cluster.brokers[0].pause()
            began = time.monotonic()
            with pytest.raises(BrokerUnavailable):
                await sender.send(["ann"], "update", {"n": 1}, key="chat", id="one")
            assert time.monotonic() - began < 5
            cluster.brokers[0].resume()
            await asyncio.sleep(0.5)
            await retried(sender, {"n": 1}, "one")
            await asyncio.to_thread(cluster.brokers[0].stop)
            began = time.monotonic()
            with pytest.raises(BrokerUnavailable):
                await sender.send(["ann"], "update", {"n": 2}, key="chat", id="two")
            assert time.monotonic() - began < 5
            await asyncio.to_thread(cluster.brokers[0].start)
            await retried(sender, {"n": 2}, "two")
            await reader.settled(3)
            assert reader.numbers() == [0, 1, 2]


async def retried(sender: Modifications, data: object, name: str) -> None:
    """As the docstring of `send` advises: again with the same id."""
    for _ in range(10):
        try:
            await sender.send(["ann"], "update", data, key="chat", id=name)
        except BrokerUnavailable:
            continue
        return
    pytest.fail("the broker is back, and no send got through")
