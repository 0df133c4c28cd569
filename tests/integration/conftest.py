"""What the tests with real processes share: Kafka, topics of their own, gateways.

- `kafka`: one broker for the whole session; shared, so never stop it.
- `kafka_factory`: brokers of the test's own, to stop, kill, freeze and restart.
- `topics`: TIDINGS_*_TOPIC names that no other test uses, made on `kafka`.
- `gateway`: starts `tidings gateway` processes and ends them.
- `nodes`, `records`: gateways and their topics for all tests of one module, as starting them for each costs too much.
"""

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.integration.clients import Topics
from tests.integration.processes import ROOT, SECRET, GatewayFactory, environment, stop_all, topic_environment
from tidings.config import TopicSettings
from tidings.errors import BrokerUnavailable
from tidings.kafka import apache_jars, ladder
from tidings.kafka import topics as kafka_topics
from tidings.kafka.apache import ApacheKafka
from tidings.kafka.ladder import Broker
from tidings.ports import free_ports


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A real Kafka, shared by all tests: the environment's, or one broker of Apache's. Never the embedded one."""
    os.environ.setdefault(apache_jars.CACHE_VARIABLE, str(ROOT / ".cache"))
    try:
        broker = ladder.start(tmp_path_factory.mktemp("kafka"), allow_embedded=False)
    except BrokerUnavailable as error:
        pytest.skip(f"no real Kafka: {error}")
    with broker:
        yield broker


@contextlib.contextmanager
def own_cluster(folder: Path, *, brokers: int = 1) -> Iterator[ApacheKafka]:
    """Running brokers that a test may stop, kill, freeze and damage."""
    os.environ.setdefault(apache_jars.CACHE_VARIABLE, str(ROOT / ".cache"))
    if missing := apache_jars.find_tools():
        pytest.skip(f"no broker of our own: {missing}")
    with ApacheKafka(folder / "kafka", brokers=brokers) as cluster:
        yield cluster


@pytest.fixture
def kafka_factory(tmp_path: Path) -> Iterator[Callable[..., ApacheKafka]]:
    """Makes running brokers of the test's own: `kafka_factory(brokers=3, settings={...})`; killed afterwards."""
    os.environ.setdefault(apache_jars.CACHE_VARIABLE, str(ROOT / ".cache"))
    if missing := apache_jars.find_tools():
        pytest.skip(f"no broker of our own: {missing}")
    with contextlib.ExitStack() as stack:

        def make(*, brokers: int = 1, settings: Mapping[str, str] | None = None, start: bool = True) -> ApacheKafka:
            folder = tmp_path / f"kafka-{secrets.token_hex(3)}"
            cluster = ApacheKafka(folder, brokers=brokers, settings=settings)
            stack.callback(cluster.kill)
            return cluster.start() if start else cluster

        yield make


def make_topic_settings() -> TopicSettings:
    """Names that no other test uses; 4 partitions."""
    mark = secrets.token_hex(4)
    return TopicSettings(
        modifications=f"modifications-{mark}",
        signals=f"signals-{mark}",
        sessions=f"sessions-{mark}",
        notifications=f"notifications-{mark}",
        dead_letter=f"dead-{mark}",
        partitions=4,
    )


@pytest.fixture
def topic_settings() -> TopicSettings:
    """Names that no other test uses; 4 partitions."""
    return make_topic_settings()


@pytest.fixture
def topics(kafka: Broker, topic_settings: TopicSettings) -> TopicSettings:
    """Such topics, made on `kafka` with their real settings."""
    kafka_topics.create(kafka.settings, topic_settings)
    return topic_settings


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Gives a port of the loopback address that nobody listens on."""
    return lambda: free_ports(1)[0]


@pytest.fixture
def gateway_environment(kafka: Broker, topics: TopicSettings) -> dict[str, str]:
    """For a process that belongs to this test: the shared Kafka, the test's topics, this run's secret."""
    environ = environment(
        **kafka.environment(), **topic_environment(topics), TIDINGS_JWT_SECRET=SECRET, TIDINGS_LOG_FORMAT="json"
    )
    del environ[apache_jars.CACHE_VARIABLE]  # not for a gateway, which would warn
    return environ


@pytest.fixture
def gateway(gateway_environment: dict[str, str], tmp_path: Path) -> Iterator[GatewayFactory]:
    """`gateway()` starts a node on `kafka` and the test's topics and waits until it is ready."""
    factory = GatewayFactory(gateway_environment, tmp_path)
    yield factory
    stop_all(factory)


@pytest.fixture(scope="module")
def records(kafka: Broker) -> Topics:
    """Topics of the test module's own, and a producer for them; for the gateways of `nodes`."""
    names = make_topic_settings()
    kafka_topics.create(kafka.settings, names)
    return Topics(kafka, names)


@pytest.fixture(scope="module")
def nodes(kafka: Broker, records: Topics, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayFactory]:
    """Like `gateway`, for tests that can share nodes: they live as long as the module's tests run."""
    environ = environment(
        **kafka.environment(), **topic_environment(records.names), TIDINGS_JWT_SECRET=SECRET, TIDINGS_LOG_FORMAT="json"
    )
    del environ[apache_jars.CACHE_VARIABLE]
    factory = GatewayFactory(environ, tmp_path_factory.mktemp("nodes"))
    yield factory
    stop_all(factory)
