"""The answers to requests that may come again: reading and forgetting them. Each is written with its work's results."""

from typing import Any, Final

from tidings.messaging.store.answer import Stored
from tidings.messaging.store.database import Database
from tidings.messaging.store.results import KEPT

__all__ = ["Answers"]

_FIND: Final = """
SELECT request_hash, status, body FROM idempotency
WHERE user_id = $1 AND path = $2 AND key = $3 AND created_at >= now() - $4::interval
"""

_CLEAN: Final = """
DELETE FROM idempotency WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM idempotency WHERE created_at < now() - $1::interval ORDER BY created_at LIMIT $2
  FOR UPDATE SKIP LOCKED))
"""


class Answers:
    """By user, path and key; for 24 hours."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, user: str, path: str, key: str) -> Stored | None:
        """The committed answer, if there is one."""
        async with self._database.connection() as connection:
            row: Any = await connection.fetchrow(_FIND, user, path, key, KEPT)
        return None if row is None else Stored(row["request_hash"], row["status"], row["body"])

    async def clean(self, limit: int = 1_000) -> int:
        """Delete some of the answers that are too old, oldest first; returns how many.

        Several processes may clean at once.
        """
        async with self._database.connection() as connection:
            done = await connection.execute(_CLEAN, KEPT, limit)
        return int(done.rpartition(" ")[2])
