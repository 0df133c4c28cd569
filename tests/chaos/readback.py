"""The log itself, read by another client than the gateway's: what was committed, whatever the producer was told."""

import re
import time
from collections.abc import Iterator
from typing import Final

from confluent_kafka import Consumer, KafkaError, TopicPartition

from tests.chaos.truth import LogEntry
from tidings.config import KafkaSettings
from tidings.kafka.connection import librdkafka_options

__all__ = ["read_log"]

_NUMBER: Final = re.compile(rb'"n":(\d+)')
_SILENCE_S: Final = 60.0


def read_log(kafka: KafkaSettings, topic: str, partitions: int) -> Iterator[tuple[int, list[LogEntry]]]:
    """All committed records of each partition, in order. Blocks; for a thread. Nothing may be open in the topic."""
    consumer = Consumer(
        {
            **librdkafka_options(kafka),
            "group.id": "unused",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
        }
    )
    try:
        for partition in range(partitions):
            # From the log's own start: an offset of 0 would be out of range once retention cut it.
            consumer.assign([TopicPartition(topic, partition, -2)])
            yield partition, list(_entries(consumer, f"{topic}/{partition}"))
    finally:
        consumer.close()


def _entries(consumer: Consumer, name: str) -> Iterator[LogEntry]:
    deadline = time.monotonic() + _SILENCE_S
    while True:
        for message in consumer.consume(2000, timeout=0.5):
            deadline = time.monotonic() + _SILENCE_S
            error = message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    return
                assert error.retriable(), f"{name}: {error}"
                continue
            found = _NUMBER.search(message.value() or b"")
            offset = message.offset()
            if found is not None and offset is not None:
                yield LogEntry(offset, int(found[1]), message.timestamp()[1])
        assert time.monotonic() < deadline, f"{name}: nothing more comes, and no end"
