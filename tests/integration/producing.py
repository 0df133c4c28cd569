"""Producing for tests with librdkafka, a client that is not the gateway's own."""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from tidings.config import KafkaSettings
from tidings.kafka.connection import librdkafka_options

__all__ = ["Stored", "numbered", "produce", "producer", "read_all", "transaction"]

Headers = Sequence[tuple[str, bytes]]


class Stored(NamedTuple):
    """A record as the log has it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def numbered(numbers: Iterable[int], *receivers: str, filling: str = "") -> list[bytes]:
    """Values with data `{"n": number}`, each filled up with `filling`."""
    return [
        json.dumps({"receivers": receivers, "type": "update", "data": {"n": number, "f": filling}}).encode()
        for number in numbers
    ]


def producer(kafka: KafkaSettings, **settings: Any) -> Any:
    """librdkafka's producer; settings by their names with `_` in place of `.`."""
    return Producer(
        {
            **librdkafka_options(kafka),
            "acks": "all",
            "log_level": 0,
            "message.max.bytes": 4 * 1024 * 1024,
            "batch.size": 4 * 1024 * 1024,
            "linger.ms": 50,
            **{name.replace("_", "."): value for name, value in settings.items()},
        }
    )


def produce(
    kafka: KafkaSettings,
    topic: str,
    values: Iterable[bytes | None],
    *,
    partition: int,
    headers: Headers = (),
    timeout_s: float = 60,
    **settings: Any,
) -> None:
    """Send the values to one partition as one batch, if they fit in one, and wait for the acknowledgement of all."""
    failures: list[str] = []

    def told(error: object, message: Message) -> None:
        if error is not None:
            failures.append(str(error))

    client = producer(kafka, **settings)
    for value in values:
        client.produce(topic, value=value, partition=partition, headers=list(headers), on_delivery=told)
    assert client.flush(timeout_s) == 0
    assert not failures, failures[0]


@contextmanager
def transaction(kafka: KafkaSettings, topic: str, values: Iterable[bytes], *, partition: int) -> Iterator[Any]:
    """A transaction whose records are written and which is still open; end it with the client that is given."""
    client = producer(kafka, transactional_id=f"test-{time.monotonic_ns()}")
    client.init_transactions(30)
    client.begin_transaction()
    for value in values:
        client.produce(topic, value=value, partition=partition)
    assert client.flush(30) == 0
    yield client


def read_all(kafka: KafkaSettings, topic: str, partitions: int) -> list[Stored]:
    """Every committed record of the topic.

    A commit is acknowledged a moment before its markers are written, and until then nobody sees its records: so what is
    under way is waited for, some seconds at most.
    """
    options = {**librdkafka_options(kafka), "group.id": "unused", "enable.auto.commit": False}
    consumer, uncommitted = Consumer(options), Consumer({**options, "isolation.level": "read_uncommitted"})
    stored: list[Stored] = []
    for number in range(partitions):
        partition = TopicPartition(topic, number, 0)
        decided = time.monotonic() + 5
        while (high := _end(consumer, partition)) < _end(uncommitted, partition) and time.monotonic() < decided:
            time.sleep(0.02)
        consumer.assign([partition])
        deadline = time.monotonic() + 30
        while consumer.position([partition])[0].offset < high and high and time.monotonic() < deadline:
            for message in consumer.consume(1000, timeout=0.2):
                assert message.error() is None
                stored.append(_stored(message))
    consumer.close()
    uncommitted.close()
    return stored


def _stored(message: Any) -> Stored:
    return Stored(message.partition(), message.offset(), message.key(), message.value(), list(message.headers() or []))


def _end(consumer: Any, partition: TopicPartition) -> int:
    """The broker may need a moment to know that it leads a new partition."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return int(consumer.get_watermark_offsets(partition, timeout=10)[1])
        except KafkaException as error:
            if not error.args[0].retriable() and error.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION:
                raise
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
