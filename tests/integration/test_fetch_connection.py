"""The connection for fetches: answers in any pieces, and what is no answer. The broker is a script on a real socket."""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import CorrelationIdError, KafkaConnectionError, RequestTimedOutError
from aiokafka.protocol.fetch import FetchResponse_v8, FetchResponse_v10

from tidings.errors import BrokerUnavailable
from tidings.kafka.cluster import Cluster
from tidings.kafka.fetch_codec import LeaderFetchRequest
from tidings.kafka.fetch_connection import FetchConnection
from tidings.kafka.fetch_session import FetchSession, Partition

PARTITION = Partition("modifications", 3)
Script = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The broker's side, past the question for its versions."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def asked(self) -> tuple[int, int]:
        """The version and the id of the next request."""
        (length,) = struct.unpack(">i", await self._reader.readexactly(4))
        request = await self._reader.readexactly(length)
        _, version, request_id = struct.unpack_from(">hhi", request)
        return version, request_id

    async def send(self, request_id: int, payload: bytes, piece_bytes: int = 1 << 30) -> None:
        frame = struct.pack(">ii", len(payload) + 4, request_id) + payload
        for start in range(0, len(frame), piece_bytes):
            self._writer.write(frame[start : start + piece_bytes])
            await self._writer.drain()
            await asyncio.sleep(0)

    def send_raw(self, data: bytes) -> None:
        self._writer.write(data)

    def close(self) -> None:
        self._writer.close()


