"""Sending modifications from a Python service.

async with Modifications(bootstrap_servers="127.0.0.1:9092") as modifications:
    await modifications.send(["alice", "bob"], "update", {"text": "hi"}, key=chat_id)
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Final, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from tidings.contract.parts import Part, split
from tidings.contract.record import VALUE_TOO_BIG
from tidings.errors import BrokerUnavailable, InvalidState, RecordTooBig
from tidings.kafka.reachability import telling_why
from tidings.uuid7 import RANDOM_BYTES, uuid7

__all__ = ["Modifications"]

_MAX_REQUEST_BYTES: Final = 4 * 1024 * 1024
"""As `max.message.bytes` of the topic: a value of the contract's size and its key and headers fit well."""
_BATCH_BYTES: Final = 128 * 1024
_LINGER_MS: Final = 2


class Modifications:
    """A connection to the `modifications` topic, for as long as `async with` lasts. Event loop thread only.

    What is sent is checked first: nothing that readers would find poison leaves this process. Records are acknowledged
    by all in-sync replicas, and retries inside one `send` make no repeats (idempotent producer).

    Memory: per partition one batch being filled and one on its way, each up to 128 KiB or one bigger record, and the
    values of those who wait in `send`; so it is the number of `send` calls at a time that bounds it.
    """

    def __init__(
        self,
        *,
        bootstrap_servers: str,
        topic: str = "modifications",
        timeout_s: float = 30,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Nothing is connected yet.

        Args:
            bootstrap_servers: `host:port`, several separated by commas.
            topic: Must exist.
            timeout_s: What one call may take at most: connecting, a `send`, closing.
            options: More of aiokafka's keyword arguments, such as those of TLS and SASL.
        """
        self._bootstrap_servers = bootstrap_servers
        self._topic = topic
        self._timeout_s = timeout_s
        self._options = dict(options or {})
        self._producer: AIOKafkaProducer | None = None
        self._opening = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self._open = False

    @classmethod
    def from_environment(cls, *, timeout_s: float = 30, environ: Mapping[str, str] | None = None) -> Self:
        """With what `TIDINGS_KAFKA_*` say of the brokers, and the topic of `TIDINGS_MODIFICATIONS_TOPIC`.

        Raises:
            ConfigError: With all faults of these settings at once.
        """
        # Only who asks for the environment needs the settings' libraries.
        from tidings.config import KafkaSettings, TopicSettings, load
        from tidings.kafka.connection import aiokafka_options

        kafka, topics = load(KafkaSettings, TopicSettings, environ=environ)
        options = aiokafka_options(kafka)
        return cls(
            bootstrap_servers=options.pop("bootstrap_servers"),
            topic=topics.modifications,
            timeout_s=timeout_s,
            options=options,
        )

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            BrokerUnavailable: No broker answered in time.
        """
        self._open = True
        try:
            await self._bounded(self._connected)
        except BaseException:
            await self._aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait for what is still on its way, up to the time limit, and disconnect."""
        await self._aclose()

    async def send(
        self,
        receivers: Iterable[object],
        type: str,  # noqa: A002 - the name in the contract
        data: object,
        *,
        key: str | bytes | None = None,
        id: str | None = None,  # noqa: A002 - the name in the contract
        context: object = None,
    ) -> None:
        """Send one modification; returned means acknowledged, all of it.

        Over 5,000 receivers it becomes several records (`tidings.contract.parts`). Of two modifications with the same
        key, the one whose `send` was called after the other's had returned comes after it.

        Args:
            receivers: User ids; repeats count once; none at all: nothing is sent.
            type: What happened; names that begin with `$` are reserved.
            data: Bytes are JSON already and reach clients unchanged; anything else is encoded.
            key: The chat's id, so that what happens in one chat stays in order. Without: any partition.
            id: Names this modification, so that a repeat within 10 minutes is delivered to nobody. Give your own to
                send again after a failure; by default a new UUIDv7.
            context: Facts for edges of other protocols; see the contract.
        Raises:
            ContractError: Readers would refuse it, and nothing was sent; or the topic's size limit is lower than the
                contract's, and other parts may have been sent.
            BrokerUnavailable: Not acknowledged in time, or refused by Kafka. It, or some of its parts, may still
                arrive: send again with the same `id`.
            InvalidState: Outside of `async with`; or an empty id or one of over 256 characters.
        """
        if not self._open:
            raise InvalidState("send() outside of `async with`")
        if id is None:
            id = str(uuid7(time.time_ns() // 1_000_000, os.urandom(RANDOM_BYTES)))  # noqa: A001
        elif not 1 <= len(id) <= 256:
            raise InvalidState("an id has 1 to 256 characters")
        parts = split(receivers, type, data, id=id, context=context)
        if not parts:
            return
        key_bytes = key.encode() if isinstance(key, str) else key

        async def produce() -> None:
            producer = await self._connected()
            try:
                # In one gather, so that no failure is left behind unseen when another comes first.
                await asyncio.gather(*(self._produce(producer, key_bytes, part) for part in parts))
            except MessageSizeTooLargeError as error:
                self._abandon(producer)
                raise RecordTooBig(VALUE_TOO_BIG, "with key and headers over what the topic takes") from error
            except KafkaError:
                # A batch that failed for good leaves a hole in its partition's sequence numbers. aiokafka 0.14 does
                # not mend it: the broker would refuse all that follows as out of order. A new producer begins anew.
                self._abandon(producer)
                raise

        await self._bounded(produce)

    async def _produce(self, producer: AIOKafkaProducer, key: bytes | None, part: Part) -> None:
        acknowledged = await producer.send(self._topic, value=part.value, key=key, headers=[("id", part.id.encode())])
        await acknowledged

    async def _bounded(self, step: Callable[[], Any]) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await step()
        except TimeoutError as error:
            raise BrokerUnavailable(
                f"topic {self._topic} at {self._bootstrap_servers}: no acknowledgement in {self._timeout_s:g} s"
            ) from error
        except (KafkaError, OSError) as error:
            raise BrokerUnavailable(
                f"topic {self._topic} at {self._bootstrap_servers}: {error.__class__.__name__}: {error}"
            ) from error

    async def _connected(self) -> AIOKafkaProducer:
        async with self._opening:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **{
                        "bootstrap_servers": self._bootstrap_servers,
                        "acks": "all",
                        "enable_idempotence": True,
                        "linger_ms": _LINGER_MS,
                        "max_batch_size": _BATCH_BYTES,
                        "max_request_size": _MAX_REQUEST_BYTES,
                        # A broker that went silent is given up on early enough to try another within one send().
                        "request_timeout_ms": max(1000, int(self._timeout_s * 1000 / 3)),
                    }
                    | self._options
                )
                try:
                    with telling_why():
                        await producer.start()
                except BaseException:
                    await _stop(producer, 0)
                    raise
                self._producer = producer
            return self._producer

    def _abandon(self, producer: AIOKafkaProducer) -> None:
        """The next send() gets a new producer; this one ends once its other callers have their answers."""
        if self._producer is producer:
            self._producer = None
            task = asyncio.create_task(_stop(producer, self._timeout_s))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _aclose(self) -> None:
        self._open = False
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stop(producer, self._timeout_s)
        await asyncio.gather(*self._closing)


async def _stop(producer: AIOKafkaProducer, timeout_s: float) -> None:
    """Flush and close. aiokafka would flush for ever while no broker answers."""
    try:
        async with asyncio.timeout(timeout_s):
            await producer.stop()
    except TimeoutError:
        await producer._sender.close()
        await producer.client.close()
