"""Brokers of a test's own: what the tests of outages rely on."""

from collections.abc import Callable

import pytest
from confluent_kafka import KafkaException, Producer

from tidings.config import KafkaSettings, TopicSettings
from tidings.kafka import topics as kafka_topics
from tidings.kafka.apache import ApacheKafka

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
