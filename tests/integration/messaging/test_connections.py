"""Connections on the real server, byte by byte: how long a head may take and how large it may be, and how many there
may be."""

import asyncio
import contextlib
import json
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.integration.messaging.serving import MessagingFactory
from tests.integration.messaging.shell import CHAT, make_shell, routes
from tests.integration.messaging.wires import Wire, connect, head
from tidings.messaging.http.connection import ConnectionLimits
from tidings.messaging.http.replies import Reply, reply
from tidings.messaging.http.routing import read
from tidings.messaging.http.server import HttpServer

NOTHING = head("GET", "/v1.0/nothing")
SLOW = head("GET", "/v1.0/slow")
SAY = f"/v1.0/chat/{CHAT}/text"
HEADER_S = 0.4
HEADER_BYTES = 2_048
SLOW_S = 1.0


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("not within 5 s")


class Serving:
    """A server of the test's own, and what it told of refusals."""

    def __init__(self, port: int, told: "Counter[str]", server: HttpServer) -> None:
        self.port = port
        self.told = told
        self.server = server

    async def connect(self) -> Wire:
        return await connect(self.port)

    async def is_well(self) -> None:
        wire = await self.connect()
        wire.writer.write(NOTHING)
        assert await wire.problem() == (404, "not_found")
        wire.writer.close()

    async def is_empty(self) -> None:
        await until(lambda: not self.server.connections)


@contextlib.asynccontextmanager
async def served(**limits: Any) -> AsyncIterator[Serving]:
    @read("/slow", tag="Chats", example={})
    async def slow() -> Reply:
        """Slow."""
        await asyncio.sleep(SLOW_S)
        return reply("late")

    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    told: Counter[str] = Counter()
    of_test = {"header_timeout_s": HEADER_S, "header_bytes": HEADER_BYTES, "body_timeout_s": 5, **limits}
    app = make_shell([*routes(None), slow], body_timeout_s=5)
    server = HttpServer(app, listening, 1.0, ConnectionLimits(**of_test), lambda reason: told.update([reason]))
    await server.start()
    try:
        yield Serving(int(listening.getsockname()[1]), told, server)
    finally:
        await server.stop()
        listening.close()


@pytest.fixture
async def serving() -> AsyncIterator[Serving]:
    async with served() as one:
        yield one


async def trickle(wire: Wire, data: bytes, step_s: float = 0.02) -> None:
    with contextlib.suppress(OSError):
        for byte in data:
            wire.writer.write(bytes([byte]))
            await asyncio.sleep(step_s)


async def ends_within(wire: Wire, from_s: float, to_s: float) -> bytes:
    """What comes until the end, which is neither earlier nor later."""
    started = time.monotonic()
    async with asyncio.timeout(to_s + 5):
        try:
            came = await wire.reader.read()
        except ConnectionResetError:
            came = b""
    assert from_s <= time.monotonic() - started <= to_s
    return came


@pytest.mark.limit("TIDINGS_MESSAGING_HEADER_TIMEOUT_S")
async def test_headers_that_come_byte_by_byte_are_408_in_time_and_harm_nobody(serving: Serving) -> None:
    wire = await serving.connect()
    started = time.monotonic()
    slow = asyncio.create_task(trickle(wire, NOTHING))
    await serving.is_well()
    status, headers, body = await wire.answer()
    assert HEADER_S * 0.9 <= time.monotonic() - started <= HEADER_S + 1
    assert (status, json.loads(body)["error_type"]) == (408, "request_timeout")
    assert (headers["connection"], headers["content-type"]) == ("close", "application/json")
    assert await wire.closed()
    slow.cancel()
    wire.writer.close()
    await serving.is_empty()
    assert serving.told == {"request_timeout": 1}


async def test_who_does_not_go_after_a_refusal_is_cut(serving: Serving) -> None:
    wire = await serving.connect()
    wire.writer.write(b"GET")
    assert await wire.problem() == (408, "request_timeout")
    slow = asyncio.create_task(trickle(wire, b"x" * 1_000))
    await serving.is_empty()
    slow.cancel()


