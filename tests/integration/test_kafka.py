"""What Kafka does and what clients then see: transactions, codecs, damage, partitions, sizes, restarts.

Long outages are in tests/slow/test_kafka_outages.py.
"""

import asyncio
import json
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, but not in its __all__
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)
from confluent_kafka.cimpl import NewPartitions
from structlog.testing import capture_logs

from tests.integration.conftest import own_cluster
from tests.integration.processes import Gateway, GatewayFactory
from tests.integration.producing import numbered, produce, producer, read_all, transaction
from tests.integration.receiving import Receiver, token
from tests.integration.segments import batches, flip_payload_byte, segment_file, set_codec
from tests.integration.sites import Site, site
from tidings.config import KafkaSettings, TopicSettings
from tidings.contract.record import MAX_VALUE_BYTES
from tidings.gateway.topic_check import check_topics
from tidings.kafka import topics as kafka_topics
from tidings.kafka.apache import ApacheKafka
from tidings.kafka.ladder import Broker
from tidings.kafka.topic_specs import specs

pytestmark = pytest.mark.kafka

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    """One broker for the tests of this file that stop, freeze or damage it; each leaves it running."""
    with own_cluster(tmp_path_factory.mktemp("own")) as running:
        yield running


@pytest.fixture
def own(cluster: ApacheKafka, tmp_path: Path) -> Iterator[Site]:
    """New topics and gateways on that broker."""
    with site(cluster, tmp_path) as made:
        yield made


async def until(reached: Callable[[], bool], timeout_s: float = 20) -> None:
    async with asyncio.timeout(timeout_s):
        while not await asyncio.to_thread(reached):  # noqa: ASYNC110 - another process tells nobody
            await asyncio.sleep(0.05)


@contextmanager
def frozen(node: Gateway) -> Iterator[None]:
    """The node does not run; when this begins nothing that it asked of Kafka is still under way."""
    node.signal(signal.SIGSTOP)
    time.sleep(0.8)  # a fetch waits half a second at most
    try:
        yield
    finally:
        node.signal(signal.SIGCONT)


def raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def produced_through(node: Gateway, own: Site, reader: Receiver) -> None:
    """One record makes the whole way: the gateway reads again."""
    before = len(reader.received)
    await asyncio.to_thread(produce, own.kafka, own.modifications, numbered([-1], "ann"), partition=3)
    await reader.until(before + 1, 30)
    # The other topic's fetches have a connection of their own, and after a long silence up to 2 s between two attempts.
    await node.until_metric("tidings_gateway_kafka_up", 1, timeout_s=5)


# Starting


async def test_kafka_absent_at_start_is_waited_for(own: Site) -> None:
    own.cluster.stop()
    try:
        node = own.gateway(wait=False)
        await until(lambda: node.get("/healthz")[0] == 200)
        await until(lambda: "waiting" in node.get("/readyz")[1])
        status, body = node.get("/readyz")
        assert status == 503
        assert json.loads(body)["reason"].startswith("waiting for Kafka: ")
        assert node.metric("tidings_gateway_ready") == 0
        await asyncio.sleep(1)
        assert node.process.poll() is None
        assert "Unable to bootstrap" in node.log
    finally:
        own.cluster.start()
    node.wait_ready(20)
    async with Receiver(node, "ann") as reader:
        await produced_through(node, own, reader)


