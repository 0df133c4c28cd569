"""`tidings messaging` as a process: how it starts, what it waits for, its limits, and how it goes."""

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.integration.messaging.serving import Answer, Messaging, MessagingFactory
from tests.integration.processes import SECRET, environment
from tidings.messaging.migrating import HEAD, VERSIONS, migrate
from tidings.messaging.store.database import Pool
from tidings.ports import free_ports
from tidings.postgres.local import LocalPostgres
from tidings.tokens import issue

pytestmark = pytest.mark.kafka

TEXT = "/chat/personal/{}/update/message/text"


def until(condition: Callable[[], object], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def later(ask: Callable[[], Answer]) -> "Future[Answer]":
    thread = ThreadPoolExecutor(1)
    try:
        return thread.submit(ask)
    finally:
        thread.shutdown(wait=False)


def new_chat(service: Messaging) -> str:
    return str(service.ask("POST", "/chat/personal", "alice", {"member_id": "bob"}).data["chat_id"])


@contextlib.asynccontextmanager
async def locked(dsn: str, chat_id: str) -> AsyncIterator[None]:
    """Nobody else can change the chat inside."""
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM chats WHERE id = $1::text::uuid FOR UPDATE", chat_id)
            yield
    finally:
        await connection.close()


def test_it_answers_relays_and_ends_with_0(messaging: MessagingFactory) -> None:
    service = messaging(access_log=True)
    chat_id = new_chat(service)
    sent = service.ask("POST", TEXT.format(chat_id), "alice", {"text": "hi"}).data
    assert service.ask("GET", f"/chat/{chat_id}/messages", "bob").data["messages"][0]["content"]["text"] == "hi"
    assert service.ask("GET", f"/chat/{chat_id}", "mallory").problem == (404, "chat_not_found")
    until(lambda: service.metric("tidings_relay_records_total") >= 2)
    until(lambda: service.metric("tidings_outbox_pending") == 0)
    assert sent["update_id"] == 1
    assert service.metric("tidings_messaging_requests_total", status="200") == 3
    assert service.metric("tidings_messaging_requests_total", status="404") == 1
    assert service.metric("tidings_messaging_request_seconds_count") == 4
    assert service.metric("tidings_messaging_postgres_up") == service.metric("tidings_messaging_kafka_up") == 1
    assert service.look("/healthz").status == 200
    assert service.stop() == 0
    assert service.events("request")[0]["path"] == "/v1.0/chat/personal"
    assert issue("alice", SECRET, 1, 1).split(".")[0] not in service.log, "no token, nor a part of one"
    assert "Traceback" not in service.log


def test_a_secret_update_ends_in_time_and_once_with_two_processes(messaging: MessagingFactory, pool: Pool) -> None:
    first, second = messaging(), messaging()
    chat_id = first.ask("POST", "/chat/personal/secret", "alice", {"member_id": "bob"}).data["chat_id"]
    ends = first.ask("PUT", f"/chat/personal/secret/{chat_id}/expiration", "bob", {"expiration": 2_000_000_000})
    assert ends.status == 200, ends
    secret = {"payload": "aGk=", "initialization_vector": "AAAA", "key_hash": "AQID"}
    sent = first.ask("POST", f"/chat/personal/secret/{chat_id}/update/secret", "alice", secret)
    assert sent.status == 200, sent

    def deletions() -> list[str]:
        path = f"/chat/{chat_id}/update?from=1&to=100"
        return [
            update["type"] for update in second.ask("GET", path, "bob").data["updates"] if update["type"] == "delete"
        ]

    assert deletions() == []
    started = time.monotonic()
    until(deletions, 2 + 5)
    assert time.monotonic() - started > 1
    time.sleep(2.5)
    assert deletions() == ["delete"]
    assert first.stop() == second.stop() == 0


def test_every_wrong_setting_is_told_at_once_and_nothing_listens() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tidings.cli", "messaging"],
        env=environment(
            TIDINGS_MESSAGING_WIRE="smoke",
            TIDINGS_MESSAGING_PORT="x",
            TIDINGS_POSTGRES_DSN="mysql://root:hunter2@db/x",
            TIDINGS_LOG_FORMAT="json",
        ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    told = done.stdout + done.stderr
    names = ("MESSAGING_WIRE", "MESSAGING_PORT", "POSTGRES_DSN", "JWT_SECRET")
    assert all(f"TIDINGS_{name}: " in told for name in names), told
    assert "hunter2" not in told


def test_a_taken_port_is_exit_code_1_before_postgres_is_asked(messaging: MessagingFactory) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        service = messaging(wait=False, port=port)
        assert service.process.wait(30) == 1
    assert f"127.0.0.1:{port}" in service.events("cannot_listen")[0]["reason"]


def test_a_database_without_its_version_is_waited_for(
    messaging: MessagingFactory, postgres_factory: Callable[..., LocalPostgres]
) -> None:
    dsn = postgres_factory().dsn
    service = messaging(wait=False, environ={"TIDINGS_POSTGRES_DSN": dsn})
    lacking = f"waiting for Postgres: the database lacks version {' '.join(VERSIONS)}; run `tidings migrate`"
    until(lambda: service.look("/readyz").body == {"status": "not_ready", "reason": lacking})
    assert service.look("/healthz").status == 200
    assert migrate(dsn)[-1] == HEAD
    service.wait_ready(20)


def test_postgres_may_come_late_go_and_come_back(
    messaging: MessagingFactory, postgres_factory: Callable[..., LocalPostgres]
) -> None:
    server = postgres_factory()
    dsn = server.dsn
    migrate(dsn)
    server.stop()
    service = messaging(wait=False, environ={"TIDINGS_POSTGRES_DSN": dsn})
    until(lambda: service.events("postgres_away"))
    assert service.look("/readyz").status == 503
    server.start()
    service.wait_ready(20)
    chat_id = new_chat(service)
    for graceful in (True, False):
        server.stop() if graceful else server.kill()
        assert service.ask("GET", f"/chat/{chat_id}").problem == (503, "unavailable")
        until(lambda: service.look("/readyz").status == 503, 15)
        assert service.metric("tidings_messaging_postgres_up") == 0
        server.start()
        until(lambda: service.ready(), 15)
        assert service.ask("GET", f"/chat/{chat_id}").data["chat_id"] == chat_id
    # The relay is back too.
    service.ask("POST", TEXT.format(chat_id), "alice", {"text": "after"})
    until(lambda: service.metric("tidings_outbox_pending") == 0 and service.metric("tidings_relay_shards") == 4)
    assert dsn.rpartition("@")[0].rpartition(":")[2] not in service.log, "no password"


def test_without_kafka_messages_are_taken_but_it_never_says_ready(messaging: MessagingFactory, pool: Pool) -> None:
    away = {"TIDINGS_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_ports(1)[0]}"}
    service = messaging(wait=False, environ=away)
    reason = "waiting for Kafka: has not answered since the start"
    until(lambda: service.events("ready"))
    until(lambda: service.look("/readyz").body == {"status": "not_ready", "reason": reason})
    chat_id = new_chat(service)
    assert service.ask("POST", TEXT.format(chat_id), "alice", {"text": "kept"}).status == 200
    until(lambda: service.metric("tidings_outbox_pending") >= 2)
    assert service.stop() == 0


async def test_sigterm_finishes_the_request_under_way(messaging: MessagingFactory, postgres_dsn: str) -> None:
    service = messaging(drain_s=15)
    chat_id = await asyncio.to_thread(new_chat, service)
    async with locked(postgres_dsn, chat_id):
        asked = later(lambda: service.ask("POST", TEXT.format(chat_id), "alice", {"text": "late"}))
        await asyncio.to_thread(until, lambda: service.metric("tidings_messaging_pool_connections", state="used") == 1)
        service.signal(signal.SIGTERM)
        await asyncio.to_thread(
            until, lambda: service.look("/readyz").body == {"status": "not_ready", "reason": "draining"}
        )
        await asyncio.to_thread(until, lambda: service.ask("GET", "/users/me").status == 0)
        assert service.process.poll() is None
    assert (await asyncio.wrap_future(asked)).data["content"]["text"] == "late"
    assert await asyncio.to_thread(service.process.wait, 20) == 0
    assert service.events("stopped")


async def test_a_request_that_does_not_end_is_cut_when_the_time_is_over(
    messaging: MessagingFactory, postgres_dsn: str
) -> None:
    service = messaging(drain_s=1)
    chat_id = await asyncio.to_thread(new_chat, service)
    async with locked(postgres_dsn, chat_id):
        asked = later(lambda: service.ask("POST", TEXT.format(chat_id), "alice", {"text": "late"}))
        await asyncio.to_thread(until, lambda: service.metric("tidings_messaging_pool_connections", state="used") == 1)
        service.signal(signal.SIGTERM)
        assert await asyncio.to_thread(service.process.wait, 15) == 0
    assert (await asyncio.wrap_future(asked)).status in (0, 500, 503)


async def test_a_second_sigterm_ends_it_at_once(messaging: MessagingFactory, postgres_dsn: str) -> None:
    service = messaging(drain_s=60)
    chat_id = await asyncio.to_thread(new_chat, service)
    async with locked(postgres_dsn, chat_id):
        later(lambda: service.ask("POST", TEXT.format(chat_id), "alice", {"text": "lost"}))
        await asyncio.to_thread(until, lambda: service.metric("tidings_messaging_pool_connections", state="used") == 1)
        service.signal(signal.SIGTERM)
        await asyncio.to_thread(until, lambda: service.events("draining"))
        service.signal(signal.SIGTERM)
        assert await asyncio.to_thread(service.process.wait, 5) == 0


@pytest.mark.limit("TIDINGS_POSTGRES_STATEMENT_TIMEOUT_S", "TIDINGS_POSTGRES_ACQUIRE_TIMEOUT_S")
async def test_who_waits_too_long_for_a_chat_or_a_connection_gets_503_and_others_go_on(
    messaging: MessagingFactory, postgres_dsn: str
) -> None:
    limits = {"STATEMENT_TIMEOUT_S": "3", "ACQUIRE_TIMEOUT_S": "1", "POOL_MIN": "0", "POOL_MAX": "3"}
    service = messaging(environ={f"TIDINGS_POSTGRES_{name}": value for name, value in limits.items()})
    chat_id = await asyncio.to_thread(new_chat, service)
    other = (await asyncio.to_thread(service.ask, "POST", "/chat/personal", "carol", {"member_id": "dave"})).data

    def send(chat: str, user: str) -> "asyncio.Future[Answer]":
        return asyncio.wrap_future(later(lambda: service.ask("POST", TEXT.format(chat), user, {"text": "x"})))

    async with locked(postgres_dsn, chat_id):
        first = send(chat_id, "alice")
        await asyncio.to_thread(until, lambda: service.metric("tidings_messaging_pool_connections", state="used") >= 1)
        assert (await send(other["chat_id"], "carol")).status == 200, "another chat is none of its business"
        second, third = send(chat_id, "alice"), send(chat_id, "alice")
        await asyncio.to_thread(until, lambda: service.metric("tidings_messaging_pool_connections", state="used") >= 3)
        assert (await send(other["chat_id"], "carol")).problem == (503, "unavailable"), "no connection in time"
        assert {(await each).problem for each in (first, second, third)} == {(503, "unavailable")}
    assert service.metric("tidings_messaging_refused_total", reason="unavailable") == 4
    assert (await send(chat_id, "alice")).status == 200


@pytest.mark.limit(
    "TIDINGS_MESSAGING_BODY_TIMEOUT_S",
    "TIDINGS_MESSAGING_MAX_BODY_BYTES",
    "TIDINGS_MESSAGING_MAX_REQUESTS_PER_S",
    "TIDINGS_MESSAGING_MAX_REQUESTS_BURST",
)
def test_limits_of_requests_are_those_of_the_settings_and_counted(messaging: MessagingFactory) -> None:
    service = messaging(body_timeout_s=1, max_body_bytes=2048, max_requests_per_s=0.1, max_requests_burst=4)
    parts = urlsplit(service.url)
    with socket.create_connection((parts.hostname, parts.port), 10) as slow:
        token = issue("zoe", SECRET, 60, time.time())
        head = f"POST /v1.0/chat/personal HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        slow.sendall(f"{head}Idempotency-Key: 1\r\nContent-Length: 20\r\n\r\n{{".encode())
        assert b" 408 " in slow.recv(4096).split(b"\r\n")[0]
    too_big = service.ask("POST", "/chat/personal", "alice", {"member_id": "b" * 4096})
    assert too_big.problem == (413, "body_too_large")
    answers = [service.ask("GET", "/users/me") for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 10
    assert service.ask("GET", "/users/me", "bob").status == 200
    for reason in ("request_timeout", "body_too_large", "too_many_requests"):
        assert service.metric("tidings_messaging_refused_total", reason=reason) == 1, reason


def test_the_command_shows_its_settings_without_secrets(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tidings.cli", "messaging", "--print-settings"],
        env=environment(TIDINGS_POSTGRES_DSN="postgresql://me:hunter2@db/chats", TIDINGS_JWT_SECRET=SECRET),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "TIDINGS_MESSAGING_PORT" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr
