"""A server of ours: it starts as root or not, keeps its data, can be frozen and killed, and goes when we are killed."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from tests.integration.processes import environment
from tidings.errors import DatabaseUnavailable
from tidings.ports import free_ports
from tidings.postgres import ladder
from tidings.postgres.databases import ask, create_database, server_version
from tidings.postgres.embedded import find_embedded
from tidings.postgres.local import LocalPostgres, find_programs, server_user


@pytest.fixture(scope="module")
def programs() -> Path:
    found = find_programs()
    if found is None:
        pytest.skip("no PostgreSQL on this machine")
    return found


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the server's user can go, too."""
    folder = Path(tempfile.mkdtemp(prefix="tidings-postgres-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


async def count(dsn: str) -> int:
    connection = await asyncpg.connect(dsn, timeout=5)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM kept"))
    finally:
        await connection.close()


async def test_data_port_and_password_outlive_stop_kill_and_a_new_object(folder: Path, programs: Path) -> None:
    server = LocalPostgres(folder / "server", programs, fast=True)
    try:
        dsn = server.start().dsn
        connection = await asyncpg.connect(dsn)
        await connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
        await connection.close()
        server.restart()
        assert server.dsn == dsn
        assert await count(dsn) == 1
        server.restart(graceful=False)
        assert await count(dsn) == 1
        server.stop()
        with LocalPostgres(folder / "server", programs, port=server.port, fast=True) as again:
            assert again.dsn == dsn
            assert await count(dsn) == 1
    finally:
        server.kill()


async def test_a_frozen_server_answers_nothing_until_it_thaws(folder: Path, programs: Path) -> None:
    with LocalPostgres(folder / "server", programs, fast=True) as server:
        connection = await asyncpg.connect(server.dsn)
        server.pause()
        with pytest.raises(TimeoutError):
            await connection.fetchval("SELECT 1", timeout=0.5)
        server.resume()
        assert await asyncio.wait_for(connection.fetchval("SELECT 1"), 10) == 1
        await connection.close()


def test_the_password_is_needed_and_not_for_everybody_to_read(folder: Path, programs: Path) -> None:
    with LocalPostgres(folder / "server", programs, fast=True) as server:
        password = folder / "server" / "password"
        assert password.stat().st_mode & 0o077 == 0
        with pytest.raises(DatabaseUnavailable, match="password") as caught:
            server_version(server.dsn.replace(password.read_text(), "wrong"))
        assert password.read_text() not in str(caught.value)
        if os.geteuid() == 0:
            assert psutil.Process(server.pid).username() == server_user() != "root"


def test_a_server_does_not_outlive_a_killed_starter_whoever_is_connected(folder: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path; from tidings.postgres import ladder;"
        "server = ladder.start(Path(sys.argv[1]), fast=True, only='machine');"
        "print(server._owned.pid, server.dsn, flush=True); time.sleep(60)"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], env=environment(), stdout=subprocess.PIPE, text=True
    )
    assert starter.stdout is not None
    if not (line := starter.stdout.readline()):
        pytest.skip("no PostgreSQL on this machine")
    pid, dsn = line.split()
    server = psutil.Process(int(pid))
    loop = asyncio.new_event_loop()
    client = loop.run_until_complete(asyncpg.connect(dsn))
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    if sys.platform == "linux":
        server.wait(20)
        # In order: nothing of shared memory or a lock file is left.
        assert not list(folder.glob("*/data/postmaster.pid"))
    client.terminate()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


@pytest.mark.parametrize("rung", ["machine", "embedded"])
def test_both_rungs_of_this_machine_give_a_database_that_is_found_again(folder: Path, rung: ladder.Rung) -> None:
    if (find_programs() if rung == "machine" else find_embedded()) is None:
        pytest.skip(f"this machine has no {rung} server")
    for _ in range(2):
        with ladder.start(folder, fast=True, only=rung) as server:
            assert server.rung == rung
            assert f"PostgreSQL {server_version(server.dsn)}" in server.what
            assert server.alive
            assert server.log_file is not None
            create_database(server.dsn, "another")

            async def databases(connection: "asyncpg.Connection[asyncpg.Record]") -> int:
                return int(await connection.fetchval("SELECT count(*) FROM pg_database WHERE datname = 'another'"))

            assert ask(server.dsn, databases) == 1
        assert not server.alive


def test_a_taken_port_is_told_with_the_server_s_own_words(folder: Path, programs: Path) -> None:
    (port,) = free_ports(1)
    with (
        LocalPostgres(folder / "one", programs, port=port, fast=True),
        pytest.raises(DatabaseUnavailable, match=r"ended while starting.*could not create any TCP/IP sockets"),
    ):
        LocalPostgres(folder / "two", programs, port=port, fast=True).start(20)


def test_a_dead_address_is_told_soon(folder: Path) -> None:
    dsn = f"postgresql://me:hunter2@127.0.0.1:{free_ports(1)[0]}/d"
    started = time.monotonic()
    with pytest.raises(DatabaseUnavailable, match=r"TIDINGS_POSTGRES_DSN \(127.0.0.1:\d+/d\) gives no good answer"):
        ladder.start(folder, environ={"TIDINGS_POSTGRES_DSN": dsn})
    assert time.monotonic() - started < 5
