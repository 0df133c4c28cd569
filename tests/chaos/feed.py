"""What the other services would produce: numbered records with ids, some of them twice, and transactions."""

import json
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer

from tests.chaos.recorder import Recorder
from tidings.config import KafkaSettings
from tidings.kafka.connection import librdkafka_options

__all__ = ["Audience", "Feed", "Mix", "audience", "value_of"]

_MESSAGE_TIMEOUT_MS: Final = 600_000


class Audience(NamedTuple):
    """Receivers, and how a producer writes them."""

    receivers: frozenset[str]
    written: bytes


def audience(receivers: Sequence[str], chance: random.Random | None = None) -> Audience:
    """As producers write them: in any order, some ids that are numbers without quotes, some characters escaped."""
    chance = chance or random.Random(0)
    written = [
        int(name) if name.isdigit() and chance.random() < 0.5 else name
        for name in chance.sample(list(receivers), len(receivers))
    ]
    text = json.dumps(written, ensure_ascii=chance.random() < 0.5, separators=(",", ":"))
    return Audience(frozenset(receivers), text.encode())


def value_of(number: int, written: bytes, filling: int = 0) -> bytes:
    """A record's value; the data begins with the number and the time of production in nanoseconds (monotonic)."""
    data = b'{"n":%d,"t":%d,"f":"%s"}' % (number, time.monotonic_ns(), b"x" * filling)
    return b'{"receivers":%s,"type":"u","data":%s}' % (written, data)


@dataclass(frozen=True)
class Mix:
    """What a background feed is made of. Shares are of all records.

    Attributes:
        rate: Records per second; what an outage held up is made up for afterwards.
        ids: Share with a header `id`.
        repeats: Share that stands a second time, near or far behind the first.
        strangers: Share that nobody here receives.
        filling: Bytes of ballast, on average.
    """

    rate: float = 300.0
    ids: float = 0.5
    repeats: float = 0.05
    strangers: float = 0.1
    filling: int = 40


class _Again(NamedTuple):
    """A modification that its producer sends again."""

    due: int
    partition: int
    audience: Audience
    id: bytes


class Feed:
    """Produces to one topic with one idempotent producer, and tells the recorder what and what became of it.

    Args:
        partitions: Those that are written to; may be raised while it runs.
        audiences: Whom records are for; each record draws one.
    """

    def __init__(self, kafka: KafkaSettings, topic: str, recorder: Recorder, *, partitions: int, seed: int = 0) -> None:
        self.topic = topic
        self.partitions = partitions
        self.audiences: Sequence[Audience] = ()
        self.failures: list[str] = []
        self._kafka = kafka
        self._recorder = recorder
        self._random = random.Random(seed)
        self._again: list[_Again] = []
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._sent = 0
        self._broken: BaseException | None = None
        self._lock = threading.Lock()
        self._producer: Any = self._make()

    def _make(self) -> Any:
        return Producer(
            {
                **librdkafka_options(self._kafka),
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 2,
                "message.timeout.ms": _MESSAGE_TIMEOUT_MS,
                "reconnect.backoff.max.ms": 1000,
                "topic.metadata.refresh.interval.ms": 2000,
                "queue.buffering.max.messages": 1_000_000,
                "queue.buffering.max.kbytes": 512 * 1024,
            }
        )

    def send(
        self,
        to: Audience,
        *,
        partition: int | None = None,
        id_: bytes | None = None,
        filling: int = 0,
    ) -> int:
        """One record; its number. Any thread."""
        with self._lock:
            number = self._recorder.next_number()
            self._recorder.truth.produced(number, to.receivers, id_)
            value = value_of(number, to.written, filling)
            headers = [("id", id_)] if id_ is not None else []
            if partition is None:
                partition = self._random.randrange(self.partitions)
            self._produce(number, value, partition, headers)
            return number

    def poll(self) -> None:
        """Hear what became of records; does not wait."""
        self._producer.poll(0)

    def flush(self, timeout_s: float = 120) -> None:
        """Until Kafka has answered for all."""
        left = self._producer.flush(timeout_s)
        assert not left, f"{left} records are not acknowledged after {timeout_s} s"

    def begin(self, mix: Mix) -> None:
        """Produce in a thread of its own until `stop`."""
        assert self._thread is None
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, args=(mix,), name="feed", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what it sent may still be on its way."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._broken is not None:
            raise self._broken

    def close(self) -> None:
        self.stop()
        self._producer.purge()
        self._producer.flush(1)

    def _produce(self, number: int, value: bytes, partition: int, headers: list[tuple[str, bytes]]) -> None:
        def told(error: Any, message: Any) -> None:
            if error is None:
                self._recorder.truth.acknowledged(number, message.partition(), message.offset())
            else:
                self.failures.append(str(error))  # it may be in the log or not: the log will tell

        while True:
            try:
                self._producer.produce(self.topic, value, partition=partition, headers=headers, on_delivery=told)
                break
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                if error.args[0].code() == KafkaError._UNKNOWN_PARTITION:
                    # Added a moment ago: this client's brokers may not know it yet.
                    self._producer.list_topics(self.topic, timeout=10)
                    self._producer.poll(0.1)
                    continue
                if not error.args[0].fatal():
                    raise
                self._producer.purge()
                self._producer.flush(5)
                self._producer = self._make()
        self._producer.poll(0)

    def _run(self, mix: Mix) -> None:
        try:
            self._run_mix(mix)
        except BaseException as error:
            self._broken = error

    def _run_mix(self, mix: Mix) -> None:
        began = time.monotonic()
        sent = 0
        while not self._stopping.is_set():
            due = int((time.monotonic() - began) * mix.rate)
            # Made up for gently: what an outage held up must not come as one lump of seconds of work.
            for _ in range(min(due - sent, 500)):
                self._send_one(mix)
                sent += 1
            self._producer.poll(0)
            self._stopping.wait(0.005)

    def _send_one(self, mix: Mix) -> None:
        chance = self._random
        self._sent += 1
        if self._again and self._again[0].due <= self._sent:
            again = self._again.pop(0)
            self.send(again.audience, partition=again.partition, id_=again.id)
            return
        if chance.random() < mix.strangers:
            to = audience([f"stranger-{chance.randrange(1000)}"], chance)
        else:
            to = chance.choice(self.audiences)
        partition = chance.randrange(self.partitions)
        id_ = b"%x" % chance.getrandbits(64) if chance.random() < mix.ids else None
        filling = int(chance.expovariate(1 / mix.filling)) if mix.filling else 0
        self.send(to, partition=partition, id_=id_, filling=filling)
        if id_ is not None and chance.random() < mix.repeats / max(mix.ids, 0.001):
            # Near: a retry. Far: a relay that came back after an outage; still well within 20,000 of one partition.
            distance = chance.choice([1, 10, 1_000, 10_000])
            self._again.append(_Again(self._sent + distance, partition, to, id_))
            self._again.sort()
