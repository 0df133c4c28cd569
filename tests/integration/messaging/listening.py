"""One connection in place of a pool, and what was sent over it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from tidings.messaging.store.database import Connection, Database, Pool

__all__ = ["Statements", "listening"]


class Statements:
    """What was sent to Postgres, with its last arguments; each is one round trip.

    Attributes:
        sent: In order.
        database: Whose units are listened to.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.sent: list[tuple[str, Sequence[Any]]] = []
        self.database = Database(_One(connection), lambda shards: None, acquire_timeout_s=1)

    def __call__(self, logged: Any) -> None:
        self.sent.append((logged.query.strip(), logged.args or ()))


class _One:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def acquire(self, **_: Any) -> Any:
        return self

    async def __aenter__(self) -> Connection:
        return self._connection

    async def __aexit__(self, *_: object) -> None: ...


@asynccontextmanager
async def listening(pool: Pool) -> AsyncIterator[Statements]:
    """Statements of units on one connection of the pool, one unit at a time."""
    async with pool.acquire() as connection:
        statements = Statements(connection)
        connection.add_query_logger(statements)
        try:
            yield statements
        finally:
            connection.remove_query_logger(statements)
