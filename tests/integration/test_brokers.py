"""Brokers of a test's own: what the tests of outages rely on."""

import asyncio
from collections.abc import Callable

import pytest
from aiokafka.errors import NotLeaderForPartitionError
from confluent_kafka import KafkaException, Producer

from tidings.config import KafkaSettings, TopicSettings
from tidings.kafka import topics as kafka_topics
from tidings.kafka.apache import ApacheKafka
from tidings.kafka.cluster import Cluster
from tidings.kafka.connection import aiokafka_options
from tidings.kafka.fetch_session import FetchSession, Partition

Factory = Callable[..., ApacheKafka]


def send(cluster: ApacheKafka, topic: str, timeout_s: float = 20) -> bool:
    """Whether one record is acknowledged by all replicas within the time."""
    producer = Producer({"bootstrap.servers": cluster.bootstrap_servers, "acks": "all", "log_level": 0})
    producer.produce(topic, b"x")
    return producer.flush(timeout_s) == 0


@pytest.mark.kafka
def test_a_broker_comes_back_on_its_data_and_port(kafka_factory: Factory, topic_settings: TopicSettings) -> None:
    cluster = kafka_factory()
    settings = KafkaSettings(bootstrap_servers=cluster.bootstrap_servers)
    kafka_topics.create(settings, topic_settings)
    ids = kafka_topics.topic_ids(settings, [topic_settings.modifications])
    assert send(cluster, topic_settings.modifications)
    for graceful in (True, False):
        cluster.brokers[0].restart(graceful=graceful)
        assert kafka_topics.topic_ids(settings, [topic_settings.modifications]) == ids
        assert send(cluster, topic_settings.modifications)

    cluster.brokers[0].pause()
    with pytest.raises(KafkaException):
        Producer({"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0}).list_topics(timeout=1)
    cluster.brokers[0].resume()
    assert send(cluster, topic_settings.modifications)
    cluster.brokers[0].kill()
    assert not cluster.alive


@pytest.mark.kafka
@pytest.mark.slow
def test_three_brokers_go_on_with_two(kafka_factory: Factory, topic_settings: TopicSettings) -> None:
    cluster = kafka_factory(brokers=3)
    settings = KafkaSettings(bootstrap_servers=cluster.bootstrap_servers)
    kafka_topics.create(settings, topic_settings)
    assert kafka_topics.check(settings, topic_settings) == []  # replication 3
    cluster.brokers[2].kill()
    assert send(cluster, topic_settings.modifications, 60)
    cluster.brokers[2].start()
    assert cluster.alive


@pytest.mark.kafka
@pytest.mark.slow
async def test_only_the_leader_of_a_partition_answers_a_fetch(
    kafka_factory: Factory, topic_settings: TopicSettings
) -> None:
    """A replica that has just come back ends before what was shown: what it says of our position is not so."""
    brokers = kafka_factory(brokers=3)
    settings = KafkaSettings(bootstrap_servers=brokers.bootstrap_servers)
    await asyncio.to_thread(kafka_topics.create, settings, topic_settings)
    assert await asyncio.to_thread(send, brokers, topic_settings.modifications)
    partition = Partition(topic_settings.modifications, 0)
    cluster = Cluster(aiokafka_options(settings), [partition.topic], 300)
    await cluster.open()
    try:
        leader = cluster.leader(partition)
        for node_id in (1, 2, 3):
            response = await cluster.fetch(
                node_id, partition.topic, FetchSession().request([partition], {partition: 0})
            )
            ((_, ((_, error_code, *_),)),) = response.topics
            assert error_code == (0 if node_id == leader else NotLeaderForPartitionError.errno)
            cluster.leader = lambda _, node_id=node_id: node_id  # type: ignore[method-assign, misc]
            error_code, *_ = await cluster.fetch_once(partition, 0, 4_096)
            assert error_code == (0 if node_id == leader else NotLeaderForPartitionError.errno)
    finally:
        await cluster.close()
