"""The versions of the database: which there are, which it has, and how it gets the others."""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any, Final

import asyncpg

from tidings.errors import DatabaseUnavailable

__all__ = ["HEAD", "VERSIONS", "current", "migrate", "missing"]

_ONE_AT_A_TIME: Final = Lock()
_FOLDER: Final = Path(__file__).with_name("migrations")

VERSIONS: Final[Sequence[str]] = tuple(
    sorted(file.name[:4] for file in (_FOLDER / "versions").glob("*.py") if re.match(r"[0-9]{4}_", file.name))
)
"""All that this release knows, oldest first."""

HEAD: Final = VERSIONS[-1]
"""The one that this release needs."""


async def current(connection: Any) -> str | None:
    """The version of the database, None if it has no tables of ours yet. Outside of a failed transaction only."""
    if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
        return None
    found: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
    return found


def missing(version: str | None) -> list[str]:
    """The versions that a database of that version lacks, oldest first. One that is newer than us lacks none."""
    return [each for each in VERSIONS if version is None or each > version]


def migrate(dsn: str) -> list[str]:
    """Bring the database to `HEAD`, all or nothing; which versions were applied. Blocking.

    Safe while another process does the same, and while the service runs with the version before.

    Raises:
        DatabaseUnavailable: It doesn't answer, or refused a statement; then nothing was changed.
    """
    # In a thread, as Alembic runs an event loop and the caller may be inside one (tests); one at a time, as its
    # `context` and `op` are of the whole process.
    with _ONE_AT_A_TIME, ThreadPoolExecutor(1, thread_name_prefix="migrate") as thread:
        return thread.submit(_upgrade, dsn).result()


def _upgrade(dsn: str) -> list[str]:
    import logging

    from alembic import command
    from alembic.config import Config
    from sqlalchemy.exc import DBAPIError

    applied: list[str] = []
    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes["dsn"] = dsn
    config.attributes["applied"] = applied.append
    try:
        command.upgrade(config, "head")
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError, DBAPIError) as error:
        raise DatabaseUnavailable(f"{type(error).__name__}: {error}") from error
    return applied
