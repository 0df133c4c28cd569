"""The relay's records into Kafka, each batch one transaction, and none by a process that was replaced."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tidings.config import KafkaSettings
from tidings.errors import BrokerUnavailable
from tidings.kafka.connection import librdkafka_options
from tidings.messaging.relay.rows import Row
from tidings.messaging.relay.thread import Thread

__all__ = ["TRANSACTION_S", "ProduceFailed", "TransactionalProducer", "shut_out", "transactional_ids"]

TRANSACTION_S: Final = 10.0
"""So long a transaction may be open, and one call may take. While one is open no reader sees anything beyond it in the
same partitions; whoever takes over ends it at once."""
_LANES: Final = 2
"""Producers that take turns. A commit is acknowledged some milliseconds before the coordinator has written its markers,
and until then it refuses the same producer's next transaction, which librdkafka tries again after 20 ms. One waits for
the other's acknowledgement, so the order is that of a single one."""
_MAX_REQUEST_BYTES: Final = 4 * 1024 * 1024
_ABORT_S: Final = 2.0
_FENCED: Final = frozenset({KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH})
_REFUSED: Final = frozenset(
    {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG, KafkaError.INVALID_RECORD, KafkaError.POLICY_VIOLATION}
)


def transactional_ids(topic: str, name: str) -> list[str]:
    """What Kafka knows the producer of that name by: the newest to open it shuts out all before."""
    return [f"{topic}-relay-{name}-{lane}" for lane in range(_LANES)]


class ProduceFailed(BrokerUnavailable):
    """The batch is not in Kafka, or nobody knows: begin again with a new producer.

    Attributes:
        reason: `fenced` (another process has taken over), `refused` (the broker will not have a record, as too big for
            the topic), or `kafka`.
    """

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        super().__init__(detail)


class TransactionalProducer:
    """librdkafka's transactional producers of one name. After any error it is of no more use: `close` it.

    Its calls block, so they run in a thread of its own; one at a time. Cancelled is only the waiting for them.
    """

    def __init__(self, kafka: KafkaSettings, topic: str, name: str, *, transaction_s: float = TRANSACTION_S) -> None:
        """Nothing is connected yet.

        Args:
            name: Whoever opens a producer of the same name shuts this one out.
            transaction_s: In place of `TRANSACTION_S`, at least a second for real use.
        """
        self._topic = topic
        self._transaction_s = transaction_s
        self._failed: KafkaError | None = None
        self._options: dict[str, Any] = {
            **librdkafka_options(kafka),
            "transaction.timeout.ms": max(1000, int(transaction_s * 1000)),
            "acks": "all",
            # The rows of a batch are all there: nothing is worth waiting for.
            "linger.ms": 0,
            "socket.nagle.disable": True,
            "message.max.bytes": _MAX_REQUEST_BYTES,
            # As Java's and aiokafka's producers place keys, so that a chat is in one partition whoever writes.
            "partitioner": "murmur2_random",
            # Kafka back after an outage is found within a second and not within ten.
            "reconnect.backoff.max.ms": 1000,
            "delivery.report.only.error": True,
            "on_delivery": self._undelivered,
        }
        self._ids = transactional_ids(topic, name)
        self._producers: list[Any] = []
        self._turn = 0
        self._open = False
        self._thread = Thread("relay-producer")

    async def open(self) -> None:
        """Connect, and shut out every producer of this name before us: what they had open is ended, unwritten.

        Raises:
            ProduceFailed: Kafka did not answer in `TRANSACTION_S`.
        """

        def begin() -> None:
            # In no local name: an error's traceback would keep the producer alive, and as long as it lives librdkafka
            # goes on trying. After an outage it would shut its own successor out.
            for id_ in self._ids:
                self._producers.append(Producer({**self._options, "transactional.id": id_}))
                self._producers[-1].init_transactions(self._transaction_s)

        await self._call(begin)

    async def send(self, rows: Sequence[Row]) -> None:
        """Begin a transaction with these records, in their order. Nobody sees them before `commit`.

        Raises:
            ProduceFailed: Certainly not in Kafka.
        """

        def produce() -> None:
            self._turn = (self._turn + 1) % _LANES
            self._producers[self._turn].begin_transaction()
            self._open = True
            for row in rows:
                self._producers[self._turn].produce(
                    self._topic, row.value, row.key, headers=[("id", row.event_id.encode())]
                )

        await self._call(produce)

    async def commit(self) -> None:
        """Returned means: all of it is in Kafka, acknowledged by all in-sync replicas.

        Raises:
            ProduceFailed: None of it is; or all, and the answer was lost.
        """

        def commit() -> None:
            self._producers[self._turn].commit_transaction(self._transaction_s)
            self._open = False

        await self._call(commit)

    def close(self) -> None:
        """Let go of it; what is not committed never will be. Returns at once."""
        self._thread.close(self._drop)

    def _drop(self) -> None:
        if self._open:
            # Left open it would hold back all readers until it times out. Who was shut out can't end anything any more.
            with contextlib.suppress(KafkaException):
                self._producers[self._turn].abort_transaction(_ABORT_S)
        while self._producers:
            self._producers[-1].purge()  # else its end would wait for records that are not wanted any more
            self._producers.pop()

    async def _call(self, blocking: Callable[[], None]) -> None:
        try:
            await self._thread.call(blocking)
        except (KafkaException, BufferError) as error:
            raise self._told(error) from error

    def _told(self, error: Exception) -> ProduceFailed:
        cause = error.args[0] if isinstance(error, KafkaException) else None
        for told in (cause, self._failed):  # the call's own error often only says that records failed
            if isinstance(told, KafkaError) and told.code() in _FENCED:
                return ProduceFailed("fenced", f"another process has taken over: {told}")
            if isinstance(told, KafkaError) and told.code() in _REFUSED:
                return ProduceFailed("refused", f"the broker will not have a record: {told}")
        return ProduceFailed("kafka", str(self._failed or cause or error))

    def _undelivered(self, error: KafkaError | None, message: Message) -> None:
        # In the thread that waits in commit_transaction(). The first error is the cause, the others follow from it.
        if error is not None and self._failed is None:
            self._failed = error


async def shut_out(kafka: KafkaSettings, topic: str, name: str) -> None:
    """Let no producer of that name write any more, unless it is opened anew; what it has open ends unwritten.

    Raises:
        ProduceFailed: Kafka did not answer in `TRANSACTION_S`.
    """
    successor = TransactionalProducer(kafka, topic, name)
    try:
        await successor.open()
    finally:
        successor.close()
