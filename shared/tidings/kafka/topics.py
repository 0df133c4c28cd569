"""The topics of Tidings on the brokers: making them, checking them, and telling one topic from its successor.

What each must be like stands in `topic_specs`. What talks to Kafka blocks for up to
`timeout_s`: run it in a thread when there is an event loop.
"""

import time
from collections import deque
from collections.abc import Collection
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, but not in its __all__
    AdminClient,
    ConfigResource,
    NewTopic,
)

from tidings.config import KafkaSettings, TopicSettings
from tidings.errors import BrokerUnavailable
from tidings.kafka.connection import librdkafka_options
from tidings.kafka.topic_specs import ROLES, Difference, Role, differences, specs

__all__ = ["TopicIds", "check", "compare", "create", "topic_ids"]

_MAX_REPLICATION: Final = 3
_LATE_S: Final = 1.0
"""A broker may hear of a topic this much later than the one that was asked to make it."""


def create(
    kafka: KafkaSettings, topics: TopicSettings, *, roles: Collection[Role] = ROLES, timeout_s: float = 30
) -> list[str]:
    """Make the topics that are missing, with replication min(3, brokers); those that exist are left as they are.

    Returns:
        The names of the topics that were made now.
    Raises:
        BrokerUnavailable: No answer in time, or the cluster refused.
    """
    client = _client(kafka)
    _, brokers, _ = _metadata(client, kafka, timeout_s)
    wanted = [
        NewTopic(
            spec.name,
            num_partitions=spec.partitions,
            replication_factor=min(_MAX_REPLICATION, brokers),
            config=dict(spec.settings),
        )
        for spec in specs(topics, roles)
    ]
    made = []
    try:
        for name, future in client.create_topics(
            wanted, operation_timeout=timeout_s, request_timeout=timeout_s
        ).items():
            try:
                _result(future, timeout_s)
            except KafkaException as error:
                if _code(error) != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise BrokerUnavailable(f"topic {name} was not created: {_text(error)}") from error
            else:
                made.append(name)
    except FutureTimeoutError as error:
        raise _no_answer(client, kafka, "creating topics", timeout_s) from error
    _wait_known(client, kafka, made, timeout_s)
    return made


def check(
    kafka: KafkaSettings, topics: TopicSettings, *, roles: Collection[Role] = ROLES, timeout_s: float = 10
) -> list[str]:
    """What is wrong with the topics, one line for each problem in words; empty if all is well.

    Raises:
        BrokerUnavailable: No answer in time.
    """
    return list(map(str, compare(kafka, topics, roles=roles, timeout_s=timeout_s)))


def compare(
    kafka: KafkaSettings, topics: TopicSettings, *, roles: Collection[Role] = ROLES, timeout_s: float = 10
) -> list[Difference]:
    """The same as values. It asks two things, one after the other: blocks for up to 2 × `timeout_s` + 2 s.

    Raises:
        BrokerUnavailable: No answer in time, or the broker refuses to tell; the cause says what it said.
    """
    client = _client(kafka)
    wanted = specs(topics, roles)
    deadline = time.monotonic() + _LATE_S
    while True:
        existing, brokers, administered = _metadata(client, kafka, timeout_s)
        if all(spec.name in existing for spec in wanted) or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    found = [spec for spec in wanted if spec.name in existing]
    problems = [Difference(spec.name, "exists", "no", "yes") for spec in wanted if spec.name not in existing]
    if found and administered:
        try:
            resources = [ConfigResource(ConfigResource.Type.TOPIC, spec.name) for spec in found]
            futures = client.describe_configs(resources, request_timeout=timeout_s)
            actual = {
                resource.name: {name: entry.value for name, entry in _result(future, timeout_s).items()}
                for resource, future in futures.items()
            }
        except (KafkaException, FutureTimeoutError) as error:
            raise _no_answer(client, kafka, "reading topic settings", timeout_s) from error
        for spec in found:
            partitions, replication = existing[spec.name]
            problems += differences(spec, partitions, replication, min(_MAX_REPLICATION, brokers), actual[spec.name])
    return problems


