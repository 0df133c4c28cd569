"""Every limit of a gateway reached over real sockets: what the client is told, what is counted, who else notices."""

import asyncio
import contextlib
import json
import resource
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.integration.clients import (
    BINARY,
    PING,
    PONG,
    TEXT,
    Answer,
    TcpClient,
    Topics,
    bearer,
    client_frame,
    close_frame,
    counter,
    eventually,
    open_files,
    receive_json,
    silent_socket,
    sse,
    upgrade_request,
    web_socket,
)
from tests.integration.processes import Gateway, GatewayFactory

pytestmark = pytest.mark.kafka

CLOSES, REFUSED = "tidings_gateway_closes_total", "tidings_gateway_refused_total"
DROPS, CONNECTIONS = "tidings_gateway_drops_total", "tidings_gateway_connections"
HEADER_BYTES, MESSAGE_BYTES, BURST, PER_USER, PER_ADDRESS = 2048, 1000, 10, 3, 2
Witness = Callable[[Gateway], "contextlib.AbstractAsyncContextManager[None]"]


@pytest.fixture
def witness(records: Topics) -> Witness:
    """A connection that is open before, during and after: it must get every record, promptly, and stay."""

    @contextlib.asynccontextmanager
    async def watch(gateway: Gateway) -> AsyncIterator[None]:
        user = f"witness-{time.monotonic_ns()}"
        async with web_socket(gateway, user, "tidings.v1", additional_headers={"X-Forwarded-For": "192.0.2.200"}) as ws:
            await receive_json(ws)
            sent: list[float] = []
            got: list[tuple[int, float]] = []

            async def produce() -> None:
                while True:
                    sent.append(time.monotonic())
                    records.send([user], len(sent))
                    await asyncio.sleep(0.1)

            async def receive() -> None:
                while True:
                    frame = await receive_json(ws, 60)
                    got.append((frame["data"], time.monotonic()))

            producing, receiving = asyncio.create_task(produce()), asyncio.create_task(receive())
            try:
                yield
            finally:
                producing.cancel()
            await eventually(lambda: len(got) == len(sent), 3, "a client that did nothing wrong lost records")
            receiving.cancel()
            assert [number for number, _ in got] == list(range(1, len(sent) + 1))
            assert max(at - sent[number - 1] for number, at in got) < 1
            assert await (await ws.ping()) < 1

    return watch


@pytest.fixture(scope="module")
def strict(nodes: GatewayFactory) -> Gateway:
    """A node whose limits on single clients are all within reach."""
    return nodes(
        handshake_timeout_s=1,
        max_header_bytes=HEADER_BYTES,
        max_client_message_bytes=MESSAGE_BYTES,
        max_client_frames_per_s=5,
        max_client_frames_burst=BURST,
        max_connections_per_user=PER_USER,
        max_connections_per_address=PER_ADDRESS,
        trusted_proxies="127.0.0.1/32",
        ping_interval_s=0.5,
        idle_timeout_s=1.5,
    )


def from_address(number: int) -> dict[str, str]:
    return {"X_Forwarded_For": f"192.0.2.{number}"}


def check_retry_after(answer: Answer, least: int, most: int) -> None:
    assert least <= int(answer.headers["retry-after"]) <= most


