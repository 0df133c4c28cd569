"""Which rung is taken, with the rungs themselves replaced."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tidings.config import KafkaSettings
from tidings.errors import BrokerUnavailable
from tidings.kafka import ladder
from tidings.kafka.ladder import Broker, Rung

NOWHERE = Path("unused")


def missing(why: str) -> Callable[..., Broker]:
    def rung(*arguments: object, small: bool = True) -> Broker:
        raise BrokerUnavailable(why)

    return rung


def there(name: Rung) -> Callable[..., Broker]:
    def rung(*arguments: object, small: bool = True) -> Broker:
        skipped = next(part for part in arguments if isinstance(part, tuple))
        return Broker(name, KafkaSettings(), "a broker", skipped)

    return rung


def test_the_first_rung_that_can_be_had_is_taken_and_the_others_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "_with_docker", missing("no engine"))
    monkeypatch.setattr(ladder, "_from_jars", there("apache"))
    broker = ladder.start(NOWHERE, environ={})
    assert broker.rung == "apache"
    assert broker.describe() == (
        "Kafka: a broker (not environment: TIDINGS_KAFKA_BOOTSTRAP_SERVERS is not set; not docker: no engine)"
    )


def test_the_embedded_broker_is_taken_only_where_it_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "_with_docker", missing("no engine"))
    monkeypatch.setattr(ladder, "_from_jars", missing("no java"))
    monkeypatch.setattr(ladder, "_embedded", there("embedded"))
    with pytest.raises(BrokerUnavailable, match="docker: no engine; apache: no java"):
        ladder.start(NOWHERE, environ={})
    assert ladder.start(NOWHERE, environ={}, allow_embedded=True).rung == "embedded"


def test_a_named_kafka_that_does_not_answer_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "_from_environment", missing("k:1 does not answer"))
    monkeypatch.setattr(ladder, "_with_docker", there("docker"))
    with pytest.raises(BrokerUnavailable, match="k:1 does not answer"):
        ladder.start(NOWHERE, environ={"TIDINGS_KAFKA_BOOTSTRAP_SERVERS": "k:1"})


def test_one_rung_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "_from_jars", missing("no java"))
    with pytest.raises(BrokerUnavailable, match="no Kafka can be had here; apache: no java"):
        ladder.start(NOWHERE, environ={}, only="apache", allow_embedded=True)


def test_a_blank_variable_names_no_kafka() -> None:
    assert ladder.needs_port({"TIDINGS_KAFKA_BOOTSTRAP_SERVERS": " "})
    assert not ladder.needs_port({"TIDINGS_KAFKA_BOOTSTRAP_SERVERS": "k:1"})