@pytest.mark.parametrize("start", [b"", b"\r\n"], ids=["silent", "blank"])
async def test_who_asks_for_nothing_is_closed_without_an_answer(start: bytes) -> None:
    async with served(body_timeout_s=HEADER_S) as serving:
        wire = await serving.connect()
        wire.writer.write(start)
        assert await ends_within(wire, HEADER_S * 0.9, HEADER_S * 2 + 1) == b""
        assert serving.told == {"no_request": 1}


async def test_a_kept_connection_may_rest_but_its_next_request_has_the_same_time(serving: Serving) -> None:
    wire = await serving.connect()
    for rest_s in (0, HEADER_S * 2):
        await asyncio.sleep(rest_s)
        wire.writer.write(NOTHING)
        assert await wire.problem() == (404, "not_found")
    await asyncio.sleep(HEADER_S * 2)
    slow = asyncio.create_task(trickle(wire, NOTHING))
    started = time.monotonic()
    assert await wire.problem() == (408, "request_timeout")
    assert HEADER_S * 0.9 <= time.monotonic() - started <= HEADER_S + 1
    slow.cancel()


async def test_blank_lines_after_an_answer_keep_no_connection() -> None:
    async with served(body_timeout_s=HEADER_S) as serving:
        wire = await serving.connect()
        wire.writer.write(NOTHING)
        assert await wire.problem() == (404, "not_found")
        slow = asyncio.create_task(trickle(wire, b"\r\n" * 1_000))
        assert await ends_within(wire, HEADER_S * 0.9, HEADER_S + 1) == b""
        slow.cancel()
        assert serving.told == {"no_request": 1}


async def test_the_rest_of_a_body_that_was_answered_early_keeps_no_connection() -> None:
    async with served(body_timeout_s=HEADER_S) as serving:
        wire = await serving.connect()
        wire.writer.write(head("POST", "/v1.0/nothing", "Content-Length: 1000"))
        assert await wire.problem() == (404, "not_found")
        slow = asyncio.create_task(trickle(wire, b"x" * 999))
        assert await ends_within(wire, HEADER_S * 0.9, HEADER_S + 1) == b""
        slow.cancel()


async def test_an_answer_that_ends_the_connection_can_be_read_behind_a_body_that_nobody_wanted(
    serving: Serving,
) -> None:
    def asked() -> bytes:
        with socket.create_connection(("127.0.0.1", serving.port), 5) as one:
            one.sendall(head("POST", "/v1.0/nothing", "Content-Length: 100000000", "Connection: close"))
            for _ in range(10):  # the answer is out before the first of them
                time.sleep(0.02)
                one.sendall(b"x" * 100_000)
            return one.makefile("rb").read()

    assert (await asyncio.to_thread(asked)).startswith(b"HTTP/1.1 404 ")
    await serving.is_empty()
    await serving.is_well()
    assert not serving.told


async def test_nothing_that_is_pipelined_behind_the_last_answer_is_done(serving: Serving) -> None:
    wire = await serving.connect()
    last = head("GET", "/v1.0/slow", "Connection: close")
    wire.writer.write(last + SLOW + NOTHING[:20])
    assert (await wire.answer())[0] == 200
    assert await ends_within(wire, 0, 0.5) == b""


async def test_a_body_that_ends_after_its_answer_leaves_the_connection_to_the_next_request(serving: Serving) -> None:
    wire = await serving.connect()
    wire.writer.write(head("POST", "/v1.0/nothing", "Content-Length: 10"))
    assert await wire.problem() == (404, "not_found")
    await trickle(wire, b"x" * 10)
    await asyncio.sleep(HEADER_S * 2)
    wire.writer.write(NOTHING)
    assert await wire.problem() == (404, "not_found")
    wire.writer.close()
    assert not serving.told


async def test_a_connection_whose_body_ended_after_its_answer_rests_no_longer_than_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tidings.messaging.http.server._KEEP_ALIVE_S", 1)
    async with served() as serving:
        wire = await serving.connect()
        wire.writer.write(head("POST", "/v1.0/nothing", "Content-Length: 10"))
        assert await wire.problem() == (404, "not_found")
        await trickle(wire, b"x" * 10)
        assert await ends_within(wire, 0.8, 2) == b""


