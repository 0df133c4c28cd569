"""The answers to requests that may come again, kept beside the work that they are about."""

from datetime import timedelta
from typing import Any, Final

import msgspec

from tidings.messaging.store.database import Database
from tidings.messaging.store.unit import Unit

__all__ = ["Answers", "Stored"]

KEPT: Final = timedelta(hours=24)

# An answer of a day ago counts as none, whether or not it was cleaned away yet.
_KEEP: Final = """
INSERT INTO idempotency (user_id, path, key, request_hash, status, body) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (user_id, path, key) DO UPDATE
SET request_hash = excluded.request_hash, status = excluded.status, body = excluded.body, created_at = now()
WHERE idempotency.created_at < now() - $7::interval
RETURNING true
"""

_FIND: Final = """
SELECT request_hash, status, body FROM idempotency
WHERE user_id = $1 AND path = $2 AND key = $3 AND created_at >= now() - $4::interval
"""

_CLEAN: Final = """
DELETE FROM idempotency WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM idempotency WHERE created_at < now() - $1::interval ORDER BY created_at LIMIT $2
  FOR UPDATE SKIP LOCKED))
"""


class Stored(msgspec.Struct, frozen=True):
    """What was answered to the first of equal requests."""

    request_hash: bytes
    status: int
    body: bytes


class Answers:
    """By user, path and key; for 24 hours."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, unit: Unit, user: str, path: str, key: str, stored: Stored) -> bool:
        """Write the answer in the transaction of its work; False if another answer stands there, committed.

        Waits for a transaction that writes the same one.
        """
        row = await unit.connection.fetchval(
            _KEEP, user, path, key, stored.request_hash, stored.status, stored.body, KEPT
        )
        return row is not None

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
