"""How a gateway goes, and how it refuses to start."""

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tests.integration.clients import (
    CLOSE,
    END,
    TEXT,
    TcpClient,
    Topics,
    address,
    bearer,
    counter,
    eventually,
    sse,
    upgrade_request,
)
from tests.integration.processes import SECRET, Gateway, GatewayFactory, environment

pytestmark = pytest.mark.kafka

DRAIN_S = 4.0


async def ended(gateway: Gateway, timeout_s: float = 20) -> int:
    return await asyncio.to_thread(gateway.wait, timeout_s)


def accepts(gateway: Gateway) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(address(gateway.url), 1):
        return True
    return False


async def test_sigterm_drains_in_waves_and_exits_with_0(nodes: GatewayFactory, records: Topics) -> None:
    """Not ready first, nobody new, then everybody is told, a few at a time; who is still here still gets records."""
    node = nodes(drain_s=DRAIN_S, max_connections_per_user=0)
    many = 48
    async with contextlib.AsyncExitStack() as stack:
        sockets = []
        for number in range(many):
            tcp = await stack.enter_async_context(await TcpClient.open(node))
            protocol = {"Sec_WebSocket_Protocol": "tidings.v1"} if number % 2 else {}
            await tcp.upgrade("leaving", **protocol)
            if protocol:
                assert b"$welcome" in (await tcp.frame()).payload
            sockets.append(tcp)
        late = await stack.enter_async_context(await TcpClient.open(node))
        await eventually(lambda: node.metric("tidings_gateway_handshakes_pending") == 1)
        assert node.ready()

        node.signal(signal.SIGTERM)
        started = time.monotonic()
        told: list[float] = []
        got: list[int] = []

        async def read(number: int, tcp: TcpClient) -> None:
            frames = 0
            payloads = []
            while (frame := await tcp.frame_after_pings()).opcode == TEXT:
                payloads.append(json.loads(frame.payload))
                frames += 1
            told.append(time.monotonic() - started)
            assert frame.code == 1001
            if number % 2:
                assert payloads[-1] == {"type": "$drain", "data": {"reconnect_after_ms": 0}}
                del payloads[-1]
            assert [payload["data"] for payload in payloads] == list(range(len(payloads)))
            got.append(len(payloads))
            await tcp.send(b"\x88\x82\0\0\0\0\x03\xe9")
            assert await tcp.ended() == b""

        async with asyncio.TaskGroup() as tasks:
            for number, tcp in enumerate(sockets):
                tasks.create_task(read(number, tcp))
            await eventually(lambda: node.get("/readyz")[0] == 503, 1)
            assert "draining" in node.get("/readyz")[1]
            assert node.get("/healthz")[0] == 200
            assert len(told) < many / 2, "not ready comes before most are told"
            assert not accepts(node)
            answer = await late.ask(upgrade_request(headers=bearer("late")))
            assert (answer.status, answer.error) == (503, "draining")
            assert 1 <= int(answer.headers["retry-after"]) <= 2
            number = 0
            while node.process.poll() is None and len(told) < many:
                records.send(["leaving"], number)
                number += 1
                await asyncio.sleep(0.1)
        assert len(told) == many
        assert max(told) <= DRAIN_S
        assert max(told) - min(told) > DRAIN_S / 2, "spread over the drain"
        longest_wait, largest = 0.0, 0
        for at in told:
            wave = [other for other in told if abs(other - at) < 0.1]
            largest = max(largest, len(wave))
            longest_wait = max(longest_wait, min((other - at for other in told if other > at + 0.1), default=0))
        assert largest <= many / 4, "never many at once"
        assert longest_wait < 1
        assert max(got) > min(got), "those told last got what came meanwhile"
        assert await ended(node) == 0
        assert time.monotonic() - started < DRAIN_S + 2


async def test_all_gone_early_means_ended_early(nodes: GatewayFactory) -> None:
    node = nodes(drain_s=30)
    async with sse(node, "alone") as events, await TcpClient.open(node) as tcp:
        await tcp.upgrade("alone")
        await events.event()
        node.signal(signal.SIGTERM)
        started = time.monotonic()
        assert await tcp.closed() == 1001
        assert (await events.event()).json == {"type": "$close", "data": {"code": 1001}}
    assert await ended(node) == 0
    assert time.monotonic() - started < 8


async def test_a_client_that_ignores_its_close_frame_does_not_hold_the_node(nodes: GatewayFactory) -> None:
    node = nodes(drain_s=3)
    async with await TcpClient.open(node) as deaf:
        await deaf.upgrade("deaf")
        node.signal(signal.SIGTERM)
        started = time.monotonic()
        assert (await deaf.frame()).code == 1001
        assert await ended(node) == 0
        assert time.monotonic() - started < 5


async def test_a_second_sigterm_ends_it_at_once(nodes: GatewayFactory) -> None:
    node = nodes(drain_s=60)
    async with contextlib.AsyncExitStack() as stack:
        sockets = []
        for _ in range(10):
            sockets.append(await stack.enter_async_context(await TcpClient.open(node)))
            await sockets[-1].upgrade("alice")
        node.signal(signal.SIGTERM)
        await eventually(lambda: not node.ready())
        node.signal(signal.SIGTERM)
        started = time.monotonic()
        assert await ended(node, 5) == 0
        assert time.monotonic() - started < 1
        for tcp in sockets:
            assert (await tcp.frame()).opcode in (CLOSE, END.opcode)


