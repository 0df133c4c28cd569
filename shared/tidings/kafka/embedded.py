"""A broker for a machine that has none: librdkafka's built-in cluster, inside this process and in memory only."""

from types import TracebackType
from typing import Final, Self

from confluent_kafka import KafkaException, Producer

from tidings.errors import BrokerUnavailable

__all__ = ["CANNOT", "EmbeddedKafka"]

CANNOT: Final = (
    "in memory, about 5 MB kept per partition, 4 partitions, no topic settings, no restart, gone with this process:"
    " to try things out, not for tests of guarantees"
)
"""One line on what it lacks; shown wherever it is used."""


class EmbeddedKafka:
    """Speaks the real protocol on the loopback address. Topics appear when they are first asked for.

    It lives as long as this object: `stop` ends it, and what was produced is gone.
    """

    def __init__(self, brokers: int = 1) -> None:
        # The mock cluster belongs to this client instance, which is used for nothing else.
        self._owner: Producer | None = Producer({"test.mock.num.brokers": brokers, "log_level": 0})
        try:
            found = self._owner.list_topics(timeout=10).brokers.values()
        except KafkaException as error:
            self._owner = None
            raise BrokerUnavailable("librdkafka's built-in cluster did not start") from error
        self.bootstrap_servers = ",".join(f"{broker.host}:{broker.port}" for broker in found)

    @property
    def alive(self) -> bool:
        return self._owner is not None

    def make_topics(self, names: list[str]) -> None:
        """Have the topics exist before a reader looks for them; it can't be told partitions or settings."""
        assert self._owner is not None
        for name in names:
            self._owner.list_topics(name, timeout=10)

    def stop(self) -> None:
        """End the cluster. Clients see closed connections. May be called again."""
        self._owner = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
