"""Crowds that mean no good: who connects at a crawl, who vanishes, who never reads. Nobody else may notice."""

import asyncio
import contextlib
import json
import random
import resource
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.integration.clients import (
    PING,
    TcpClient,
    Topics,
    bearer,
    counter,
    eventually,
    open_files,
    resident_bytes,
    silent_socket,
    upgrade_request,
    web_socket,
)
from tests.integration.processes import Gateway, GatewayFactory

pytestmark = [pytest.mark.slow, pytest.mark.kafka]

CLOSES, REFUSED = "tidings_gateway_closes_total", "tidings_gateway_refused_total"
MIB = 1 << 20


@pytest.fixture(autouse=True)
def _many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.asynccontextmanager
async def good_clients(gateway: Gateway, records: Topics, count: int, within_s: float) -> AsyncIterator[None]:
    """Clients that read: each must get every one of its records, in order, none later than `within_s`."""
    users = [f"good-{number}" for number in range(count)]
    sent: list[float] = []
    got: dict[str, list[tuple[int, float]]] = {user: [] for user in users}

    async def receive(user: str, ws: web_socket) -> None:  # type: ignore[valid-type]
        async for message in ws:  # type: ignore[attr-defined]
            got[user].append((json.loads(message)["data"], time.monotonic()))

    async def produce() -> None:
        while True:
            sent.append(time.monotonic())
            records.send(users, len(sent), flush=False)
            await asyncio.sleep(0.05)

    async with contextlib.AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(web_socket(gateway, user)) for user in users]
        reading = [asyncio.create_task(receive(user, ws)) for user, ws in zip(users, sockets, strict=True)]
        producing = asyncio.create_task(produce())
        try:
            yield
        finally:
            producing.cancel()
        records.flush()
        await eventually(lambda: all(len(mine) == len(sent) for mine in got.values()), within_s)
        for task in reading:
            task.cancel()
    for user, mine in got.items():
        assert [number for number, _ in mine] == list(range(1, len(sent) + 1)), user
    delays = sorted(at - sent[number - 1] for mine in got.values() for number, at in mine)
    print(f"good clients: {len(delays)} deliveries, p50 {delays[len(delays) // 2]:.3f} s, max {delays[-1]:.3f} s")
    assert delays[-1] < within_s


async def test_2000_handshakes_octet_by_octet_hold_nobody_up(nodes: GatewayFactory, records: Topics) -> None:
    """All are refused when their time is over, their sockets are gone, and good clients connect and read meanwhile."""
    timeout_s, crowd = 6.0, 2000
    node = nodes(handshake_timeout_s=timeout_s)
    files = open_files(node)

    async def crawl(number: int) -> float:
        async with await TcpClient.open(node) as tcp:
            started = time.monotonic()
            sending = asyncio.create_task(
                tcp.send(upgrade_request(headers=bearer(f"slow-{number}")), chop=1, pause_s=0.5 + number / 2000)
            )
            answer = await tcp.answer(30)
            took = time.monotonic() - started
            sending.cancel()
            assert (answer.status, answer.error) == (408, "handshake_timeout")
            await tcp.ended()
            return took

    async with good_clients(node, records, 20, within_s=2):
        crawling = [asyncio.create_task(crawl(number)) for number in range(crowd)]
        await eventually(lambda: node.metric("tidings_gateway_handshakes_pending") == crowd)
        for number in range(20):  # newcomers in the midst of it
            started = time.monotonic()
            async with await TcpClient.open(node) as tcp:
                await tcp.upgrade(f"newcomer-{number}")
            assert time.monotonic() - started < 1
        took = await asyncio.gather(*crawling)
        assert max(took) < timeout_s + 3
        assert min(took) >= timeout_s - 0.5
    assert counter(node, REFUSED, "handshake_timeout") == crowd
    await eventually(lambda: node.metric("tidings_gateway_handshakes_pending") == 0)
    await eventually(lambda: open_files(node) <= files + 2, what="sockets are still open")


