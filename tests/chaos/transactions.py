"""Foreign producers that write in transactions: committed, aborted, left hanging."""

import random
import threading
import time
from typing import Any, Final

from confluent_kafka import KafkaException, Producer

from tests.chaos.feed import Audience, Feed, value_of
from tests.chaos.recorder import Recorder
from tidings.config import KafkaSettings
from tidings.kafka.connection import librdkafka_options

__all__ = ["Transactions", "Writer"]

_TIMEOUT_S: Final = 30.0


class Writer:
    """One transactional producer, for one transaction after the other. Blocks; for a thread.

    The recorder is told of a commit or an abort only once Kafka confirmed it; after anything else the log will tell.
    """

    def __init__(self, kafka: KafkaSettings, topic: str, recorder: Recorder, name: str) -> None:
        self._kafka = kafka
        self._topic = topic
        self._recorder = recorder
        self._name = f"{name}-{random.getrandbits(48):x}"
        self._numbers: list[int] = []
        self._places: dict[int, tuple[int, int]] = {}
        self._producer: Any = None

    def begin(self) -> None:
        if self._producer is None:
            self._producer = Producer(
                {
                    **librdkafka_options(self._kafka),
                    "transactional.id": self._name,
                    "transaction.timeout.ms": 60_000,
                    "message.timeout.ms": 55_000,
                    "linger.ms": 2,
                    "reconnect.backoff.max.ms": 1000,
                }
            )
            # Ends what a producer of this name before left open.
            self._producer.init_transactions(_TIMEOUT_S)
        self._numbers = []
        self._places = {}
        self._producer.begin_transaction()

    def send(self, to: Audience, partition: int) -> int:
        number = self._recorder.next_number()
        self._recorder.truth.produced(number, to.receivers)
        places = self._places  # of this transaction, however late the answer comes

        def told(error: Any, message: Any) -> None:
            if error is None:
                places[number] = (message.partition(), message.offset())

        self._numbers.append(number)
        self._producer.produce(self._topic, value_of(number, to.written), partition=partition, on_delivery=told)
        return number

    def flush(self) -> None:
        """The records are in the log, and the transaction is open."""
        assert not self._producer.flush(_TIMEOUT_S)

    def commit(self) -> None:
        self._end(self._producer.commit_transaction)
        for number, place in self._places.items():
            self._recorder.truth.acknowledged(number, *place)

    def abort(self) -> None:
        self._end(self._producer.abort_transaction)
        for number in self._numbers:
            self._recorder.truth.aborted(number)

    def vanish(self) -> None:
        """Leave the transaction as it is; the next `begin` ends it, or the broker does after a minute."""
        self._producer = None

    def _end(self, how: Any) -> None:
        deadline = time.monotonic() + _TIMEOUT_S
        while True:
            try:
                how(5)
                return
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    self.vanish()
                    raise


class Transactions:
    """A thread that writes short transactions beside a feed, half of them aborted."""

    def __init__(self, kafka: KafkaSettings, feed: Feed, recorder: Recorder, seed: int = 0) -> None:
        self.committed = 0
        self.aborted = 0
        self.uncertain = 0
        self._feed = feed
        self._writer = Writer(kafka, feed.topic, recorder, "chaos")
        self._random = random.Random(seed)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="transactions", daemon=True)
        self._broken: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the last one too, so that nothing hangs when this returns."""
        self._stopping.set()
        self._thread.join()
        if self._broken is not None:
            raise self._broken

    def _run(self) -> None:
        try:
            while not self._stopping.wait(0.05):
                self._one()
            deadline = time.monotonic() + 4 * _TIMEOUT_S
            while self._writer._producer is None and time.monotonic() < deadline:
                self._one()
        except BaseException as error:
            self._broken = error

    def _one(self) -> None:
        chance, writer = self._random, self._writer
        try:
            writer.begin()
            for _ in range(chance.randint(1, 8)):
                writer.send(chance.choice(self._feed.audiences), chance.randrange(self._feed.partitions))
            if chance.random() < 0.5:
                writer.commit()
                self.committed += 1
            else:
                writer.abort()
                self.aborted += 1
        except (KafkaException, BufferError, AssertionError):
            self.uncertain += 1
            writer.vanish()