async def test_sigint_drains_as_well(nodes: GatewayFactory) -> None:
    node = nodes(drain_s=1)
    async with await TcpClient.open(node) as tcp:
        await tcp.upgrade("alice")
        node.signal(signal.SIGINT)
        assert await tcp.closed() == 1001
    assert await ended(node) == 0


async def test_sigterm_ends_a_node_that_still_waits_for_kafka(
    nodes: GatewayFactory, free_port: Callable[[], int]
) -> None:
    node = nodes(wait=False, environ={"TIDINGS_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}"})
    await eventually(lambda: node.get("/readyz")[0] == 503, 20)
    assert json.loads(node.get("/readyz")[1])["reason"].startswith("waiting for Kafka: ")
    node.signal(signal.SIGTERM)
    assert await ended(node, 5) == 0


# Refusing to start


@pytest.mark.parametrize("which", ["port", "admin_port"])
async def test_a_busy_port_is_named(nodes: GatewayFactory, which: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        node = nodes(wait=False, **{which: port})
        assert await ended(node) == 1
        lines = [json.loads(line) for line in node.log.splitlines()]
        assert [line["event"] for line in lines if line["level"] == "error"] == ["cannot_listen"]
        assert str(port) in lines[-1]["reason"]
        assert "Traceback" not in node.log


FAULTS = {
    "TIDINGS_KAFKA_BOOTSTRAP_SERVERS": "http://kafka",
    "TIDINGS_KAFKA_SECURITY_PROTOCOL": "TLS",
    "TIDINGS_SIGNALS_TOPIC": "with space",
    "TIDINGS_JWT_SECRET": "hunter2",
    "TIDINGS_GATEWAY_PORT": "eighty",
    "TIDINGS_GATEWAY_MAX_CONNECTIONS": "-1",
    "TIDINGS_GATEWAY_IDLE_TIMEOUT_S": "0",
    "TIDINGS_GATEWAY_ORIGINS": "chat.example",
    "TIDINGS_GATEWAY_TRUSTED_PROXIES": "10.0.0.0/99",
    "TIDINGS_GATEWAY_TLS_CERT_FILE": "/nowhere/cert.pem",
    "TIDINGS_LOG_LEVEL": "loud",
}


def run_gateway(*arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tidings.cli", "gateway", *arguments],
        env=environment(**environ),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


async def test_all_wrong_settings_are_told_at_once_before_anything_listens(free_port: Callable[[], int]) -> None:
    admin = free_port()
    process = asyncio.create_task(
        asyncio.to_thread(
            run_gateway, **FAULTS, TIDINGS_GATEWAY_ADMIN_PORT=str(admin), TIDINGS_GATEWAY_HOST="127.0.0.1"
        )
    )
    listened = False
    while not process.done():
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", admin), 1):
            listened = True
        await asyncio.sleep(0.02)
    done = process.result()
    assert not listened
    assert done.returncode == 2
    output = done.stdout + done.stderr
    for name in FAULTS:
        assert output.count(name + ":") == 1, name
    assert "hunter2" not in output
    assert "Traceback" not in output


def test_no_keys_at_all_is_a_fault_too() -> None:
    done = run_gateway()
    assert done.returncode == 2
    for name in ("SECRET", "PUBLIC_KEY", "PUBLIC_KEY_FILE", "JWKS_URL"):
        assert f"TIDINGS_JWT_{name}" in done.stdout + done.stderr


def test_print_settings_shows_values_and_sources_and_starts_nothing() -> None:
    done = run_gateway("--print-settings", TIDINGS_JWT_SECRET=SECRET, TIDINGS_GATEWAY_MAX_CONNECTIONS_PER_USER="7")
    assert done.returncode == 0
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()[1:]}
    assert rows["TIDINGS_GATEWAY_MAX_CONNECTIONS_PER_USER"][:2] == ["7", "20"]
    assert rows["TIDINGS_JWT_SECRET"][0] == "***"
    assert "TIDINGS_KAFKA_BOOTSTRAP_SERVERS" in rows
    assert SECRET not in done.stdout + done.stderr


def test_print_settings_reports_faults_too() -> None:
    done = run_gateway("--print-settings", **FAULTS)
    assert done.returncode != 0
    assert all(name in done.stdout + done.stderr for name in FAULTS)
    assert "Traceback" not in done.stderr


async def test_an_unknown_setting_is_a_warning_with_a_suggestion(nodes: GatewayFactory) -> None:
    node = nodes(environ={"TIDINGS_GATEWAY_MAX_CONECTIONS": "7"})
    warned = [line for line in node.log.splitlines() if "setting_unknown" in line]
    assert len(warned) == 1
    assert "TIDINGS_GATEWAY_MAX_CONNECTIONS" in warned[0]
    assert counter(node, "tidings_gateway_refused_total", "node_full") == 0
