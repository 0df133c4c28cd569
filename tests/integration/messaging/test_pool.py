"""The pool: limits that the server keeps for us, even from ourselves."""

import asyncio
import time

import asyncpg
import pytest
from pydantic import SecretStr

from tidings.config import PostgresSettings
from tidings.errors import DatabaseUnavailable
from tidings.messaging.store.database import Database, Pool
from tidings.messaging.store.pool import close_pool, open_pool
from tidings.ports import free_ports


async def test_the_server_ends_a_statement_that_takes_too_long(pool: Pool, postgres_dsn: str) -> None:
    mine = await open_pool(PostgresSettings(dsn=SecretStr(postgres_dsn), statement_timeout_s=0.3, pool_min=0))
    try:
        database = Database(mine, lambda _: None, acquire_timeout_s=5)
        started = time.monotonic()
        with pytest.raises(DatabaseUnavailable, match="QueryCanceledError"):
            async with database.connection() as connection:
                await connection.execute("SELECT pg_sleep(10)")
        assert time.monotonic() - started < 2.3, "the client's own timeout, for a server that doesn't answer at all"
    finally:
        await close_pool(mine)


async def test_a_process_that_goes_silent_in_a_transaction_keeps_no_lock(pool: Pool, postgres_dsn: str) -> None:
    await pool.execute("INSERT INTO users (id) VALUES ('alice')")
    mine = await open_pool(PostgresSettings(dsn=SecretStr(postgres_dsn), idle_transaction_timeout_s=0.5, pool_min=0))
    silent = await mine.acquire()
    await silent.execute("BEGIN")
    await silent.execute("UPDATE users SET name = 'Alice'")
    # Waits for the row, until the server has ended the other's session.
    await asyncio.wait_for(pool.execute("UPDATE users SET name = 'A.'"), 10)
    mine.terminate()
    assert await pool.fetchval("SELECT name FROM users") == "A."


async def test_a_pool_that_is_closed_cuts_what_is_still_in_use_after_a_while(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidings.messaging.store.pool._CLOSE_S", 0.2)
    mine = await open_pool(PostgresSettings(dsn=SecretStr(postgres_dsn), pool_min=0))
    used = await mine.acquire()
    await asyncio.wait_for(close_pool(mine), 5)
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
        await used.execute("SELECT 1")


async def test_a_server_that_is_away_is_told_without_the_password() -> None:
    dsn = SecretStr(f"postgresql://me:hunter2@127.0.0.1:{free_ports(1)[0]}/d")
    with pytest.raises(DatabaseUnavailable) as caught:
        await open_pool(PostgresSettings(dsn=dsn))
    assert "hunter2" not in str(caught.value)


async def test_work_that_postgres_turns_away_again_and_again_is_given_up_as_a_server_too_busy(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidings.messaging.store.database._RETRY_S", 0.0)
    tries = 0

    async def work(_: object) -> None:
        nonlocal tries
        tries += 1
        raise asyncpg.DeadlockDetectedError("deadlock detected")

    with pytest.raises(DatabaseUnavailable, match="5 times in a row"):
        await database.run(work)
    assert tries == 5