@asynccontextmanager
async def connected(
    script: Script, *, newest: int = 17, timeout_s: float = 5.0
) -> AsyncIterator[tuple[FetchConnection, AIOKafkaConnection]]:
    """A connection to a broker that does what the script says."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        try:
            _, request_id = await peer.asked()
            await peer.send(request_id, struct.pack(">hihhh", 0, 1, 1, 4, newest))
            await script(peer)
            await reader.read()
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    opened = await create_conn(host, port, client_id="tidings-test", request_timeout_ms=5000)
    try:
        yield FetchConnection(opened, timeout_s), opened
    finally:
        opened.close()
        server.close()
        await server.wait_closed()


def question(offset: int = 5) -> LeaderFetchRequest:
    return FetchSession().request([PARTITION], {PARTITION: offset})


def answer(records: bytes, end: int = 9) -> Any:
    return FetchResponse_v10(0, 0, 7, [(PARTITION.topic, [(PARTITION.partition, 0, end, end, 0, None, records)])])


def records_of(response: Any) -> bytes:
    ((topic, ((number, *_, records),)),) = response.topics
    assert (topic, number) == PARTITION
    return bytes(records)


@pytest.mark.parametrize("piece_bytes", [1, 3, 7, 8, 9, 64, 1 << 30])
async def test_answers_come_in_pieces_of_any_size(piece_bytes: int) -> None:
    sent = [b"a" * 100, b"", b"b" * 40]

    async def script(peer: Peer) -> None:
        for number, records in enumerate(sent):
            version, request_id = await peer.asked()
            assert version == 10
            await peer.send(request_id, answer(records, number).encode(), piece_bytes)

    async with connected(script) as (connection, _):
        for records in sent:
            assert records_of(await connection.fetch(question())) == records
        assert connection.is_open


async def test_an_answer_of_megabytes_comes_whole() -> None:
    sent = bytes(range(256)) * 20_000

    async def script(peer: Peer) -> None:
        for _ in range(2):
            _, request_id = await peer.asked()
            await peer.send(request_id, answer(sent).encode())

    async with connected(script) as (connection, _):
        for _ in range(2):
            assert records_of(await connection.fetch(question())) == sent


async def test_a_broker_of_an_older_version_is_read_through_the_schemas_of_the_library() -> None:
    async def script(peer: Peer) -> None:
        version, request_id = await peer.asked()
        assert version == 8
        older = FetchResponse_v8(0, 0, 7, [(PARTITION.topic, [(PARTITION.partition, 0, 9, 9, 0, None, b"records")])])
        await peer.send(request_id, older.encode())

    async with connected(script, newest=8) as (connection, _):
        assert records_of(await connection.fetch(question())) == b"records"


async def _other_id(peer: Peer) -> None:
    _, request_id = await peer.asked()
    await peer.send(request_id + 1, answer(b"").encode())


async def _twice(peer: Peer) -> None:
    _, request_id = await peer.asked()
    frame = struct.pack(">ii", len(answer(b"").encode()) + 4, request_id) + answer(b"").encode()
    peer.send_raw(frame + frame)


async def _endless(peer: Peer) -> None:
    _, request_id = await peer.asked()
    peer.send_raw(struct.pack(">ii", 2**31 - 1, request_id))


async def _negative(peer: Peer) -> None:
    _, request_id = await peer.asked()
    peer.send_raw(struct.pack(">ii", -1, request_id))


async def _hangs_up(peer: Peer) -> None:
    _, request_id = await peer.asked()
    peer.send_raw(struct.pack(">ii", 1000, request_id) + b"half of it")
    peer.close()


async def _cut_short(peer: Peer) -> None:
    _, request_id = await peer.asked()
    await peer.send(request_id, answer(b"records").encode()[:-3])


async def _says_nothing(peer: Peer) -> None:
    await peer.asked()


@pytest.mark.parametrize(
    ("script", "error", "told"),
    [
        (_other_id, CorrelationIdError, "no answer to 1"),
        (_twice, CorrelationIdError, "no answer to 1"),
        (_endless, CorrelationIdError, "2147483647 bytes"),
        (_negative, CorrelationIdError, "-1 bytes"),
        (_hangs_up, KafkaConnectionError, "broke$"),
        (_cut_short, KafkaConnectionError, "ends within the records"),
        (_says_nothing, RequestTimedOutError, "TimedOut"),
    ],
)
async def test_what_is_no_answer_ends_the_connection_and_aiokafka_knows(
    script: Script, error: type[BaseException], told: str
) -> None:
    async with connected(script, timeout_s=0.2) as (connection, opened):
        with pytest.raises(error, match=told):
            await asyncio.wait_for(connection.fetch(question()), 2)
        assert not connection.is_open
        assert not opened.connected()
        with pytest.raises(KafkaConnectionError):
            await connection.fetch(question())


async def test_an_answer_that_nobody_asked_for_ends_the_connection() -> None:
    async def script(peer: Peer) -> None:
        _, request_id = await peer.asked()
        for _ in range(2):
            await peer.send(request_id, answer(b"records").encode())
            await asyncio.sleep(0.05)

    async with connected(script) as (connection, opened):
        assert records_of(await connection.fetch(question())) == b"records"
        await asyncio.sleep(0.3)
        assert not connection.is_open
        assert not opened.connected()


async def test_a_slow_answer_in_time_is_waited_for_again_and_again() -> None:
    """The one timer of a connection is set for the fetch that armed it; those after it have their whole time too."""

    async def script(peer: Peer) -> None:
        for _ in range(4):
            _, request_id = await peer.asked()
            await asyncio.sleep(0.3)
            await peer.send(request_id, answer(b"records").encode())

    async with connected(script, timeout_s=0.5) as (connection, _):
        for _ in range(4):
            assert records_of(await connection.fetch(question())) == b"records"


async def test_who_stops_waiting_ends_the_connection_so_that_no_answer_goes_to_another() -> None:
    async with connected(_says_nothing) as (connection, opened):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connection.fetch(question()), 0.1)
        assert not connection.is_open
        assert not opened.connected()


async def test_an_answer_in_the_moment_in_which_its_fetch_is_cancelled_ends_the_connection_quietly() -> None:
    async with connected(_says_nothing) as (connection, opened):
        faults: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        waiting = asyncio.ensure_future(connection.fetch(question()))
        await asyncio.sleep(0.05)
        payload = answer(b"records").encode()
        waiting.cancel()
        connection.data_received(struct.pack(">ii", len(payload) + 4, 1) + payload)
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not opened.connected()
        await asyncio.sleep(0.05)
        assert not faults


async def test_a_second_fetch_at_the_same_time_is_refused() -> None:
    async with connected(_says_nothing) as (connection, _):
        waiting = asyncio.ensure_future(connection.fetch(question()))
        await asyncio.sleep(0.05)
        with pytest.raises(RuntimeError, match="under way"):
            await connection.fetch(question())
        assert connection.is_open
        waiting.cancel()


async def test_a_connection_that_broke_while_it_was_authenticated_is_none() -> None:
    """aiokafka does not look again before it gives it away."""
    async with connected(_says_nothing) as (_, opened):
        opened.close()

        async def get_conn(node_id: int, *, group: object) -> AIOKafkaConnection:
            return opened

        cluster = Cluster({}, [PARTITION.topic], 1.0)
        cluster._client = SimpleNamespace(_get_conn=get_conn)
        with pytest.raises(BrokerUnavailable):
            await cluster.fetch(1, PARTITION.topic, question())
        assert not await cluster.is_reachable(1, PARTITION.topic)


async def test_closing_by_aiokafka_ends_the_fetch_under_way() -> None:
    async with connected(_says_nothing) as (connection, opened):
        waiting = asyncio.ensure_future(connection.fetch(question()))
        await asyncio.sleep(0.05)
        closed = opened.close()
        with pytest.raises(KafkaConnectionError):
            await asyncio.wait_for(waiting, 2)
        await asyncio.wait_for(closed, 2)
