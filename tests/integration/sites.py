"""A Kafka of a test's own with topics and gateways on it: what a test of outages needs."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.integration.processes import SECRET, GatewayFactory, environment, stop_all, topic_environment
from tidings.config import KafkaSettings, TopicSettings
from tidings.kafka import topics as kafka_topics
from tidings.kafka.apache import ApacheKafka

__all__ = ["Site", "site"]


@dataclass
class Site:
    """The brokers, how to reach them, the topics' names (4 partitions each), and gateways for them."""

    cluster: ApacheKafka
    kafka: KafkaSettings
    topics: TopicSettings
    gateway: GatewayFactory

    @property
    def modifications(self) -> str:
        return self.topics.modifications

    @property
    def environ(self) -> dict[str, str]:
        return self.gateway.environ

    def create_topics(self) -> None:
        kafka_topics.create(self.kafka, self.topics)


@contextmanager
def site(cluster: ApacheKafka, folder: Path, *, create: bool = True) -> Iterator[Site]:
    """On a cluster that others may use before and after; gateways are killed at the end."""
    mark = secrets.token_hex(4)
    topics = TopicSettings(modifications=f"modifications-{mark}", signals=f"signals-{mark}", partitions=4)
    kafka = KafkaSettings(bootstrap_servers=cluster.bootstrap_servers)
    environ = environment(
        TIDINGS_KAFKA_BOOTSTRAP_SERVERS=cluster.bootstrap_servers,
        **topic_environment(topics),
        TIDINGS_JWT_SECRET=SECRET,
        TIDINGS_LOG_FORMAT="json",
    )
    made = Site(cluster, kafka, topics, GatewayFactory(environ, folder))
    try:
        if create:
            made.create_topics()
        yield made
    finally:
        stop_all(made.gateway)
