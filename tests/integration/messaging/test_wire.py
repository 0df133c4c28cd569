"""The shell behind the real server, byte by byte: what no HTTP client would send."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import pytest

from tests.integration.messaging.shell import CHAT, make_shell
from tests.integration.messaging.wires import connect, head
from tidings.messaging.http.server import HttpServer

SAY = f"/v1.0/chat/{CHAT}/text"
LIMIT = 1_000


@pytest.fixture
async def port() -> AsyncIterator[int]:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    server = HttpServer(make_shell(max_body_bytes=LIMIT, body_timeout_s=0.3), listening, 1.0)
    await server.start()
    yield int(listening.getsockname()[1])
    await server.stop()
    listening.close()


async def test_several_requests_on_one_connection_are_answered_in_order(port: int) -> None:
    wire = await connect(port)
    body = b'{"text":"hi"}'
    wire.writer.write((head("POST", SAY, f"Content-Length: {len(body)}") + body) * 3 + head("GET", "/v1.0/nothing"))
    assert [(await wire.answer())[0] for _ in range(4)] == [200, 200, 200, 404]
    wire.writer.close()


async def test_a_body_in_chunks_is_one_body(port: int) -> None:
    wire = await connect(port)
    wire.writer.write(head("POST", SAY, "Transfer-Encoding: chunked"))
    for piece in (b'{"te', b'xt":"\xc3', b'\xa9"}'):
        wire.writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        await asyncio.sleep(0.02)
    wire.writer.write(b"0\r\n\r\n")
    status, _, body = await wire.answer()
    assert (status, json.loads(body)["data"]["text"]) == (200, "é")
    wire.writer.close()


@pytest.mark.limit("TIDINGS_MESSAGING_MAX_BODY_BYTES")
async def test_chunks_over_the_limit_are_413_without_reading_the_rest(port: int) -> None:
    wire = await connect(port)
    wire.writer.write(head("POST", SAY, "Transfer-Encoding: chunked"))
    for _ in range(11):
        wire.writer.write(b"64\r\n" + b" " * 100 + b"\r\n")
        await asyncio.sleep(0)
    assert await wire.problem() == (413, "body_too_large")
    assert await wire.closed()


async def test_an_announced_body_over_the_limit_is_413_before_it_comes(port: int) -> None:
    wire = await connect(port)
    wire.writer.write(head("POST", SAY, f"Content-Length: {LIMIT + 1}"))
    assert await wire.problem() == (413, "body_too_large")
    assert await wire.closed()


@pytest.mark.limit("TIDINGS_MESSAGING_BODY_TIMEOUT_S")
async def test_a_body_that_does_not_come_is_408(port: int) -> None:
    for start in (b"", b'{"te'):
        wire = await connect(port)
        wire.writer.write(head("POST", SAY, "Content-Length: 100") + start)
        assert await wire.problem() == (408, "request_timeout")
        assert await wire.closed()


async def test_a_client_that_goes_away_in_its_body_harms_nobody(port: int) -> None:
    wire = await connect(port)
    wire.writer.write(head("POST", SAY, "Content-Length: 100") + b'{"te')
    await asyncio.sleep(0.05)
    wire.writer.close()
    await asyncio.sleep(0.05)
    other = await connect(port)
    other.writer.write(head("GET", "/v1.0/nothing"))
    assert await other.problem() == (404, "not_found")
    other.writer.close()


async def test_head_has_the_length_of_get_and_no_body(port: int) -> None:
    wire = await connect(port)
    wire.writer.write(head("HEAD", "/schema") + head("GET", "/v1.0/nothing"))
    async with asyncio.timeout(5):
        first = (await wire.reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    assert first.startswith("http/1.1 200")
    assert "content-length: " in first
    assert await wire.problem() == (404, "not_found")
    wire.writer.close()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1.0/users/%2e%2e%2f%2e%2e", 200),
        ("/v1.0/users/../users/a", 404),
        ("/v1.0/users/a%00", 400),
        ("/v1.0/users/%ff%fe", 400),
        ("/v1.0/users/%zz", 200),
        ("/v1.0/users/" + "a" * 10_000, 400),
        ("http://other.test/v1.0/users/a", 200),
    ],
)
async def test_odd_paths_are_answered(port: int, path: str, status: int) -> None:
    wire = await connect(port)
    wire.writer.write(head("PUT", path, "Content-Length: 0"))
    assert (await wire.answer())[0] == status
    wire.writer.close()