async def test_a_missing_topic_is_waited_for_and_named(cluster: ApacheKafka, tmp_path: Path) -> None:
    with site(cluster, tmp_path, create=False) as own:
        kafka_topics.create(own.kafka, own.topics, roles=["signals"])
        node = own.gateway(wait=False)
        await until(lambda: f"topic {own.modifications} does not exist; `tidings topics create` makes it" in node.log)
        assert own.topics.signals not in node.log
        assert node.get("/readyz")[0] == 503
        command = [sys.executable, "-m", "tidings.cli", "topics", "create"]
        done = await asyncio.to_thread(subprocess.run, command, env=own.environ, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        node.wait_ready(15)
        async with Receiver(node, "ann") as reader:
            await produced_through(node, own, reader)


async def test_a_topic_with_other_settings_is_told_and_read_all_the_same(cluster: ApacheKafka, tmp_path: Path) -> None:
    with site(cluster, tmp_path, create=False) as own:
        # The same settings but one: the default of a topic that somebody made by hand.
        (spec,) = specs(own.topics, ["modifications"])
        settings = {**spec.settings, "message.timestamp.type": "CreateTime"}
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers})
        made = admin.create_topics([NewTopic(spec.name, spec.partitions, 1, config=settings)])
        made[spec.name].result(20)
        kafka_topics.create(own.kafka, own.topics, roles=["signals"])
        node = own.gateway(environ={"TIDINGS_LOG_LEVEL": "debug"})
        await until(lambda: bool(node.events("topics_checked")))
        difference = {
            "topic": own.modifications,
            "setting": "message.timestamp.type",
            "found": "CreateTime",
            "wanted": "LogAppendTime",
        }
        (told,) = node.events("topic_differs")
        assert told["level"] == "warning"
        assert told | difference == told
        async with Receiver(node, "ann") as reader:
            await produced_through(node, own, reader)


async def test_topics_as_they_must_be_are_not_mentioned(gateway: GatewayFactory) -> None:
    node = gateway(environ={"TIDINGS_LOG_LEVEL": "debug"})
    await until(lambda: bool(node.events("topics_checked")))
    assert node.events("topic_differs") == []
    assert node.events("topics_not_checked") == []


async def test_a_node_that_may_read_its_topics_but_not_their_settings_says_so_and_reads(
    kafka_factory: Callable[..., ApacheKafka], tmp_path: Path
) -> None:
    rules = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
    }
    with site(kafka_factory(settings=rules), tmp_path) as own:
        admin = AdminClient({"bootstrap.servers": own.cluster.bootstrap_servers})
        allowed = [
            AclBinding(
                ResourceType.TOPIC,
                own.modifications,
                ResourcePatternType.LITERAL,
                "User:ANONYMOUS",
                "*",
                operation,
                AclPermissionType.ALLOW,
            )
            for operation in (AclOperation.READ, AclOperation.WRITE)
        ]
        for done in admin.create_acls(allowed).values():
            done.result(20)
        asked = ConfigResource(ConfigResource.Type.TOPIC, own.modifications)

        def refused() -> bool:
            try:
                admin.describe_configs([asked])[asked].result(20)
            except KafkaException:
                return True
            return False

        await until(refused)  # the broker hears of its rules a moment after they are confirmed
        node = own.gateway()
        await until(lambda: bool(node.events("topics_not_checked")))
        (told,) = node.events("topics_not_checked")
        assert told["level"] == "warning"
        assert "TOPIC_AUTHORIZATION_FAILED" in told["cause"]
        async with Receiver(node, "ann") as reader:
            await produced_through(node, own, reader)


