"""The relay's own connections to Postgres: apart from the pool of the requests, which may all be in use."""

from typing import Any, Final

import asyncpg

from tidings.errors import DatabaseUnavailable

__all__ = ["AWAY", "connect"]

AWAY: Final = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleSessionTimeoutError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what asyncpg says of a connection whose last call was broken off
)
"""Errors that say: not now, or not with this connection."""

_CONNECT_S: Final = 3.0
_KEEPALIVES: Final = {
    "tcp_keepalives_idle": "1",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "2",
    "tcp_user_timeout": "3000",
}
"""So that the server learns within 3 s that this machine has vanished; of no meaning on a Unix socket."""


async def connect(dsn: str, name: str, *, answer_s: float, **settings: str) -> Any:
    """A connection of the caller's own.

    Args:
        name: Shown in pg_stat_activity.
        answer_s: How long one statement may take.
        settings: Of the session, by their Postgres names.
    Raises:
        DatabaseUnavailable: There is none now.
    """
    try:
        return await asyncpg.connect(
            dsn,
            timeout=_CONNECT_S,
            command_timeout=answer_s,
            server_settings={
                "application_name": name,
                "statement_timeout": f"{answer_s * 1000:.0f}",
                **_KEEPALIVES,
                **settings,
            },
        )
    except (*AWAY, TimeoutError) as error:
        raise DatabaseUnavailable(f"{type(error).__name__}: {error}") from error
