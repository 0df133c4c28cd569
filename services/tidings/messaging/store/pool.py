"""The pool of connections to Postgres, with the limits that the server itself keeps."""

import asyncio
from typing import Final

import asyncpg
import structlog

from tidings.config import PostgresSettings
from tidings.errors import DatabaseUnavailable
from tidings.messaging.store.database import Pool

__all__ = ["close_pool", "open_pool"]

log = structlog.get_logger(__name__)

_CLIENT_MARGIN_S: Final = 2.0
"""The server cancels a statement first; we stop waiting for a server that doesn't answer at all so much later."""
_CLOSE_S: Final = 5.0


async def open_pool(settings: PostgresSettings) -> Pool:
    """Connect.

    Raises:
        DatabaseUnavailable: Postgres can't be reached or refuses us; without the password.
    """
    limits = {
        "statement_timeout": f"{settings.statement_timeout_s * 1000:.0f}",
        "idle_in_transaction_session_timeout": f"{settings.idle_transaction_timeout_s * 1000:.0f}",
        "application_name": "tidings-messaging",
        "jit": "off",  # our statements are short: compiling one takes longer than running it
        # A client that vanished without a word is noticed while its transaction holds locks.
        "tcp_keepalives_idle": "5",
        "tcp_keepalives_interval": "2",
        "tcp_keepalives_count": "3",
    }
    try:
        pool = await asyncpg.create_pool(
            settings.dsn.get_secret_value(),
            min_size=settings.pool_min,
            max_size=settings.pool_max,
            timeout=settings.connect_timeout_s,
            command_timeout=settings.statement_timeout_s + _CLIENT_MARGIN_S,
            server_settings=limits,
            reset=_nothing,
        )
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise DatabaseUnavailable(f"{type(error).__name__}: {error}") from error
    return pool


async def _nothing(connection: object) -> None:
    """Transactions leave no state on a connection, and asyncpg's own clean-up would be one round trip more for each."""


async def close_pool(pool: Pool) -> None:
    """Give all connections back; those still in use after some seconds are cut."""
    try:
        await asyncio.wait_for(pool.close(), _CLOSE_S)
    except TimeoutError:
        log.warning("connections_cut")
        pool.terminate()
