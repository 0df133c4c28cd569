"""What `Modifications` decides before Kafka is asked. What a broker does is in tests/integration."""

from collections.abc import Coroutine

import pytest

from tidings.errors import ConfigError, InvalidState
from tidings.producer import Modifications


def run(step: Coroutine[object, object, object]) -> None:
    """A coroutine that needs no event loop, because it never waits."""
    with pytest.raises(StopIteration):
        step.send(None)


def test_sending_needs_an_open_connection() -> None:
    modifications = Modifications(bootstrap_servers="127.0.0.1:9092")
    with pytest.raises(InvalidState, match="async with"):
        run(modifications.send(["a"], "t", 1))


def test_the_environment_names_brokers_topic_and_security() -> None:
    modifications = Modifications.from_environment(
        timeout_s=7,
        environ={
            "TIDINGS_KAFKA_BOOTSTRAP_SERVERS": "kafka-1:9092,kafka-2:9092",
            "TIDINGS_MODIFICATIONS_TOPIC": "elsewhere",
            "TIDINGS_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "TIDINGS_KAFKA_SECURITY_SASL_MECHANISM": "SCRAM-SHA-512",
            "TIDINGS_KAFKA_SECURITY_SASL_USERNAME": "alice",
            "TIDINGS_KAFKA_SECURITY_SASL_PASSWORD": "secret",
        },
    )
    assert modifications._bootstrap_servers == "kafka-1:9092,kafka-2:9092"
    assert modifications._topic == "elsewhere"
    assert modifications._options["sasl_mechanism"] == "SCRAM-SHA-512"
    assert "secret" not in repr(modifications)


def test_all_faults_of_the_environment_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Modifications.from_environment(
            environ={"TIDINGS_KAFKA_SECURITY_PROTOCOL": "TLS", "TIDINGS_MODIFICATIONS_TOPIC": "no spaces"}
        )
    assert len(caught.value.faults) == 2
