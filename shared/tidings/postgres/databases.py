"""Databases of a server: whether it answers, a new one, an old one dropped. For commands and tests; blocking."""

import asyncio
import re
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import asyncpg

from tidings.errors import DatabaseUnavailable, InvalidState

__all__ = ["ask", "create_database", "drop_database", "place_of", "server_version"]

T = TypeVar("T")

_TIMEOUT_S = 10


def ask(dsn: str, work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
    """Do the work with a connection of its own; blocks until it is done.

    Raises:
        DatabaseUnavailable: The server didn't answer or refused; the message has no password.
    """

    async def connected() -> T:
        connection = await asyncpg.connect(dsn, timeout=_TIMEOUT_S, command_timeout=_TIMEOUT_S)
        try:
            return await work(connection)
        finally:
            await connection.close(timeout=_TIMEOUT_S)

    # In a thread, as the caller may itself be inside an event loop (tests).
    with ThreadPoolExecutor(1, thread_name_prefix="postgres") as thread:
        try:
            return thread.submit(lambda: asyncio.run(connected())).result()
        except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise DatabaseUnavailable(f"{type(error).__name__}: {error}") from error


def server_version(dsn: str) -> int:
    """The major version of the server, once it answered a query on the database that the address names.

    Raises:
        DatabaseUnavailable: It didn't; the message has no password.
    """

    async def version(connection: Any) -> int:
        return int(await connection.fetchval("SELECT current_setting('server_version_num')::int")) // 10_000

    return ask(dsn, version)


def create_database(dsn: str, name: str) -> None:
    """Have a database of that name; does nothing if there is one.

    Args:
        dsn: Of another database of the same server, as a user that may create databases.
    Raises:
        DatabaseUnavailable: The server didn't answer or refused.
    """

    async def create(connection: Any) -> None:
        if await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
            return
        await connection.execute(f'CREATE DATABASE "{_checked(name)}"')

    ask(dsn, create)


def drop_database(dsn: str, name: str) -> None:
    """Have no database of that name; who is connected to it is thrown out.

    Raises:
        DatabaseUnavailable: The server didn't answer or refused.
    """

    async def drop(connection: Any) -> None:
        await connection.execute(f'DROP DATABASE IF EXISTS "{_checked(name)}" WITH (FORCE)')

    ask(dsn, drop)


def place_of(dsn: str) -> str:
    """Host, port and database of an address, without user and password: for people."""
    parts = urlsplit(dsn)
    try:
        port = parts.port
    except ValueError:
        port = None
    host = parts.hostname or parse_qs(parts.query).get("host", ["the default host"])[0]
    return f"{host}:{port or 5432}{parts.path}"


def _checked(name: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name):
        raise InvalidState(f"not a name for a database of ours: {name!r}")
    return name