async def test_a_handler_and_a_body_may_take_longer_than_headers(serving: Serving) -> None:
    wire = await serving.connect()
    wire.writer.write(SLOW)
    assert (await wire.answer())[0] == 200
    wire.writer.write(head("POST", SAY, "Content-Length: 13"))
    await trickle(wire, b'{"text":"hi"}', HEADER_S / 6)
    assert (await wire.answer())[0] == 200
    wire.writer.close()
    assert not serving.told


async def test_a_request_begun_behind_a_slow_one_has_its_time_from_the_answer_on(serving: Serving) -> None:
    wire = await serving.connect()
    wire.writer.write(SLOW + NOTHING[:20])
    assert (await wire.answer())[0] == 200, "not 408: that would be taken for its answer"
    started = time.monotonic()
    assert await wire.problem() == (408, "request_timeout")
    assert time.monotonic() - started >= HEADER_S * 0.9
    other = await serving.connect()
    other.writer.write(SLOW + NOTHING[:20])
    assert (await other.answer())[0] == 200
    other.writer.write(NOTHING[20:])
    assert await other.problem() == (404, "not_found")
    other.writer.close()


async def test_pipelined_requests_are_all_answered_in_order(serving: Serving) -> None:
    wire = await serving.connect()
    wire.writer.write(SLOW + NOTHING + SLOW + NOTHING)
    assert [(await wire.answer())[0] for _ in range(4)] == [200, 404, 200, 404]
    await asyncio.sleep(HEADER_S * 2)
    wire.writer.write(NOTHING)
    assert await wire.problem() == (404, "not_found")
    wire.writer.close()
    assert not serving.told


