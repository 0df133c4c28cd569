"""Kafka for this machine, from the first rung that can be had: environment, Docker, Apache's jars, embedded."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Protocol, Self

from tidings.config import KafkaSettings, load
from tidings.errors import BrokerUnavailable
from tidings.kafka.apache import ApacheKafka
from tidings.kafka.apache_jars import VERSION, find_tools
from tidings.kafka.connection import librdkafka_options
from tidings.kafka.embedded import CANNOT, EmbeddedKafka
from tidings.ports import free_ports

__all__ = ["RUNGS", "Broker", "Rung", "needs_port", "start"]

Rung = Literal["environment", "docker", "apache", "embedded"]

RUNGS: Final[tuple[Rung, ...]] = ("environment", "docker", "apache", "embedded")

_VARIABLE: Final = "TIDINGS_KAFKA_BOOTSTRAP_SERVERS"
_ENGINE_TIMEOUT_S: Final = 3
_IMAGE: Final = f"apache/kafka:{VERSION}"


class _Running(Protocol):
    def stop(self) -> None: ...


@dataclass
class Broker:
    """Kafka that is running and answers.

    Attributes:
        rung: Where it comes from.
        settings: How to reach it.
        what: For people: version, place, and what it can't do.
        skipped: Why the rungs above were not taken, one line each.
        log_file: The first broker's log, if it is a file here.
    """

    rung: Rung
    settings: KafkaSettings
    what: str
    skipped: tuple[str, ...]
    log_file: Path | None = None
    _owned: _Running | None = None
    _alive: Callable[[], bool] = lambda: True

    @property
    def bootstrap_servers(self) -> str:
        return self.settings.bootstrap_servers

    @property
    def alive(self) -> bool:
        """False once a broker of ours has ended; one that others run always counts as alive."""
        return self._alive()

    def environment(self) -> dict[str, str]:
        """What a child process needs in addition to our own environment to find the same brokers."""
        return {_VARIABLE: self.bootstrap_servers}

    def make_topics(self, names: list[str]) -> None:
        """Only for the embedded rung, which takes no settings; does nothing on the others."""
        if isinstance(self._owned, EmbeddedKafka):
            self._owned.make_topics(names)

    def describe(self) -> str:
        """One line: which Kafka this is, and why none of the rungs above."""
        why = f" (not {'; not '.join(self.skipped)})" if self.skipped else ""
        return f"Kafka: {self.what}{why}"

    def stop(self) -> None:
        """End what was started here. A Kafka named by the environment is left alone."""
        if self._owned is not None:
            self._owned.stop()
            self._owned = None
            self._alive = lambda: False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def needs_port(environ: Mapping[str, str] | None = None) -> bool:
    """Whether `start` would open a port of ours: not when the environment names a Kafka."""
    return not (os.environ if environ is None else environ).get(_VARIABLE, "").strip()


def start(
    state_dir: Path,
    *,
    port: int | None = None,
    brokers: int = 1,
    allow_embedded: bool = False,
    only: Rung | None = None,
    small: bool = True,
    environ: Mapping[str, str] | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> Broker:
    """Find or start Kafka; returns when it answers.

    Args:
        state_dir: Where Apache Kafka's data goes, and is found again by the next start.
        port: The client port of the (first) broker where we start one; any free one if None. The embedded broker
            can't be told a port.
        brokers: 1 or 3, for the rung `apache`.
        allow_embedded: Tests of guarantees leave this False: the embedded broker keeps none.
        only: Take this rung or fail.
        small: As in `ApacheKafka`, for the rung `apache`.
        log: Told, in words, what takes long.
    Raises:
        BrokerUnavailable: No rung can be had; the message names each and why.
    """
    environ = os.environ if environ is None else environ
    skipped: list[str] = []
    for rung in RUNGS:
        if only not in (None, rung) or (rung == "embedded" and not allow_embedded and only != rung):
            continue
        try:
            if rung == "environment":
                return _from_environment(environ)
            if rung == "docker":
                return _with_docker(port, tuple(skipped), log)
            if rung == "apache":
                return _from_jars(state_dir, port, brokers, tuple(skipped), log, small=small)
            return _embedded(tuple(skipped))
        except BrokerUnavailable as error:
            if rung == "environment" and not needs_port(environ):
                raise  # somebody named a Kafka: to take another one in silence would hide the mistake
            skipped.append(f"{rung}: {error}")
    raise BrokerUnavailable("no Kafka can be had here; " + "; ".join(skipped))


def _from_environment(environ: Mapping[str, str]) -> Broker:
    if needs_port(environ):
        raise BrokerUnavailable(f"{_VARIABLE} is not set")
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    (settings,) = load(KafkaSettings, environ=environ)
    try:
        AdminClient(librdkafka_options(settings)).list_topics(timeout=10)
    except KafkaException as error:
        raise BrokerUnavailable(f"{_VARIABLE}={settings.bootstrap_servers} does not answer") from error
    return Broker("environment", settings, f"{settings.bootstrap_servers}, named by {_VARIABLE}", ())


def _with_docker(port: int | None, skipped: tuple[str, ...], log: Callable[[str], None]) -> Broker:
    """One broker of the project's own image.

    The steps up to the engine's answer run wherever there is no engine; the container itself could so far only be
    written down from the image's documentation: no machine of the project has had an engine (see docs/decisions).
    """
    try:
        import docker
        from testcontainers.core.container import DockerContainer
    except ImportError as error:
        raise BrokerUnavailable("testcontainers is not installed") from error
    try:
        # An engine that is there answers at once; a dead socket must not cost more than a moment.
        docker.from_env(timeout=_ENGINE_TIMEOUT_S).ping()
    except Exception as error:  # the client raises its own, requests' and urllib3's errors
        raise BrokerUnavailable("no Docker engine answers") from error
    chosen = port or free_ports(1)[0]
    environment = {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{chosen}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    }
    container: Any = DockerContainer(_IMAGE)
    container = container.with_bind_ports(9092, ("127.0.0.1", chosen))
    for name, value in environment.items():
        container = container.with_env(name, value)
    log(f"starting {_IMAGE} with Docker")
    try:
        container.start()
        settings = KafkaSettings(bootstrap_servers=f"127.0.0.1:{chosen}")
        _wait_answers(settings)
    except Exception as error:
        container.stop()
        raise BrokerUnavailable(f"{_IMAGE} did not start: {error}") from error
    return Broker("docker", settings, f"{_IMAGE} in Docker on port {chosen}", skipped, None, container)


def _wait_answers(settings: KafkaSettings) -> None:
    from confluent_kafka.admin import AdminClient

    AdminClient(librdkafka_options(settings)).list_topics(timeout=60)


def _from_jars(
    state_dir: Path,
    port: int | None,
    brokers: int,
    skipped: tuple[str, ...],
    log: Callable[[str], None],
    *,
    small: bool,
) -> Broker:
    if missing := find_tools():
        raise BrokerUnavailable(missing)
    ports = [port, *free_ports(brokers - 1)] if port else []
    cluster = ApacheKafka(state_dir / "kafka", brokers=brokers, ports=ports, small=small, log=log)
    log(f"starting Apache Kafka {VERSION}")
    cluster.start()
    settings = KafkaSettings(bootstrap_servers=cluster.bootstrap_servers)
    what = f"Apache Kafka {VERSION} from its jars, {cluster.bootstrap_servers}"
    return Broker("apache", settings, what, skipped, cluster.brokers[0].log_file, cluster, lambda: cluster.alive)


def _embedded(skipped: tuple[str, ...]) -> Broker:
    cluster = EmbeddedKafka()
    settings = KafkaSettings(bootstrap_servers=cluster.bootstrap_servers)
    what = f"embedded, {cluster.bootstrap_servers}: {CANNOT}"
    return Broker("embedded", settings, what, skipped, None, cluster, lambda: cluster.alive)
