"""The pool of connections to Postgres, and transactions on it."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias, TypeVar

import asyncpg

from tidings.errors import DatabaseUnavailable
from tidings.messaging.store.results import write_results
from tidings.messaging.store.unit import Unit

__all__ = ["Connection", "Database", "Pool"]

Pool: TypeAlias = "asyncpg.Pool[Any]"
Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[Any]"

T = TypeVar("T")

_ATTEMPTS: Final = 5
_RETRY_S: Final = 0.02
_AGAIN: Final = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
_AWAY: Final = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InterfaceError,
    asyncpg.QueryCanceledError,  # over the statement timeout: what waits for a lock or a disk may do better later
    asyncpg.IdleInTransactionSessionTimeoutError,
)


class Database:
    """Runs units of work: each one transaction, with what it emits and the answers it keeps written inside it.

    Args:
        wake: Told after each commit which shards of the outbox have something new.
        acquire_timeout_s: How long a unit waits for a connection.
    """

    def __init__(self, pool: Pool, wake: Callable[[set[int]], None], *, acquire_timeout_s: float) -> None:
        self.pool = pool
        self._wake = wake
        self._acquire_timeout_s = acquire_timeout_s

    async def run(self, work: Callable[[Unit], Awaitable[T]]) -> T:
        """Do the work in one transaction and commit. Returned means committed, rows and outbox together.

        The work may be called again from its beginning if Postgres had to choose between transactions.

        Raises:
            DatabaseUnavailable: Postgres did not answer, and whether it committed is then not known; or it chose others
                again and again.
            Exception: Whatever the work raises; nothing of it is kept.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with self.connection() as connection:
                    async with connection.transaction():
                        unit = Unit(connection)
                        result = await work(unit)
                        shards = await write_results(connection, unit.emitted, unit.kept)
                    if shards:
                        self._wake(shards)
                    return result
            except _AGAIN as error:
                if attempt == _ATTEMPTS:
                    raise DatabaseUnavailable(f"{attempt} times in a row: {error}") from error
                await asyncio.sleep(_RETRY_S * attempt * (0.5 + random.random()))  # noqa: S311 - jitter
        raise AssertionError("unreachable")

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection of the pool, for reads outside of a transaction too.

        Raises:
            DatabaseUnavailable: None could be had in time, or Postgres went away while it was in use.
        """
        try:
            async with self.pool.acquire(timeout=self._acquire_timeout_s) as connection:
                yield connection
        except (*_AWAY, TimeoutError) as error:
            raise DatabaseUnavailable(f"{type(error).__name__}: {error}") from error
