"""Signals on a real Kafka: at once or never, and nobody waits for them."""

import time
from typing import Any

import pytest

from tests.integration.producing import Stored, read_all
from tidings.config import KafkaSettings, TopicSettings
from tidings.contract.record import decode
from tidings.kafka.ladder import Broker
from tidings.messaging import signals
from tidings.messaging.signals import SignalProducer
from tidings.metrics import Metrics

CONTEXT = {"at_us": 1}


@pytest.fixture
def nowhere(free_port: Any) -> KafkaSettings:
    """A Kafka that does not answer."""
    return KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def dropped(metrics: Metrics) -> float:
    return metrics.value("tidings_messaging_signals_dropped_total")


def arrived(kafka: Broker, topics: TopicSettings, count: int) -> list[Stored]:
    """What the topic holds once so many records are there."""
    deadline = time.monotonic() + 30
    while len(found := read_all(kafka.settings, topics.signals, topics.partitions)) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} arrived"
        time.sleep(0.1)
    return found


def test_a_signal_arrives_with_its_key_and_its_context(kafka: Broker, topics: TopicSettings, metrics: Metrics) -> None:
    producer = SignalProducer(kafka.settings, topics.signals, metrics)
    assert producer.send("chat-1", ["bob"], "typing", {"user_id": "alice"}, CONTEXT)
    assert producer.send("chat-1", [], "typing", {"user_id": "alice"}, CONTEXT), "nobody to tell"
    (stored,) = arrived(kafka, topics, 1)
    producer.close()
    assert stored.key == b"chat-1"
    assert stored.value is not None
    record = decode(stored.value)
    assert (list(record.receivers), record.type, bytes(record.data)) == (["bob"], "typing", b'{"user_id":"alice"}')
    assert dropped(metrics) == 0


def test_a_chats_signals_lie_in_one_partition(kafka: Broker, topics: TopicSettings, metrics: Metrics) -> None:
    producer = SignalProducer(kafka.settings, topics.signals, metrics)
    keys = [f"chat-{number}" for number in range(20)]
    for key in keys * 2:
        assert producer.send(key, ["bob"], "typing", {}, CONTEXT)
    places: dict[bytes | None, set[int]] = {}
    for stored in arrived(kafka, topics, 40):
        places.setdefault(stored.key, set()).add(stored.partition)
    producer.close()
    assert {key.encode() for key in keys} == places.keys()
    assert all(len(partitions) == 1 for partitions in places.values())
    assert len({partition for partitions in places.values() for partition in partitions}) == topics.partitions


def test_while_kafka_is_away_signals_are_dropped_and_nobody_waits(
    nowhere: KafkaSettings, monkeypatch: pytest.MonkeyPatch, metrics: Metrics
) -> None:
    monkeypatch.setattr(signals, "_MAX_WAITING", 50)
    producer = SignalProducer(nowhere, "signals", metrics)
    begin = time.monotonic()
    sent = [producer.send("chat-1", ["bob"], "typing", {}, CONTEXT) for _ in range(200)]
    assert time.monotonic() - begin < 1
    assert (sent.count(True), dropped(metrics)) == (50, 150)
    begin = time.monotonic()
    producer.close()
    assert time.monotonic() - begin < 3


def test_an_old_signal_is_not_sent_when_kafka_comes_back(
    nowhere: KafkaSettings, monkeypatch: pytest.MonkeyPatch, metrics: Metrics
) -> None:
    monkeypatch.setattr(signals, "_WORTH_MS", 300)
    producer = SignalProducer(nowhere, "signals", metrics)
    assert producer.send("chat-1", ["bob"], "typing", {}, CONTEXT)
    deadline = time.monotonic() + 10
    while not dropped(metrics) and time.monotonic() < deadline:
        time.sleep(0.1)
        producer.send("chat-1", [], "typing", {}, CONTEXT)
    assert dropped(metrics) == 1
    producer.close()
