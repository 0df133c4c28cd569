"""The Python client against real gateways: what it promises holds over restarts of nodes, renewals and gaps."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.clients import Topics, eventually, token_for
from tests.integration.processes import Gateway, GatewayFactory
from tidings.config import TopicSettings
from tidings.kafka.ladder import Broker
from tidings_client import Backoff, Client, Disconnected, Event, Position, Resync, TokenRefused, connect

pytestmark = pytest.mark.kafka

TIMEOUT_S = 30.0
EAGER = Backoff(first_s=0.05, longest_s=0.5, steady_s=1)


@pytest.fixture
def mine(kafka: Broker, topics: TopicSettings) -> Topics:
    """The topics of the test's own gateways."""
    return Topics(kafka, topics)


@pytest.fixture(scope="module")
def shared(nodes: GatewayFactory) -> tuple[Gateway, Gateway]:
    """Two nodes for the tests that stop none."""
    return nodes(), nodes()


def client_of(*gateways: Gateway, user: str = "alice", **more: Any) -> Client:
    options: dict[str, Any] = {"token": token_for(user), "backoff": EAGER, "proxy": None, **more}
    return connect([gateway.url for gateway in gateways], **options)


async def take(client: Client, count: int) -> list[Event]:
    async with asyncio.timeout(TIMEOUT_S):
        return [await anext(client) for _ in range(count)]


async def nothing_more(client: Client, wait_s: float = 0.5) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(wait_s):
            event = await anext(client)
            pytest.fail(f"one more: {event}")


def assert_each_once_and_in_order(events: list[Event], count: int) -> None:
    """`data`, or its first entry, counts all records; partition = number % 4."""
    assert len(events) == count
    for partition in range(4):
        mine = [event.data for event in events if event.at is not None and event.at.startswith(f"{partition}:")]
        numbers = [data if isinstance(data, int) else data[0] for data in mine]
        assert numbers == list(range(partition, count, 4))


@pytest.mark.parametrize("how", ["drain", "kill"])
async def test_each_record_comes_once_and_in_order_over_restarts_of_both_nodes(
    gateway: GatewayFactory, mine: Topics, free_port: Callable[[], int], how: str
) -> None:
    ports = [(free_port(), free_port()) for _ in range(2)]

    def start(number: int) -> Gateway:
        port, admin_port = ports[number]
        return gateway(port=port, admin_port=admin_port, drain_s=1)

    nodes = [await asyncio.to_thread(start, 0), await asyncio.to_thread(start, 1)]
    produced = 0
    going = True

    async def produce() -> int:
        nonlocal produced
        while going:
            mine.send(["alice"], produced, partition=produced % 4, flush=False)
            produced += 1
            await asyncio.sleep(0.004)
        await asyncio.to_thread(mine.flush)
        return produced

    async def restart() -> None:
        nonlocal going
        for number in (0, 1, 0):
            await asyncio.sleep(0.5)
            if how == "kill":
                nodes[number].process.kill()
            await asyncio.to_thread(nodes[number].stop)
            nodes[number] = await asyncio.to_thread(start, number)
        going = False

    async with client_of(*nodes) as client:
        producing = asyncio.create_task(produce())
        restarting = asyncio.create_task(restart())
        events: list[Event] = []
        async with asyncio.timeout(120):
            while not producing.done() or len(events) < produced:
                try:
                    async with asyncio.timeout(1):
                        events.append(await anext(client))
                except TimeoutError:
                    continue
        await restarting
        await nothing_more(client)
    assert produced > 300
    assert not any(isinstance(event, Resync) for event in events)
    assert_each_once_and_in_order(events, produced)


