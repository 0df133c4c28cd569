"""A cluster of three brokers that all tests here share, each with topics of its own."""

import os
import resource
from collections.abc import Iterator

import pytest

from tests.integration.conftest import *  # noqa: F403 - fixtures are found by name
from tests.integration.processes import ROOT
from tidings.kafka import apache_jars
from tidings.kafka.apache import ApacheKafka

BROKER_SETTINGS = {"min.insync.replicas": "2"}


@pytest.fixture(autouse=True)
def _many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="session")
def _three_brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    os.environ.setdefault(apache_jars.CACHE_VARIABLE, str(ROOT / ".cache"))
    if missing := apache_jars.find_tools():
        pytest.skip(f"no brokers of our own: {missing}")
    with ApacheKafka(tmp_path_factory.mktemp("chaos"), brokers=3, settings=BROKER_SETTINGS) as cluster:
        yield cluster


@pytest.fixture
def cluster(_three_brokers: ApacheKafka) -> Iterator[ApacheKafka]:
    """Three brokers, replication 3, two in sync to write; whatever a test does to them, the next one finds them up."""
    revive(_three_brokers)
    yield _three_brokers
    revive(_three_brokers)


def revive(cluster: ApacheKafka) -> None:
    for broker in cluster.brokers:
        broker.resume()
    if not cluster.alive:
        cluster.kill()
        cluster.start()