def topic_ids(kafka: KafkaSettings, names: Collection[str], *, timeout_s: float = 10) -> dict[str, str | None]:
    """The id that the cluster gave to each topic: another one after the topic was deleted and made anew.

    Returns:
        One entry for each name: the id as text, or None if there is no such topic or the cluster knows no ids (the
        embedded one).
    Raises:
        BrokerUnavailable: No answer in time.
    """
    return TopicIds(kafka).ask(names, timeout_s=timeout_s)


class TopicIds:
    """The same for those who ask again and again: one connection stays."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._client = _client(kafka)

    def ask(self, names: Collection[str], *, timeout_s: float = 10) -> dict[str, str | None]:
        """See `topic_ids`."""
        return _topic_ids(self._client, self._kafka, names, timeout_s)


class _Admin(AdminClient):
    """Knows why no broker answers: of a refused password or certificate, librdkafka's calls only say that time is over.

    What was said waits in librdkafka until it is fetched here; asking now and then keeps it short.
    """

    def __init__(self, kafka: KafkaSettings) -> None:
        self._said = deque[KafkaError](maxlen=8)
        super().__init__({**librdkafka_options(kafka), "error_cb": self._said.append})

    def forget(self) -> None:
        """What was said up to now is no reason for what comes."""
        self.poll(0)
        self._said.clear()

    def why(self) -> str:
        """What was said last; empty if nothing was."""
        self.poll(0)
        reasons = [error.str() for error in self._said if error.code() != KafkaError._ALL_BROKERS_DOWN]
        return reasons[-1] if reasons else ""


def _topic_ids(client: _Admin, kafka: KafkaSettings, names: Collection[str], timeout_s: float) -> dict[str, str | None]:
    ids: dict[str, str | None] = dict.fromkeys(names)
    _, _, administered = _metadata(client, kafka, timeout_s)
    if not administered or not names:
        return ids
    try:
        for name, future in client.describe_topics(TopicCollection(list(ids)), request_timeout=timeout_s).items():
            try:
                ids[name] = str(_result(future, timeout_s).topic_id)
            except KafkaException as error:
                if _code(error) != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise
    except (KafkaException, FutureTimeoutError) as error:
        raise _no_answer(client, kafka, "describing topics", timeout_s) from error
    return ids


def _client(kafka: KafkaSettings) -> _Admin:
    return _Admin(kafka)


def _metadata(client: _Admin, kafka: KafkaSettings, timeout_s: float) -> tuple[dict[str, tuple[int, int]], int, bool]:
    """Name to (partitions, replication); the number of brokers; whether one of them is the controller."""
    client.forget()
    try:
        metadata = client.list_topics(timeout=timeout_s)
    except KafkaException as error:
        raise _no_answer(client, kafka, "asking for the topics", timeout_s) from error
    existing = {
        name: (len(topic.partitions), min((len(p.replicas) for p in topic.partitions.values()), default=0))
        for name, topic in metadata.topics.items()
    }
    return existing, len(metadata.brokers), metadata.controller_id in metadata.brokers


def _wait_known(client: _Admin, kafka: KafkaSettings, names: list[str], timeout_s: float) -> None:
    """The controller confirms a topic a moment before the brokers know it; who asks in between finds none."""
    deadline = time.monotonic() + timeout_s
    while names:
        existing, _, _ = _metadata(client, kafka, timeout_s)
        if all(existing.get(name, (0, 0))[0] for name in names):
            return
        if time.monotonic() > deadline:
            raise _no_answer(client, kafka, "waiting for the new topics", timeout_s)
        time.sleep(0.05)


def _result(future: "Future[Any]", timeout_s: float) -> Any:
    return future.result(timeout_s + 1)


def _code(error: KafkaException) -> int:
    return int(error.args[0].code())


def _text(error: KafkaException) -> str:
    return str(error.args[0].str())


def _no_answer(client: _Admin, kafka: KafkaSettings, doing: str, timeout_s: float) -> BrokerUnavailable:
    why = client.why()
    return BrokerUnavailable(
        f"Kafka at {kafka.bootstrap_servers} gave no good answer within {timeout_s:g} s ({doing})"
        + (f": {why}" if why else "")
    )