def test_the_check_of_topics_gives_up_in_time_and_nobody_waits_for_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, capture_logs() as logged:
        kafka = KafkaSettings(bootstrap_servers=f"127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        check_topics(kafka, TopicSettings(), timeout_s=0.5)
        assert time.monotonic() - started < 0.4
        (thread,) = (one for one in threading.enumerate() if one.name == "topic-check")
        assert thread.daemon
        thread.join(5)
        assert not thread.is_alive()
    (told,) = logged
    assert (told["event"], told["log_level"]) == ("topics_not_checked", "warning")


async def test_reading_starts_at_the_end_and_a_restart_shows_nothing_old(
    kafka: Broker, topics: TopicSettings, gateway: GatewayFactory
) -> None:
    produce(kafka.settings, topics.modifications, numbered(range(50), "ann"), partition=0)
    node = gateway()
    async with Receiver(node, "ann") as reader:
        produce(kafka.settings, topics.modifications, numbered([50], "ann"), partition=0)
        await reader.settled(1)
        assert reader.numbers() == [50]
    assert node.stop() == 0
    produce(kafka.settings, topics.modifications, numbered([51], "ann"), partition=0)
    again = gateway()
    async with Receiver(again, "ann") as reader:
        produce(kafka.settings, topics.modifications, numbered([52], "ann"), partition=0)
        await reader.settled(1)
        assert reader.numbers() == [52]


# Every record, in order, on every node


async def test_two_nodes_deliver_every_record_in_the_order_of_the_log(
    kafka: Broker, topics: TopicSettings, gateway: GatewayFactory
) -> None:
    nodes = [gateway(), gateway()]
    async with (
        Receiver(nodes[0], "ann") as first,
        Receiver(nodes[1], "ann") as second,
        Receiver(nodes[1], "bob") as bob,
    ):
        readers = [first, second, bob]

        def send(partition: int) -> None:
            numbers = range(partition * 1000, partition * 1000 + 500)
            produce(
                kafka.settings,
                topics.modifications,
                numbered(numbers, "ann", "bob"),
                partition=partition,
                batch_num_messages=7,
                linger_ms=1,
            )

        await asyncio.gather(*(asyncio.to_thread(send, partition) for partition in range(4)))
        for reader in readers:
            await reader.settled(2000)
        stored = read_all(kafka.settings, topics.modifications, 4)
        log = {
            number: [
                (one.offset + 1, json.loads(one.value or b"")["data"]["n"]) for one in stored if one.partition == number
            ]
            for number in range(4)
        }
        assert sum(map(len, log.values())) == 2000
        for reader in readers:
            seen = {
                number: [(one.next_offset, one.data["n"]) for one in reader.received if one.partition == number]
                for number in range(4)
            }
            assert seen == log


async def test_headers_and_null_values_do_no_harm_and_repeats_of_an_id_are_dropped(
    kafka: Broker, topics: TopicSettings, gateway: GatewayFactory
) -> None:
    node = gateway()
    async with Receiver(node, "ann") as reader:
        values = numbered(range(5), "ann")
        odd = [("x", b"\xff\x00"), ("x", b""), ("", b"nameless"), ("\u00e9", "é".encode())]
        produce(kafka.settings, topics.modifications, [values[0]], partition=1, headers=odd)
        produce(kafka.settings, topics.modifications, [None, None], partition=1)
        produce(kafka.settings, topics.modifications, [values[1], values[2]], partition=1, headers=[("id", b"same")])
        produce(kafka.settings, topics.modifications, [values[3]], partition=2, headers=[("id", b"same")])
        produce(kafka.settings, topics.modifications, [values[4]], partition=1, headers=[*odd, ("id", b"other")])
        await reader.settled(4)
        assert reader.by_partition() == {1: [0, 1, 4], 2: [3]}
        assert node.metric("tidings_gateway_records_total", outcome="null") == 2
        assert node.metric("tidings_gateway_records_total", outcome="repeat") == 1


async def test_delivery_seconds_count_from_the_brokers_time(
    kafka: Broker, topics: TopicSettings, gateway: GatewayFactory
) -> None:
    node = gateway()
    client = producer(kafka.settings)
    async with Receiver(node, "ann") as reader:
        for number in range(20):
            # The producer's own idea of the time is a day off; the broker's counts (LogAppendTime).
            client.produce(
                topics.modifications,
                numbered([number], "ann")[0],
                partition=0,
                timestamp=int((time.time() - 86_400) * 1000),
            )
            client.flush(10)
        await reader.settled(20)
        assert node.metric("tidings_gateway_delivery_seconds_count") == 20
        assert 0 <= node.metric("tidings_gateway_delivery_seconds_sum") / 20 < 0.5


# Transactions


async def test_an_aborted_transaction_is_not_shown_and_what_follows_is(
    kafka: Broker, topics: TopicSettings, gateway: GatewayFactory
) -> None:
    node = gateway()
    topic = topics.modifications
    async with Receiver(node, "ann") as reader:
        produce(kafka.settings, topic, numbered([0], "ann"), partition=0)
        with transaction(kafka.settings, topic, numbered(range(100, 130), "ann"), partition=0) as client:
            produce(kafka.settings, topic, numbered([1], "ann"), partition=0)
            client.abort_transaction(30)
        produce(kafka.settings, topic, numbered([2], "ann"), partition=0)
        with transaction(kafka.settings, topic, numbered(range(3, 6), "ann"), partition=0) as client:
            produce(kafka.settings, topic, numbered([6], "ann"), partition=0)
            client.commit_transaction(30)
        produce(kafka.settings, topic, numbered([7], "ann"), partition=0)
        await reader.settled(8)
        assert reader.numbers() == list(range(8))


async def test_what_stands_behind_an_open_transaction_waits_until_it_ends(
    kafka: Broker, topics: TopicSettings, gateway: GatewayFactory
) -> None:
    node = gateway()
    topic = topics.modifications
    async with Receiver(node, "ann") as reader:
        with (
            transaction(kafka.settings, topic, numbered([100], "ann"), partition=0) as hanging,
            transaction(kafka.settings, topic, numbered([0, 1], "ann"), partition=0) as committed,
        ):
            committed.commit_transaction(30)
            produce(kafka.settings, topic, numbered([2], "ann"), partition=0)
            produce(kafka.settings, topic, numbered([3], "ann"), partition=1)
            await reader.settled(1, quiet_s=1)
            assert reader.numbers() == [3]  # the other partitions do not wait
            late = gateway()
            hanging.abort_transaction(30)
        await reader.settled(4)
        assert reader.by_partition() == {0: [0, 1, 2], 1: [3]}
        assert late.ready()


# Batches


async def test_every_codec_is_read(own: Site) -> None:
    node = own.gateway()
    filling = "all work and no play " * 20
    expected: list[int] = []
    async with Receiver(node, "ann") as reader:
        for index, codec in enumerate(CODECS):
            numbers = range(index * 100, index * 100 + 40)
            expected += numbers
            produce(
                own.kafka,
                own.modifications,
                numbered(numbers, "ann", filling=filling),
                partition=2,
                compression_type=codec,
            )
        await reader.settled(len(expected))
        assert reader.numbers() == expected
        assert {frame.data["f"] for frame in reader.received} == {filling}
    # What was written is what was meant: librdkafka leaves a batch alone that does not shrink.
    written = batches(segment_file(own.cluster.brokers[0], own.modifications, 2))
    assert {batch.codec for batch in written} == set(CODECS.values())


async def test_damaged_batches_are_skipped_alone_and_loudly(own: Site) -> None:
    """One batch with a wrong checksum and one with an unknown codec, good ones around them."""
    node = own.gateway()
    topic = own.modifications
    async with Receiver(node, "ann") as reader:
        await produced_through(node, own, reader)
        with frozen(node):
            for first in range(0, 50, 10):
                # The damage will be in a filling: undetected it would reach clients.
                values = numbered(range(first, first + 10), "ann", filling="x" * 1000)
                produce(own.kafka, topic, values, partition=0)
            produce(own.kafka, topic, numbered([1000], "ann"), partition=1)
            own.cluster.stop()
            file = segment_file(own.cluster.brokers[0], topic, 0)
            written = batches(file)
            assert [(batch.first_offset, batch.next_offset) for batch in written] == [
                (first, first + 10) for first in range(0, 50, 10)
            ]
            flip_payload_byte(file, written[1])
            set_codec(file, written[3], 6)
            own.cluster.start()
        await reader.settled(1 + 31, 30)
        assert {frame.data["f"] for frame in reader.received} == {"", "x" * 1000}
        assert reader.by_partition() == {3: [-1], 0: [*range(10), *range(20, 30), *range(40, 50)], 1: [1000]}
        produce(own.kafka, topic, numbered([50], "ann"), partition=0)
        await reader.settled(1 + 32)
    told = [
        (line["partition"], line["first_offset"], line["next_offset"], line["reason"])
        for line in node.events("batch_skipped")
    ]
    assert told == [(0, 10, 20, "crc"), (0, 30, 40, "codec")]
    assert node.metric("tidings_gateway_skipped_batches_total", reason="crc") == 1
    assert node.metric("tidings_gateway_skipped_batches_total", reason="codec") == 1


async def test_a_batch_of_4_mib_comes_whole(own: Site) -> None:
    node = own.gateway()
    filling = "x" * (MAX_VALUE_BYTES - 600)
    async with Receiver(node, "ann") as reader:
        produce(own.kafka, own.modifications, numbered(range(4), "ann", filling=filling), partition=1, linger_ms=500)
        await reader.settled(4, 30)
        assert reader.numbers() == [0, 1, 2, 3]
        assert {len(frame.data["f"]) for frame in reader.received} == {len(filling)}
    (written,) = batches(segment_file(own.cluster.brokers[0], own.modifications, 1))
    assert written.size > 3.99 * 1024 * 1024


async def test_a_partition_is_not_kept_back_by_the_backlogs_of_others(
    kafka: Broker, topics: TopicSettings, gateway: GatewayFactory
) -> None:
    """A fetch has room for two of the long backlogs; and a batch over its limits comes only as the first of a fetch."""
    node = gateway()
    topic = topics.modifications
    async with Receiver(node, "ann") as ann, Receiver(node, "bob") as bob:
        for turn, target in enumerate(range(4)):
            with frozen(node):
                backlog = numbered(range(200), "ann", filling="x" * 100_000)
                for partition in range(4):
                    if partition != target:
                        await asyncio.to_thread(
                            produce, kafka.settings, topic, backlog, partition=partition, batch_size=200_000
                        )
                big = numbered([0], "bob", filling="y" * 1_000_000) + numbered([1], "bob", filling="y" * 500_000)
                await asyncio.to_thread(produce, kafka.settings, topic, big, partition=target, linger_ms=300)
            await bob.until(2 * turn + 2)
            assert len(ann.received) - 600 * turn < 300
            await ann.until(600 * (turn + 1))
        assert bob.by_partition() == {partition: [0, 1] for partition in range(4)}


async def test_catching_up_closes_nobody_who_reads_and_the_lag_is_told(
    kafka: Broker, topics: TopicSettings, gateway: GatewayFactory
) -> None:
    """Much more than a connection may have unsent waits in Kafka; a part of it in batches that are small until read."""
    node = gateway()
    topic = topics.modifications
    async with Receiver(node, "ann") as reader:
        produce(kafka.settings, topic, numbered([-1], "ann"), partition=0)
        await reader.until(1)
        with frozen(node):
            values = numbered(range(4000), "ann", filling="lorem ipsum " * 700)
            await asyncio.to_thread(produce, kafka.settings, topic, values, partition=0, compression_type="zstd")
            await asyncio.to_thread(produce, kafka.settings, topic, values, partition=1)
        highest = 0.0
        while len(reader.received) < 8001 and reader.open:
            highest = max(highest, await asyncio.to_thread(node.metric, "tidings_gateway_lag_records"))
            await asyncio.sleep(0.01)
        await reader.settled(8001)
        assert reader.by_partition() == {0: list(range(-1, 4000)), 1: list(range(4000))}
        assert highest > 100
        assert node.metric("tidings_gateway_lag_records") == 0


async def test_a_record_of_nearly_1_mib_reaches_1000_receivers(
    kafka: Broker, topics: TopicSettings, gateway: GatewayFactory
) -> None:
    raise_file_limit()
    # Together it is a gigabyte: how soon the clients read it must not decide whether the node has to let one go.
    node = gateway(max_unsent_total_bytes=2 << 30)
    users = [f"user-{number}" for number in range(1000)]
    (value,) = numbered([7], *users)
    (value,) = numbered([7], *users, filling="y" * (MAX_VALUE_BYTES - len(value)))
    assert len(value) == MAX_VALUE_BYTES
    data = json.dumps(json.loads(value)["data"])
    frame = f'{{"type":"update","data":{data}}}'.encode()
    host, port = node.url.removeprefix("http://").split(":")
    clients = [Counting(frame) for _ in users]
    loop = asyncio.get_running_loop()
    for first in range(0, 1000, 100):
        step = list(zip(clients, users, strict=True))[first : first + 100]
        await asyncio.gather(
            *(loop.create_connection(partial(Counting.itself, client), host, int(port)) for client, _ in step)
        )
        for client, user in step:
            client.open(user)
        await asyncio.gather(*(client.opened for client, _ in step))
    await asyncio.to_thread(produce, kafka.settings, topics.modifications, [value], partition=0)
    async with asyncio.timeout(60):
        await asyncio.gather(*(client.whole for client in clients))
    assert node.metric("tidings_gateway_connections") == 1000
    for client in clients:
        client.transport.abort()


class Counting(asyncio.Protocol):
    """A plain web socket client that compares one frame with what it should be, without keeping it."""

    def __init__(self, frame: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.opened = loop.create_future()
        self.whole = loop.create_future()
        self.transport: asyncio.Transport
        self._head = b""
        self._wanted = zlib.crc32(frame)
        self._left = 10 + len(frame)
        self._begun = b""
        self._crc = 0

    def itself(self) -> "Counting":
        return self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def open(self, user: str) -> None:
        self.transport.write(
            b"GET /ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"Authorization: Bearer " + token(user).encode() + b"\r\n\r\n"
        )

    def data_received(self, data: bytes) -> None:
        if not self.opened.done():
            self._head += data
            if b"\r\n\r\n" in self._head:
                assert self._head.startswith(b"HTTP/1.1 101"), self._head
                self.opened.set_result(None)
            return
        self._left -= len(data)
        if len(self._begun) < 10:
            room = 10 - len(self._begun)
            self._begun, data = self._begun + data[:room], data[room:]
        self._crc = zlib.crc32(data, self._crc)
        if self._left <= 0 and not self.whole.done():
            assert self._left == 0
            assert self._begun[:2] == b"\x81\x7f"
            assert self._crc == self._wanted
            self.whole.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        for future in (self.opened, self.whole):
            if not future.done():
                future.set_exception(ConnectionError(f"closed with {self._left} bytes to come: {self._begun!r}"))


# Partitions


async def test_added_partitions_are_read_from_their_beginning(
    kafka: Broker, topics: TopicSettings, gateway: GatewayFactory
) -> None:
    """What is written before the node knows of the partition counts too."""
    node = gateway(metadata_max_age_s=5)
    topic = topics.modifications
    async with Receiver(node, "ann") as reader:
        produce(kafka.settings, topic, numbered([0], "ann"), partition=0)
        await reader.until(1)
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
        for future in admin.create_partitions([NewPartitions(topic, 6)]).values():
            future.result(20)
        began = time.monotonic()
        produce(kafka.settings, topic, numbered([1, 2], "ann"), partition=4)
        produce(kafka.settings, topic, numbered([3, 4], "ann"), partition=5)
        assert len(reader.received) == 1, "the node knew too early for this test to mean anything"
        produce(kafka.settings, topic, numbered([5], "ann"), partition=0)
        await reader.until(6, 30)
        assert time.monotonic() - began < 15
        produce(kafka.settings, topic, numbered([6], "ann"), partition=5)
        await reader.settled(7)
        assert reader.by_partition() == {0: [0, 5], 4: [1, 2], 5: [3, 4, 6]}


# Short outages


@pytest.mark.parametrize("graceful", [True, False], ids=["stopped", "killed"])
async def test_a_restarted_broker_costs_no_record_and_no_socket(own: Site, graceful: bool) -> None:
    node = own.gateway()
    async with Receiver(node, "ann") as reader:
        client = producer(own.kafka, enable_idempotence=True, reconnect_backoff_max_ms=500)
        number = 0

        def send() -> None:
            nonlocal number
            for _ in range(4):
                client.produce(own.modifications, numbered([number], "ann")[0], partition=number % 4)
                number += 1
            client.poll(0)

        restart = asyncio.create_task(asyncio.to_thread(own.cluster.brokers[0].restart, graceful=graceful))
        while not restart.done():
            send()
            await asyncio.sleep(0.05)
        await restart
        send()
        assert await asyncio.to_thread(client.flush, 60) == 0
        await reader.settled(number, 30)
        assert reader.by_partition() == {rest: list(range(rest, number, 4)) for rest in range(4)}
        assert reader.control_types() <= {"$welcome", "$checkpoint"}


async def test_a_frozen_broker_costs_no_record_and_no_socket(own: Site) -> None:
    """Longer than a fetch may take: the answer to the fetch that is given up on must not be lost, nor come twice."""
    node = own.gateway()
    broker = own.cluster.brokers[0]
    async with Receiver(node, "ann") as reader:
        client = producer(own.kafka, enable_idempotence=True)
        for number in range(10):
            client.produce(own.modifications, numbered([number], "ann")[0], partition=0)
        client.flush(10)
        broker.pause()
        try:
            for number in range(10, 30):
                client.produce(own.modifications, numbered([number], "ann")[0], partition=0)
            client.poll(0)
            await asyncio.sleep(13)
            assert node.metric("tidings_gateway_kafka_up") == 0
            assert node.ready(), "an outage is no reason to take the node out of service"
            await asyncio.sleep(2)
        finally:
            broker.resume()
        assert await asyncio.to_thread(client.flush, 60) == 0
        await reader.settled(30, 30)
        assert reader.numbers() == list(range(30))
        await produced_through(node, own, reader)
