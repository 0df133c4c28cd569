"""What the messaging tests share: a real PostgreSQL, a database of this run's own, and its tables, empty for each test.

- `postgres`: one server for the whole session, of its own folder and port; shared, so never stop it.
- `postgres_dsn`: a fresh, migrated database on it.
- `pool`: asyncpg connections to it; the tables are empty when a test begins.
- `database`: `Database` on that pool; `woken` collects what its `wake` was told.
- `postgres_factory`: servers of the test's own, to stop, kill, freeze and restart (their databases are not migrated;
  `migrate(dsn)` does).
- `messaging`: starts `tidings messaging` processes on that database, with `kafka` and topics of the test's own.
"""

import asyncio
import contextlib
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from tests.integration.messaging.serving import MessagingFactory, stop_all
from tests.integration.processes import SECRET, environment, topic_environment
from tidings.config import TopicSettings
from tidings.errors import DatabaseUnavailable
from tidings.kafka import apache_jars
from tidings.kafka.ladder import Broker
from tidings.messaging.migrating import migrate
from tidings.messaging.store.database import Database, Pool
from tidings.postgres import ladder
from tidings.postgres.databases import create_database, drop_database
from tidings.postgres.ladder import Server
from tidings.postgres.local import LocalPostgres, find_programs

_KEPT = ("alembic_version", "installation")

_TABLES = """
SELECT string_agg(format('%I', tablename), ', ') FROM pg_tables
WHERE schemaname = 'public' AND NOT tablename = ANY($1)
"""


@pytest.fixture(scope="session")
def postgres_folder() -> Iterator[Path]:
    """Not below pytest's own: when root runs the tests, the server's user can't go there."""
    folder = Path(tempfile.mkdtemp(prefix="tidings-postgres-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(postgres_folder: Path) -> Iterator[Server]:
    """A real PostgreSQL, shared by all tests: the environment's, or one of ours that forgets nothing but power cuts."""
    try:
        server = ladder.start(postgres_folder, fast=True)
    except DatabaseUnavailable as error:
        pytest.skip(f"no PostgreSQL: {error}")
    with server:
        yield server


@pytest.fixture(scope="session")
def postgres_dsn(postgres: Server) -> Iterator[str]:
    """A database that only this run uses, migrated."""
    name = f"tidings_test_{secrets.token_hex(4)}"
    create_database(postgres.dsn, name)
    dsn = urlunsplit(urlsplit(postgres.dsn)._replace(path=f"/{name}"))
    migrate(dsn)
    yield dsn
    drop_database(postgres.dsn, name)


@pytest.fixture
async def pool(postgres_dsn: str) -> AsyncIterator[Pool]:
    """Up to 20 connections; every table was emptied first, and every sequence starts anew."""
    connection = await asyncpg.connect(postgres_dsn)
    try:
        await _empty(connection)
    finally:
        await connection.close()
    pool = await asyncpg.create_pool(postgres_dsn, min_size=1, max_size=20)
    try:
        yield pool
    finally:
        try:
            await asyncio.wait_for(pool.close(), 2)
        except TimeoutError:  # a test that was broken off may have left a connection in use
            pool.terminate()


@pytest.fixture
def woken() -> list[set[int]]:
    """The shards that `database` told of, one set for each commit with modifications."""
    return []


@pytest.fixture
def database(pool: Pool, woken: list[set[int]]) -> Database:
    """Units of work on `pool`; nothing relays their modifications."""
    return Database(pool, woken.append, acquire_timeout_s=10)


@pytest.fixture
def postgres_factory(postgres_folder: Path) -> Iterator[Callable[..., LocalPostgres]]:
    """Makes running servers of the test's own: `postgres_factory(settings={...})`; killed afterwards."""
    programs = find_programs()
    if programs is None:
        pytest.skip("no PostgreSQL on this machine")
    with contextlib.ExitStack() as stack:

        def make(**options: Any) -> LocalPostgres:
            folder = postgres_folder / secrets.token_hex(4)
            server = LocalPostgres(folder, programs, **{"fast": True, **options})
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            stack.callback(server.kill)
            return server.start()

        yield make


async def _empty(connection: Any) -> None:
    if tables := await connection.fetchval(_TABLES, list(_KEPT)):
        await connection.execute(f"TRUNCATE {tables} RESTART IDENTITY")
    for row in await connection.fetch("SELECT sequencename FROM pg_sequences WHERE schemaname = 'public'"):
        await connection.execute("SELECT setval($1::text::regclass, 1, false)", row["sequencename"])


@pytest.fixture
def messaging(
    pool: Pool, postgres_dsn: str, kafka: Broker, topics: TopicSettings, tmp_path: Path
) -> Iterator[MessagingFactory]:
    """`messaging()` starts a process on `postgres_dsn`, `kafka` and the test's topics and waits until it is ready."""
    environ = environment(
        **kafka.environment(),
        **topic_environment(topics),
        TIDINGS_POSTGRES_DSN=postgres_dsn,
        TIDINGS_JWT_SECRET=SECRET,
        TIDINGS_LOG_FORMAT="json",
    )
    del environ[apache_jars.CACHE_VARIABLE]  # not for a service
    factory = MessagingFactory(environ, tmp_path)
    yield factory
    stop_all(factory)
