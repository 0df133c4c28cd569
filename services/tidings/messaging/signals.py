"""Sending to the topic `signals`: what is worth something only now, and is lost rather than late."""

from collections.abc import Sequence
from typing import Any, Final

from confluent_kafka import KafkaException, Producer

from tidings.config import KafkaSettings
from tidings.contract.parts import split
from tidings.kafka.connection import librdkafka_options
from tidings.metrics import Metrics

__all__ = ["SignalProducer"]

_WORTH_MS: Final = 5_000
"""Older than this, a signal misleads."""
_MAX_WAITING: Final = 10_000
_MAX_WAITING_KIB: Final = 16_384
_CLOSE_S: Final = 1.0


class SignalProducer:
    """A producer that never makes anybody wait. At most 10,000 records or 16 MiB wait for Kafka, each at most 5 s."""

    def __init__(self, kafka: KafkaSettings, topic: str, metrics: Metrics) -> None:
        """Connects in the background."""
        self._topic = topic
        self._dropped = metrics.counter("tidings_messaging_signals_dropped_total")
        self._producer: Any = Producer(
            {
                **librdkafka_options(kafka),
                "acks": 1,
                "linger.ms": 5,
                "message.timeout.ms": _WORTH_MS,
                "queue.buffering.max.messages": _MAX_WAITING,
                "queue.buffering.max.kbytes": _MAX_WAITING_KIB,
                "partitioner": "murmur2_random",
                "delivery.report.only.error": True,
                "on_delivery": self._undelivered,
            },
            logger=_Silent(),
        )

    def send(
        self,
        key: str,
        receivers: Sequence[str],
        type: str,  # noqa: A002 - the name in the contract
        data: dict[str, Any],
        context: dict[str, Any],
    ) -> bool:
        """Hand it to the background; whether there was room. Cost: no waiting, about 10 µs.

        Raises:
            ContractError: Readers would refuse it.
        """
        self._producer.poll(0)
        try:
            for part in split(receivers, type, data, id="", context=context):
                self._producer.produce(self._topic, key=key.encode(), value=part.value)
        except (BufferError, KafkaException):
            self._dropped.inc()
            return False
        return True

    def close(self) -> None:
        """Send what waits, for at most a second, and drop the rest. Blocking."""
        self._producer.flush(_CLOSE_S)
        self._producer.purge()

    def _undelivered(self, error: object, message: object) -> None:
        self._dropped.inc()


class _Silent:
    """librdkafka says again and again that no broker answers; the relay's metrics say that once and better."""

    def log(self, *args: object) -> None:
        return
