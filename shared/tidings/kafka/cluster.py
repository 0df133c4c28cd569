"""The brokers as a reader sees them: connections, partitions and who leads them, and which offsets they hold."""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any, Final

import aiokafka.errors as kafka_errors
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.protocol.offset import OffsetRequest

from tidings.errors import BrokerUnavailable
from tidings.kafka.fetch_codec import LeaderFetchRequest
from tidings.kafka.fetch_connection import FetchConnection
from tidings.kafka.fetch_session import Partition
from tidings.kafka.reachability import telling_why

__all__ = ["AWAY", "Cluster", "Start"]

log = logging.getLogger(__name__)

AWAY: Final = (BrokerUnavailable, kafka_errors.KafkaError, OSError, TimeoutError)
"""What a call raises when a broker does not answer, or not yet as it should: try again."""

_READ_COMMITTED: Final = 1
_REQUEST_TIMEOUT_MS: Final = 10_000
_REBOOTSTRAP_S: Final = 15.0


class Start(IntEnum):
    """Which offset of a partition is meant, where no timestamp is."""

    LATEST = -1
    EARLIEST = -2


class Cluster:
    """One aiokafka client, and what is asked of it.

    Args:
        options: aiokafka's connection options (`tidings.kafka.connection.aiokafka_options`).
        topics: The topics whose partitions are watched.
        metadata_max_age_s: New partitions and leaders are noticed within this time.
    """

    def __init__(self, options: Mapping[str, Any], topics: Iterable[str], metadata_max_age_s: float) -> None:
        self._options = dict(options)
        self._topics = tuple(topics)
        # aiokafka takes any number for the name of a connection; up to this one they are its own.
        self._fetch_groups = {
            topic: number for number, topic in enumerate(self._topics, ConnectionGroup.COORDINATION + 1)
        }
        self._fetch_connections: dict[tuple[int, str], FetchConnection] = {}
        self._metadata_max_age_s = metadata_max_age_s
        self._client: Any = None
        self._silent_since: float | None = None

    async def open(self) -> None:
        """Connect, if that has not been done, and see that the topics exist.

        Raises:
            One of `AWAY`; `BrokerUnavailable` names a topic that is missing.
        """
        if self._client is not None:
            await self._client.force_metadata_update()
        else:
            client = AIOKafkaClient(
                **self._options,
                client_id="tidings-gateway",
                metadata_max_age_ms=int(self._metadata_max_age_s * 1000),
                request_timeout_ms=_REQUEST_TIMEOUT_MS,
                connections_max_idle_ms=None,
            )
            try:
                with telling_why():
                    await client.bootstrap()
            except BaseException:
                await client.close()
                raise
            self._client = client
            await client.set_topics(self._topics)
        missing = [topic for topic in self._topics if not self._client.cluster.partitions_for_topic(topic)]
        if missing:
            raise BrokerUnavailable(f"topic {', '.join(missing)} does not exist; `tidings topics create` makes it")

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    def partitions(self) -> list[Partition]:
        """All that are known of the topics now."""
        return [
            Partition(topic, number)
            for topic in self._topics
            for number in sorted(self._client.cluster.partitions_for_topic(topic) or ())
        ]

    def leader(self, partition: Partition) -> int | None:
        """The broker that leads it, as far as known."""
        leader = self._client.cluster.leader_for_partition(partition)
        return None if leader is None or leader < 0 else int(leader)

    def look_again(self) -> None:
        """Something was not where it was thought to be: fetch metadata soon."""
        self._client.force_metadata_update()

    async def offsets(self, partitions: Sequence[Partition], at: Start | int) -> dict[Partition, int | None]:
        """Ask the leaders for offsets.

        Args:
            at: `Start.LATEST` for the last stable one, `Start.EARLIEST` for the first one kept, or a Unix time in
                milliseconds for the first record of that time or later.
        Returns:
            One for each; None where no record is that young.
        Raises:
            One of `AWAY`.
        """
        by_leader: dict[int, dict[str, list[tuple[int, int]]]] = {}
        for partition in partitions:
            leader = self.leader(partition)
            if leader is None:
                raise BrokerUnavailable(f"{partition.topic}/{partition.partition} has no leader")
            by_leader.setdefault(leader, {}).setdefault(partition.topic, []).append((partition.partition, int(at)))
        found: dict[Partition, int | None] = {}
        for leader, topics in by_leader.items():
            response = await self._client.send(leader, OffsetRequest(-1, _READ_COMMITTED, list(topics.items())))
            for topic, answers in response.topics:
                for number, error_code, _, offset in answers:
                    if error_code:
                        self.look_again()
                        error = kafka_errors.for_code(error_code).__name__
                        raise BrokerUnavailable(f"{topic}/{number}: no offset ({error})")
                    found[Partition(topic, number)] = offset if offset >= 0 else None
        return found

    async def fetch(self, node_id: int, topic: str, request: LeaderFetchRequest) -> Any:
        """Send a fetch of one topic, on a connection that is for that alone: what waits there for records holds nothing
        else up.

        Raises:
            One of `AWAY`.
        """
        connection = self._fetch_connections.get((node_id, topic))
        if connection is None or not connection.is_open:
            connection = await self._connect(node_id, topic)
        return await connection.fetch(request)

    async def is_reachable(self, node_id: int, topic: str) -> bool:
        """Whether the connection for fetches of that topic stands, or could be made now. Why not is logged."""
        try:
            await self._connect(node_id, topic)
        except AWAY:
            return False
        return True

    async def _connect(self, node_id: int, topic: str) -> FetchConnection:
        opened = await self._client._get_conn(node_id, group=self._fetch_groups[topic])
        # aiokafka also gives one that broke while it was authenticated.
        if opened is None or not opened.connected() or opened._writer.transport.is_closing():
            raise BrokerUnavailable(f"broker {node_id} can't be connected")
        connection = self._fetch_connections.get((node_id, topic))
        if connection is None or not connection.is_open:
            connection = FetchConnection(opened, _REQUEST_TIMEOUT_MS / 1000)
            self._fetch_connections[node_id, topic] = connection
        return connection

    async def fetch_once(self, partition: Partition, offset: int, max_bytes: int) -> Any:
        """Read a piece of one partition, `read_committed`, without waiting for what is not there yet.

        Returns:
            Error code, data and aborted transactions, as in a fetch's answer.
        Raises:
            One of `AWAY`.
        """
        leader = self.leader(partition)
        if leader is None:
            raise BrokerUnavailable(f"{partition.topic}/{partition.partition} has no leader")
        asked = [(partition.topic, [(partition.partition, offset, max_bytes)])]
        response = await self._client.send(leader, LeaderFetchRequest(0, 1, max_bytes, _READ_COMMITTED, asked))
        for _, answers in response.topics:
            for _, error_code, _, _, _, aborted, *_, data in answers:
                return error_code, bytes(data), aborted
        raise BrokerUnavailable(f"{partition.topic}/{partition.partition}: an empty answer")

    async def refresh(self) -> None:
        """Fetch metadata now, so that `partitions` and `leader` are as the brokers see them.

        Raises:
            One of `AWAY`.
        """
        if not await self._client.force_metadata_update():
            raise BrokerUnavailable("no broker tells its metadata")

    async def find_again(self, *, silent: bool) -> None:
        """Call now and then with whether the brokers are silent; after a while of that the bootstrap names are asked.

        All brokers may have come back under other addresses, and only those names are known to hold.
        """
        now = asyncio.get_running_loop().time()
        if not silent:
            self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = now
        elif now - self._silent_since > _REBOOTSTRAP_S:
            self._silent_since = now
            try:
                with telling_why():
                    await self._client.bootstrap()
            except AWAY as error:
                log.warning("no broker answers: %s", error)