async def test_2000_clients_that_vanish_are_closed_as_idle_and_their_sockets_freed(
    nodes: GatewayFactory, records: Topics
) -> None:
    """They read nothing, answer no ping and no close frame; the connections of others are answered as ever."""
    idle_s, crowd = 5.0, 2000
    node = nodes(ping_interval_s=1, idle_timeout_s=idle_s)
    files = open_files(node)
    with contextlib.ExitStack() as stack:
        for number in range(crowd):
            stack.enter_context(await asyncio.to_thread(silent_socket, node, f"gone-{number}"))
        last = time.monotonic()
        async with good_clients(node, records, 20, within_s=2):
            await eventually(lambda: counter(node, CLOSES, "4011") == crowd, idle_s + 8)
            # The last ping's answer is missed at the ping after it; then two seconds for the close frame's.
            assert time.monotonic() - last < idle_s + 1 + 2 + 2
            await eventually(lambda: open_files(node) <= files + 20 + 2)
            assert node.metric("tidings_gateway_connections") == 20
    assert counter(node, CLOSES, "4011") == crowd


async def test_a_vanished_client_with_a_backlog_goes_too(nodes: GatewayFactory, records: Topics) -> None:
    """One that is behind is not pinged, and a backlog below all limits closes nobody: silence must do it."""
    node = nodes(ping_interval_s=1, idle_timeout_s=3, socket_send_buffer_bytes=16_384)
    with silent_socket(node, "behind", receive_bytes=32_768):
        records.send(["behind"], "x" * 500_000)
        await eventually(lambda: node.metric("tidings_gateway_unsent_bytes") > 0)
        await eventually(lambda: node.metric("tidings_gateway_connections") == 0, 10)
        assert node.metric("tidings_gateway_unsent_bytes") == 0


async def test_2000_clients_that_never_read_cost_the_50_good_ones_nothing(
    nodes: GatewayFactory, records: Topics
) -> None:
    """Under full load all of them are closed with 4008, and the process grows by no more than its limit and 64 MiB."""
    crowd, good = 2000, 50
    total, slack = 64 * MIB, 64 * MIB
    node = nodes(
        socket_send_buffer_bytes=32_768,
        max_unsent_bytes=MIB,
        slow_unsent_bytes=128 * 1024,
        slow_after_s=2,
        max_unsent_total_bytes=total,
    )
    users = [f"deaf-{number}" for number in range(crowd)]
    with contextlib.ExitStack() as stack:

        def connect() -> None:
            for user in users:
                stack.enter_context(silent_socket(node, user))

        await asyncio.to_thread(connect)
        assert node.metric("tidings_gateway_connections") == crowd
        before, files = resident_bytes(node), open_files(node)
        largest, most_unsent = before, 0.0
        closed = asyncio.Event()

        def load() -> int:
            """800 records a second of 4 KiB, no two alike, to 50 of the crowd each: 40,000 deliveries and 160 MB."""
            generator = random.Random(7)
            produced, started = 0, time.monotonic()
            while not closed.is_set():
                data = generator.randbytes(2048).hex()
                records.send(generator.sample(users, 50), data, partition=produced % 4, flush=False)
                produced += 1
                if (ahead := produced / 800 - (time.monotonic() - started)) > 0:
                    time.sleep(ahead)
            return produced

        async with good_clients(node, records, good, within_s=3):
            loading = asyncio.create_task(asyncio.to_thread(load))
            started = time.monotonic()
            try:
                while counter(node, CLOSES, "4008") < crowd:
                    assert time.monotonic() - started < 60, "they should all be closed by now"
                    largest = max(largest, resident_bytes(node))
                    most_unsent = max(most_unsent, node.metric("tidings_gateway_unsent_bytes"))
                    await asyncio.sleep(0.1)
            finally:
                closed.set()
            took = time.monotonic() - started
            produced = await loading
        records.flush()
        print(
            f"{crowd} deaf clients closed after {took:.1f} s and {produced} records; resident"
            f" {before / MIB:.0f} -> {largest / MIB:.0f} MiB, unsent up to {most_unsent / MIB:.0f} MiB"
        )
        assert counter(node, CLOSES, "4008") == crowd
        assert most_unsent > 8 * MIB, "the load was none"
        assert largest - before < total + slack
        await eventually(lambda: open_files(node) <= files - crowd + good + 2)
    async with await TcpClient.open(node) as tcp:
        await tcp.upgrade("afterwards")
        await tcp.send(b"\x89\x80\0\0\0\0")
        assert (await tcp.frame()).opcode != PING
    assert node.ready()