@pytest.mark.limit("TIDINGS_MESSAGING_MAX_HEADER_BYTES")
@pytest.mark.parametrize(
    "large",
    [
        head("GET", "/v1.0/nothing", "X-Large: " + "x" * HEADER_BYTES),
        head("GET", "/v1.0/nothing", *(f"X-{number}: 1" for number in range(HEADER_BYTES // 8))),
        head("GET", "/v1.0/nothing?" + "x" * HEADER_BYTES),
        head("GET", "/v1.0/nothing", "X-Large: " + "x" * 3_000_000),
        b"GET /v1.0/nothing HTTP/1.1\r\nX-Endless: " + b"x" * HEADER_BYTES,
    ],
    ids=["header", "headers", "target", "megabytes", "endless"],
)
async def test_a_head_that_is_too_large_is_431_and_can_be_read(serving: Serving, large: bytes) -> None:
    for before in (b"", NOTHING):
        wire = await serving.connect()
        wire.writer.write(before + large)
        if before:
            assert await wire.problem() == (404, "not_found")
            wire.writer.write(b"x" * HEADER_BYTES * 2)
        assert await wire.problem() == (431, "headers_too_large")
        assert await wire.closed()
        wire.writer.close()
    assert serving.told == {"headers_too_large": 2}
    await serving.is_well()


async def test_a_head_just_under_the_limit_is_taken_however_it_is_cut(serving: Serving) -> None:
    large = head("GET", "/v1.0/nothing", "X-Large: " + "x" * (HEADER_BYTES - len(NOTHING) - 50))
    body = b'{"text":"' + b"h" * HEADER_BYTES + b'"}'
    wire = await serving.connect()
    for cut in (1, 100, len(large) - 1, len(large)):
        wire.writer.write(large[:cut])
        await asyncio.sleep(0.02)
        wire.writer.write(large[cut:] + head("POST", SAY, f"Content-Length: {len(body)}") + body + large)
        assert [(await wire.answer())[0] for _ in range(3)] == [404, 200, 404]
    chunked = head("POST", SAY, "Transfer-Encoding: chunked", "X-Large: " + "x" * (HEADER_BYTES - len(NOTHING) - 80))
    for piece in (chunked, b"%x;%s\r\n" % (len(body), b"x" * 100), body[:-10], body[-10:] + b"\r\n0\r\n\r\n"):
        wire.writer.write(piece)
        await asyncio.sleep(0.02)
    assert (await wire.answer())[0] == 200
    wire.writer.close()
    assert not serving.told


async def test_trailers_are_bounded_too(serving: Serving) -> None:
    wire = await serving.connect()
    wire.writer.write(head("POST", "/v1.0/nothing", "Transfer-Encoding: chunked") + b"1\r\nx\r\n0\r\n")
    assert await wire.problem() == (404, "not_found")
    with contextlib.suppress(OSError):
        for _ in range(10):
            wire.writer.write(b"X-Trailer: " + b"x" * HEADER_BYTES)
            await wire.writer.drain()
    assert await wire.problem() == (431, "headers_too_large")


async def test_what_is_no_http_is_400_after_the_answers_that_are_owed(serving: Serving) -> None:
    wire = await serving.connect()
    wire.writer.write(SLOW + b"\0\0\0\r\n\r\n")
    assert (await wire.answer())[0] == 200
    assert await wire.problem() == (400, "bad_request")
    assert await wire.closed()
    assert not serving.told, "no limit"


@pytest.mark.limit("TIDINGS_MESSAGING_MAX_CONNECTIONS")
async def test_one_connection_too_many_is_503_and_those_who_are_there_stay() -> None:
    async with served(connections=3, header_timeout_s=30) as serving:
        there = [await serving.connect() for _ in range(3)]
        for _ in range(2):
            late = await serving.connect()
            late.writer.write(NOTHING)
            status, headers, body = await late.answer()
            assert (status, json.loads(body)["error_type"]) == (503, "too_many_connections")
            assert (headers["connection"], headers["retry-after"]) == ("close", "1")
            assert await late.closed()
        for wire in there:
            wire.writer.write(NOTHING)
            assert await wire.problem() == (404, "not_found")
        # The refused ones are still held here, and take nobody's place.
        there.pop().writer.close()
        await asyncio.sleep(0.1)
        await serving.is_well()
        assert serving.told == {"too_many_connections": 2}


async def test_a_flood_of_connections_is_cut_and_then_forgotten() -> None:
    async with served(connections=3, header_timeout_s=30) as serving:
        there = [await serving.connect() for _ in range(3)]
        flood = [await serving.connect() for _ in range(300)]
        await until(lambda: serving.told["too_many_connections"] == 300)
        assert serving.server.connections <= 3 + 64
        for wire in there:
            wire.writer.write(NOTHING)
            assert await wire.problem() == (404, "not_found")
        for wire in flood:
            came = await ends_within(wire, 0, 3)
            assert not came or came.startswith(b"HTTP/1.1 503 ")
            wire.writer.close()
        there.pop().writer.close()
        await asyncio.sleep(0.1)
        await serving.is_well()
        await asyncio.sleep(0.1)
        there.append(await serving.connect())
        assert await (await serving.connect()).problem() == (503, "too_many_connections")


async def test_stopping_waits_for_none_who_has_asked_for_nothing() -> None:
    async with served(header_timeout_s=30, connections=2) as serving:
        silent, begun = await serving.connect(), await serving.connect()
        begun.writer.write(b"GET")
        refused = await serving.connect()
        await refused.problem()
        started = time.monotonic()
    assert time.monotonic() - started < 0.9
    assert await silent.closed()


@pytest.mark.kafka
@pytest.mark.limit(
    "TIDINGS_MESSAGING_HEADER_TIMEOUT_S", "TIDINGS_MESSAGING_MAX_HEADER_BYTES", "TIDINGS_MESSAGING_MAX_CONNECTIONS"
)
def test_limits_of_connections_are_those_of_the_settings_and_counted(messaging: MessagingFactory) -> None:
    service = messaging(header_timeout_s=1, max_header_bytes=1024, max_connections=2)
    parts = urlsplit(service.url)

    def said(data: bytes) -> bytes:
        with socket.create_connection((parts.hostname, parts.port), 10) as one:
            one.sendall(data)
            return one.recv(4096)

    assert said(b"") == b""
    assert said(b"GET").startswith(b"HTTP/1.1 408 ")
    assert said(b"GET / HTTP/1.1\r\nX: " + b"x" * 2048).startswith(b"HTTP/1.1 431 ")
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(socket.create_connection((parts.hostname, parts.port), 10))
        assert said(b"GET").startswith(b"HTTP/1.1 503 ")
        assert service.metric("tidings_messaging_connections") >= 2
    for reason in ("no_request", "request_timeout", "headers_too_large", "too_many_connections"):
        assert service.metric("tidings_messaging_refused_total", reason=reason) == 1, reason
    assert service.ask("GET", "/users/me").status == 200