@pytest.mark.limit("TIDINGS_GATEWAY_HANDSHAKE_TIMEOUT_S")
async def test_a_handshake_that_takes_too_long_gets_408(strict: Gateway, witness: Witness) -> None:
    before = counter(strict, REFUSED, "handshake_timeout")
    async with witness(strict), await TcpClient.open(strict) as silent, await TcpClient.open(strict) as slow:
        started = time.monotonic()
        trickle = asyncio.create_task(slow.send(upgrade_request(headers=bearer("slow")), chop=1, pause_s=0.05))
        for tcp in (silent, slow):
            answer = await tcp.answer()
            assert (answer.status, answer.error) == (408, "handshake_timeout")
            assert 0.9 < time.monotonic() - started < 2
        trickle.cancel()
        assert counter(strict, REFUSED, "handshake_timeout") == before + 2
        assert strict.metric("tidings_gateway_handshakes_pending") == 0
        assert await silent.ended() == b""


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_HEADER_BYTES")
async def test_a_head_that_is_too_big_gets_431(strict: Gateway, witness: Witness) -> None:
    before = counter(strict, REFUSED, "header_too_big")
    token = bearer("big")  # one for all: the length of a token follows the digits of its times
    async with witness(strict):
        bare = len(upgrade_request(headers=token | {"X-Forwarded-For": "192.0.2.1", "X-Fill": ""}))
        for size, status in ((HEADER_BYTES, 101), (HEADER_BYTES + 4, 101), (HEADER_BYTES + 5, 431), (100_000, 431)):
            async with await TcpClient.open(strict) as tcp:
                fill = {"X-Forwarded-For": "192.0.2.1", "X-Fill": "x" * (size - bare)}
                assert (answer := await tcp.ask(upgrade_request(headers=token | fill))).status == status
                assert status == 101 or answer.error == "header_too_big"
        async with await TcpClient.open(strict) as tcp:  # no end of line in sight
            await tcp.send(b"GET /" + b"x" * HEADER_BYTES)
            assert (await tcp.answer()).status == 431
        assert counter(strict, REFUSED, "header_too_big") == before + 3


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_CLIENT_MESSAGE_BYTES")
async def test_a_message_that_is_too_big_ends_with_1009(strict: Gateway, witness: Witness) -> None:
    before = counter(strict, CLOSES, "1009")
    exact = b"x" * MESSAGE_BYTES
    half = b"x" * (MESSAGE_BYTES // 2)
    too_big = {
        "whole": client_frame(TEXT, exact + b"x"),
        "binary": client_frame(BINARY, exact + b"x"),
        "in fragments": client_frame(TEXT, half, fin=False) + client_frame(0, half + b"x"),
        "by its head alone": client_frame(TEXT, length=1 << 40),
        "followed by all of it": client_frame(TEXT, b"x" * 5_000_000),
    }
    async with witness(strict):
        async with await TcpClient.open(strict) as tcp:
            await tcp.upgrade("exact", **from_address(2))
            await tcp.send(client_frame(TEXT, exact) + client_frame(TEXT, half, fin=False) + client_frame(0, half))
            assert await tcp.alive()
        for name, octets in too_big.items():
            async with await TcpClient.open(strict) as tcp:
                await tcp.upgrade("too-big", **from_address(3))
                sending = asyncio.create_task(tcp.send(octets))
                assert await tcp.closed() == 1009, name
                await tcp.ended()
                await asyncio.gather(sending, return_exceptions=True)
        await eventually(lambda: counter(strict, CLOSES, "1009") == before + len(too_big))


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_CLIENT_MESSAGE_BYTES")
async def test_who_is_still_sending_what_is_too_big_learns_why(nodes: GatewayFactory) -> None:
    """The octets under way must not make the kernel reset the connection before the close frame is read."""
    node = nodes(max_client_message_bytes=MESSAGE_BYTES)
    with silent_socket(node, "sending") as client:
        await asyncio.to_thread(client.sendall, client_frame(TEXT, b"x" * 5_000_000))
        assert await asyncio.to_thread(close_code_of, client) == 1009


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_CLIENT_MESSAGE_BYTES")
async def test_a_message_that_inflates_to_too_much_ends_with_1009(strict: Gateway) -> None:
    async with web_socket(
        strict, "bomb", compression="deflate", additional_headers={"X-Forwarded-For": "192.0.2.4"}
    ) as ws:
        await ws.send("x" * MESSAGE_BYTES)
        await (await ws.ping())
        await ws.send("x" * (1 << 20))
        with pytest.raises(ConnectionClosed):
            await ws.recv()
        assert ws.close_code == 1009


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_CLIENT_FRAMES_BURST")
async def test_more_frames_at_once_than_the_burst_end_with_1008(strict: Gateway, witness: Witness) -> None:
    before = counter(strict, CLOSES, "1008")
    async with witness(strict):
        async with await TcpClient.open(strict) as tcp:
            await tcp.upgrade("bursting", **from_address(5))
            await tcp.send(client_frame(TEXT, b"hi") * (BURST - 1))
            assert await tcp.alive()
            await tcp.send(client_frame(TEXT, b"hi") * 3)
            assert await tcp.closed() == 1008
            assert await tcp.ended() == b""
        await eventually(lambda: counter(strict, CLOSES, "1008") == before + 1)


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_CLIENT_FRAMES_PER_S")
async def test_frames_in_the_long_run_are_limited_by_the_rate(strict: Gateway, witness: Witness) -> None:
    async with witness(strict):
        async with await TcpClient.open(strict) as tcp:
            await tcp.upgrade("steady", **from_address(6))
            for _ in range(
                16
            ):  # 8 a second beyond an allowance of 10: over the rate of 5, the end comes after 3 seconds
                await tcp.send(client_frame(PING))
                await asyncio.sleep(0.05)
            assert await tcp.closed() == 1008
        async with await TcpClient.open(strict) as tcp:
            await tcp.upgrade("patient", **from_address(6))
            for _ in range(BURST):
                await tcp.send(client_frame(TEXT, b"hi"))
            await asyncio.sleep(0.8)  # four more are earned
            await tcp.send(client_frame(TEXT, b"hi") * 2)
            assert await tcp.alive()


@pytest.mark.limit("TIDINGS_GATEWAY_IDLE_TIMEOUT_S")
async def test_a_client_that_shows_no_life_ends_with_4011(strict: Gateway, witness: Witness) -> None:
    before, files = counter(strict, CLOSES, "4011"), open_files(strict)
    async with witness(strict), await TcpClient.open(strict) as lively, await TcpClient.open(strict) as mute:
        await lively.upgrade("lively", **from_address(7))
        await mute.upgrade("mute", **from_address(8))
        started = time.monotonic()

        async def answer_pings() -> None:
            while (frame := await lively.frame()).opcode == PING:
                await lively.send(client_frame(PONG, frame.payload))

        answering = asyncio.create_task(answer_pings())
        pings = 0
        while (frame := await mute.frame()).opcode == PING:
            pings += 1
        assert frame.code == 4011
        assert 1.4 < time.monotonic() - started < 3
        assert pings >= 1
        # Not even the close frame is answered: the socket goes all the same.
        await eventually(lambda: counter(strict, CLOSES, "4011") == before + 1)
        await eventually(lambda: open_files(strict) <= files + 2)
        assert not answering.done(), "who answers pings stays"
        answering.cancel()


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_CONNECTIONS_PER_USER")
async def test_one_connection_too_many_of_a_user_gets_429(strict: Gateway, witness: Witness, records: Topics) -> None:
    before = counter(strict, REFUSED, "user_limit")
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(witness(strict))
        sockets = []
        for number in range(PER_USER):
            tcp = await stack.enter_async_context(await TcpClient.open(strict))
            await tcp.upgrade("many", **from_address(10 + number))
            sockets.append(tcp)
        for path in ("/ws", "/sse"):
            async with await TcpClient.open(strict) as tcp:
                answer = await tcp.ask(upgrade_request(path, bearer("many") | {"X-Forwarded-For": "192.0.2.20"}))
                assert (answer.status, answer.error) == (429, "user_limit")
                check_retry_after(answer, 30, 60)
        assert counter(strict, REFUSED, "user_limit") == before + 2
        records.send(["many"], "for all three")
        for tcp in sockets:
            assert b"for all three" in (await tcp.frame_after_pings()).payload
        await sockets[0].send(close_frame())
        assert await sockets[0].closed() == 1000
        async with await TcpClient.open(strict) as tcp:  # there is room again at once
            await tcp.upgrade("many", **from_address(20))


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_CONNECTIONS_PER_ADDRESS")
async def test_one_connection_too_many_from_an_address_gets_429(strict: Gateway, witness: Witness) -> None:
    before = counter(strict, REFUSED, "address_limit")
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(witness(strict))
        for number in range(PER_ADDRESS):
            tcp = await stack.enter_async_context(await TcpClient.open(strict))
            await tcp.upgrade(f"neighbour-{number}", **from_address(30))
        async with await TcpClient.open(strict) as tcp:
            answer = await tcp.ask(upgrade_request(headers=bearer("late") | {"X-Forwarded-For": "192.0.2.30"}))
            assert (answer.status, answer.error) == (429, "address_limit")
            check_retry_after(answer, 30, 60)
        assert counter(strict, REFUSED, "address_limit") == before + 1
        async with await TcpClient.open(strict) as tcp:
            await tcp.upgrade("late", **from_address(31))


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_CONNECTIONS")
async def test_one_connection_too_many_on_a_node_gets_503(nodes: GatewayFactory, witness: Witness) -> None:
    node = nodes(max_connections=3)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(witness(node))
        await stack.enter_async_context(sse(node, "one"))
        tcp = await stack.enter_async_context(await TcpClient.open(node))
        await tcp.upgrade("two")
        for path in ("/ws", "/sse"):
            async with await TcpClient.open(node) as late:
                answer = await late.ask(upgrade_request(path, bearer("three")))
                assert (answer.status, answer.error) == (503, "node_full")
                check_retry_after(answer, 5, 10)
        assert counter(node, REFUSED, "node_full") == 2
        assert node.ready(), "a full node serves those whom it has"
        await tcp.send(close_frame())
        assert await tcp.closed() == 1000
        async with await TcpClient.open(node) as late:
            await late.upgrade("three")


def with_few_files(nodes: GatewayFactory, **settings: Any) -> Gateway:
    """A node that may have 286 files open, of which it keeps 256 for other things than clients: 30 are left."""
    node = nodes(wait=False, **settings)
    resource.prlimit(node.pid, resource.RLIMIT_NOFILE, (286, 286))
    node.wait_ready()
    return node


async def test_the_three_limits_on_connections_may_be_lifted(nodes: GatewayFactory) -> None:
    """41 get in only where all three are: each limit alone refuses some of them."""
    others: dict[str, Any] = {"max_connections_per_user": 0, "max_connections_per_address": 0}
    lifted = others | {"max_connections": 0}

    async def let_in(node: Gateway) -> tuple[int, str]:
        """How many of 41 connections, and why not the next."""
        async with contextlib.AsyncExitStack() as stack:
            for count in range(41):
                tcp = await stack.enter_async_context(await TcpClient.open(node))
                answer = await tcp.ask(upgrade_request(headers=bearer("one-user")))
                if answer.status != 101:
                    return count, answer.error
            assert counter(node, CONNECTIONS, "plain") == 41
            assert node.metric(REFUSED) == 0
        return 41, ""

    assert await let_in(with_few_files(nodes, **others)) == (30, "node_full"), "what the files allow is the default"
    unbounded = with_few_files(nodes, **lifted)
    assert await let_in(unbounded) == (41, "")
    await eventually(lambda: bool(unbounded.events("file_limit_below_connections")))
    assert unbounded.events("file_limit_below_connections")[0]["open_files"] == 286
    for name, error in (("max_connections_per_user", "user_limit"), ("max_connections_per_address", "address_limit")):
        assert await let_in(nodes(**lifted | {name: 20})) == (20, error)


# Clients that do not read


@pytest.fixture(scope="module")
def tight(nodes: GatewayFactory) -> Gateway:
    """A node that keeps little for those who do not read."""
    return nodes(
        max_unsent_bytes=1 << 20,
        slow_unsent_bytes=100_000,
        slow_after_s=1,
        max_unsent_total_bytes=2 << 20,
        socket_send_buffer_bytes=16_384,
    )


def close_code_of(client: socket.socket) -> int:
    """Read everything; the last frame must be a close frame."""
    client.settimeout(10)
    octets = b""
    with contextlib.suppress(ConnectionError):
        while piece := client.recv(1 << 20):
            octets += piece
    position, code = 0, 1006
    while position + 2 <= len(octets):
        opcode, size, start = octets[position] & 15, octets[position + 1] & 127, position + 2
        extra = {126: 2, 127: 8}.get(size, 0)
        if extra:
            size = int.from_bytes(octets[start : start + extra], "big")
            start += extra
        if opcode == 8:
            code = int.from_bytes(octets[start : start + 2], "big")
        position = start + size
    assert position == len(octets), "the stream ends inside a frame"
    return code


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_UNSENT_BYTES")
async def test_unsent_bytes_over_the_limit_end_with_4008_at_once(
    tight: Gateway, witness: Witness, records: Topics
) -> None:
    before, dropped = counter(tight, CLOSES, "4008"), counter(tight, DROPS, "unsent")
    with silent_socket(tight, "deaf", receive_bytes=32_768):
        async with witness(tight):
            for _ in range(3):
                records.send(["deaf"], "x" * 500_000)
            await eventually(lambda: counter(tight, DROPS, "unsent") > dropped, 0.9, "only after slow_after_s")
            assert tight.metric("tidings_gateway_unsent_bytes") == 0
        await eventually(lambda: counter(tight, CLOSES, "4008") == before + 1)


@pytest.mark.limit("TIDINGS_GATEWAY_SLOW_UNSENT_BYTES")
@pytest.mark.limit("TIDINGS_GATEWAY_SLOW_AFTER_S")
async def test_no_progress_over_the_slow_limit_ends_with_4008_after_a_while(
    tight: Gateway, witness: Witness, records: Topics
) -> None:
    before = counter(tight, CLOSES, "4008")
    with (
        silent_socket(tight, "stuck", receive_bytes=32_768),
        silent_socket(tight, "a-little-behind", receive_bytes=32_768) as forgiven,
    ):
        async with witness(tight):
            connected, started = tight.metric(CONNECTIONS), time.monotonic()
            for _ in range(8):
                records.send(["stuck"], "x" * 60_000, flush=False)
            records.send(["a-little-behind"], "x" * 60_000)
            await eventually(lambda: tight.metric(CONNECTIONS) == connected - 1)
            assert 0.9 < time.monotonic() - started < 3
            await eventually(lambda: counter(tight, CLOSES, "4008") == before + 1)
            await asyncio.sleep(0.5)
        assert counter(tight, CLOSES, "4008") == before + 1, "under the slow limit nobody is closed"
        forgiven.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        forgiven.settimeout(10)
        octets = b""
        while len(octets) < 60_000:
            octets += await asyncio.to_thread(forgiven.recv, 1 << 16)
        assert b'{"type":"update","data":"xxx' in octets
        assert tight.metric("tidings_gateway_unsent_bytes") == 0


@pytest.mark.limit("TIDINGS_GATEWAY_SLOW_AFTER_S")
async def test_a_slow_reader_that_moves_on_is_kept(tight: Gateway, records: Topics) -> None:
    """Behind by more than the slow limit for longer than `slow_after_s`, but never without progress for so long."""
    before = counter(tight, CLOSES, "4008")
    with silent_socket(tight, "slow-but-alive", receive_bytes=32_768) as client:
        for _ in range(12):
            records.send(["slow-but-alive"], "x" * 50_000, flush=False)
        records.flush()
        octets = 0
        started = time.monotonic()
        while octets < 12 * 50_000:
            octets += len(await asyncio.to_thread(client.recv, 24_576))
            await asyncio.sleep(0.1)
        assert time.monotonic() - started > 2
        assert counter(tight, CLOSES, "4008") == before


@pytest.mark.limit("TIDINGS_GATEWAY_MAX_UNSENT_TOTAL_BYTES")
async def test_unsent_bytes_of_all_together_cost_the_largest_their_connection(
    nodes: GatewayFactory, witness: Witness, records: Topics
) -> None:
    total = 2 << 20
    node = nodes(
        max_unsent_bytes=1 << 20, slow_after_s=60, max_unsent_total_bytes=total, socket_send_buffer_bytes=16_384
    )
    users = [f"heavy-{number}" for number in range(6)]
    with contextlib.ExitStack() as stack:
        for user in [*users, "light"]:
            stack.enter_context(silent_socket(node, user, receive_bytes=32_768))
        async with witness(node):
            records.send(["light"], "x" * 300_000, flush=False)
            for size in (300_000, 300_000, 100_000):  # 700 KB each, under the limit of one; 4.2 MB together
                records.send(users, "x" * size, flush=False)
            records.flush()
            await eventually(lambda: counter(node, CLOSES, "4008") > 0)
            assert 0 < node.metric("tidings_gateway_unsent_bytes") <= total
            records.signal(["light"], {"reason": "x"}, "$disconnect")  # it is still there: the largest go first
            await eventually(lambda: counter(node, CLOSES, "4002") == 1)
        assert 0 < counter(node, CLOSES, "4008") < len(users)


async def test_who_is_closed_as_slow_is_told_4008(tight: Gateway, records: Topics) -> None:
    """The frame that was half sent is finished first, so a client that reads again can understand the close frame."""
    # One that can resume is not too far behind at once, but too slow if it takes nothing for a while.
    for protocol, cause in (("", "unsent"), ("tidings.v1", "slow")):
        with silent_socket(tight, "told", protocol, receive_bytes=32_768) as client:
            dropped = counter(tight, DROPS, cause)
            for _ in range(4):
                records.send(["told"], "x" * 400_000)
            await eventually(lambda c=cause, before=dropped: counter(tight, DROPS, c) > before)  # type: ignore[misc]
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            assert await asyncio.to_thread(close_code_of, client) == 4008


async def test_refusals_are_json(strict: Gateway) -> None:
    async with await TcpClient.open(strict) as tcp:
        answer = await tcp.ask(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.status == 404
        assert json.loads(answer.body).keys() == {"error", "reason"}
