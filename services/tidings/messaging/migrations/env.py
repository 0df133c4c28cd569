"""How Alembic runs the versions: all that are missing in one transaction, one process at a time.

Alembic executes this file; nobody imports it. The address comes from `tidings.messaging.migrating`.
"""

import asyncio

import asyncpg
from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

_LOCK = 0x7469_6469_6E67_7301  # "tidings", 1
_LOCK_TIMEOUT = "60s"


def _run(connection: Connection) -> None:
    applied = context.config.attributes["applied"]
    context.configure(connection=connection, on_version_apply=lambda step, **_: applied(step.up_revision_id))
    with context.begin_transaction():
        # Held until the commit: who comes second waits, and then finds nothing left to do.
        connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        context.run_migrations()


async def _main() -> None:
    dsn = context.config.attributes["dsn"]
    # Made by asyncpg itself, so that an address means here what it means to the service.
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(dsn, timeout=10), poolclass=NullPool
    )
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_run)
    finally:
        await engine.dispose()


asyncio.run(_main())