async def test_a_program_that_saves_its_position_goes_on_where_it_was(
    shared: tuple[Gateway, Gateway], records: Topics
) -> None:
    user = "saver"
    events: list[Event] = []
    async with client_of(*shared, user=user) as client:
        for number in range(40):
            records.send([user], number, partition=number % 4, flush=False)
        records.flush()
        events += await take(client, 17)
        saved = str(client.position)
        await asyncio.sleep(0.2)  # the rest has arrived by now, and was handed to nobody
        assert str(client.position) == saved
    for number in range(40, 60):
        records.send([user], number, partition=number % 4, flush=False)
    records.flush()
    async with client_of(shared[1], user=user, position=saved) as client:
        events += await take(client, 43)
        await nothing_more(client)
    assert_each_once_and_in_order(events, 60)


async def test_a_slow_program_gets_everything(shared: tuple[Gateway, Gateway], records: Topics) -> None:
    user = "slow"
    async with client_of(*shared, user=user, buffer_frames=8, buffer_bytes=20_000) as client:
        for number in range(400):
            records.send([user], number, partition=number % 4, flush=False)
        for number in range(400, 600):
            records.send([user], [number, "x" * 50_000], partition=number % 4, flush=False)
        records.flush()
        await asyncio.sleep(2)
        assert_each_once_and_in_order(await take(client, 600), 600)
        await nothing_more(client)


async def test_an_invalid_position_is_dealt_with_by_on_resync(shared: tuple[Gateway, Gateway], records: Topics) -> None:
    user = "lost"
    calls: list[tuple[str, str]] = []
    go_on = asyncio.Event()

    async def on_resync(reason: str, cursor: str) -> None:
        calls.append((reason, cursor))
        await go_on.wait()

    async with client_of(*shared, user=user) as client:
        assert client.position is not None
        log = client.position.log
    invalid = Position(log, "0:0,999:5")
    async with client_of(*shared, user=user, position=invalid, on_resync=on_resync) as client:
        waiting = asyncio.create_task(take(client, 1))
        await eventually(lambda: bool(calls))
        records.send([user], "behind the gap")
        await asyncio.sleep(0.3)
        assert not waiting.done()
        assert client.position == invalid
        go_on.set()
        assert [event.data for event in await waiting] == ["behind the gap"]
        assert [reason for reason, _ in calls] == ["invalid"]
        assert "999" not in client.cursor
        assert client.log == log


async def test_a_position_in_another_log_is_a_gap(shared: tuple[Gateway, Gateway]) -> None:
    async with client_of(*shared, user="other", position="0:5@another-topic") as client:
        (event,) = await take(client, 1)
        assert isinstance(event, Resync)
        assert event.reason == "log_changed"


async def test_a_connection_outlives_its_first_token(shared: tuple[Gateway, Gateway], records: Topics) -> None:
    user = "renewer"
    asked: list[float] = []

    async def token() -> str:
        asked.append(time.monotonic())
        # The gateway allows 10 s beyond the end, so the first connection would last about 11 s without a renewal.
        return token_for(user, ttl_s=2 if len(asked) == 1 else 600)

    async with client_of(*shared, user=user, token=token) as client:
        session = client.session
        await asyncio.sleep(13.5)
        records.send([user], "still here")
        assert [event.data for event in await take(client, 1)] == ["still here"]
        assert client.session == session
        assert len(asked) == 2


async def test_a_token_that_has_ended_is_replaced_and_nothing_is_missed(
    shared: tuple[Gateway, Gateway], records: Topics
) -> None:
    user = "expired"
    asked = 0

    async def token() -> str:
        nonlocal asked
        asked += 1
        return token_for(user, ttl_s=-60 if asked == 1 else 600)

    async with client_of(*shared, user=user, token=token) as client:
        records.send([user], "here")
        assert [event.data for event in await take(client, 1)] == ["here"]
        assert asked == 2
    with pytest.raises(TokenRefused):
        async with client_of(*shared, user=user, token=token_for(user, ttl_s=-60)):
            pass


async def test_an_operators_disconnect_ends_it(shared: tuple[Gateway, Gateway], records: Topics) -> None:
    async with client_of(*shared, user="banned") as client:
        records.signal(["banned"], {"reason": "be gone"}, "$disconnect")
        with pytest.raises(Disconnected):
            await take(client, 1)
