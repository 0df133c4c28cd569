"""The outbox as the relay sees it: the lowest rows of some shards, and their end."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import asyncpg

from tidings.errors import DatabaseUnavailable
from tidings.messaging.relay.postgres import AWAY, connect

__all__ = ["OutboxRows", "Pending", "Row"]

_ANSWER_S: Final = 10.0
_SESSION: Final = {
    # No deletion waits for the disk: what a server forgets of them when it crashes (0.6 s at most) is produced again,
    # in the same order and with the same ids.
    "synchronous_commit": "off",
    # Or each statement would be planned anew for its lists, which takes longer than running it.
    "plan_cache_mode": "force_generic_plan",
    # A plan is made while next to nothing waits, and kept: with a backlog it must still be right.
    "enable_seqscan": "off",
}
_COUNTED: Final = 1_000_000
_FEW: Final = 64
"""Up to so many done rows are left out by name; each is compared with each row that is read."""

# The rows are read as they were before the deletion, so those that go are left out by name.
_ADVANCE = """
WITH gone AS (DELETE FROM outbox WHERE id = ANY($4::bigint[]))
SELECT id, shard, key, event_id, value FROM (
  SELECT id, shard, key, event_id, value, sum(octet_length(value)) OVER (ORDER BY id) AS bytes
  FROM (
    SELECT own.* FROM unnest($1::smallint[]) AS held (shard)
    CROSS JOIN LATERAL (
      SELECT id, o.shard, key, event_id, value FROM outbox o
      WHERE o.shard = held.shard AND o.id <> ALL ($4::bigint[]) ORDER BY id LIMIT $2) AS own
    ORDER BY own.id LIMIT $2) AS lowest
) AS summed
WHERE bytes <= $3 OR bytes = octet_length(value)
ORDER BY id
"""
"""The first row always, however big: its sum is its own size."""

_DELETE = "DELETE FROM outbox WHERE id = ANY($1::bigint[])"
"""By their ids and not up to the highest: of another chat a lower one may have been committed since they were read."""

_PENDING = """
SELECT (SELECT count(*) FROM (SELECT 1 FROM outbox LIMIT $1) AS counted) AS rows,
  (SELECT extract(epoch FROM clock_timestamp() - created_at)::float8 FROM outbox ORDER BY id LIMIT 1) AS oldest_s
"""


class Row(NamedTuple):
    """One record to be."""

    id: int
    shard: int
    key: str
    event_id: str
    value: bytes


class Pending(NamedTuple):
    """What waits in the whole outbox; at most a million is counted."""

    rows: int
    oldest_s: float


class OutboxRows:
    """One connection to the outbox, opened when first needed and again after it broke. One call at a time."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: Any = None

    async def advance(self, done: Sequence[int], shards: Sequence[int], *, limit: int, limit_bytes: int) -> list[Row]:
        """Forget these rows, as `delete`, and read the first of these shards that remain, in the order of their ids,
        which for each chat is that of the commits.

        Args:
            limit_bytes: Of all values together; a first row beyond it comes alone.
        Raises:
            DatabaseUnavailable: Postgres did not answer; rows that were done may be there or not.
        Cost: one round trip, or two with many done; at most `limit` rows of each shard are looked at, and those done,
        however many wait.
        """
        if len(done) > _FEW:
            await self.delete(done)
            done = ()
        return [Row(*row) for row in await self._fetch(_ADVANCE, shards, limit, limit_bytes, done)]

    async def delete(self, ids: Sequence[int]) -> None:
        """Forget these rows; those that are gone already don't matter.

        Raises:
            DatabaseUnavailable: Postgres did not answer; they may be there or not.
        """
        await self._fetch(_DELETE, ids)

    async def pending(self) -> Pending:
        """How much waits, and for how long the oldest has.

        Raises:
            DatabaseUnavailable: Postgres did not answer.
        Cost: a scan over all that waits, about 0.5 µs a row.
        """
        (row,) = await self._fetch(_PENDING, _COUNTED)
        return Pending(row["rows"], max(0.0, row["oldest_s"] or 0.0))

    async def _fetch(self, statement: str, *arguments: object) -> Any:
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await connect(self._dsn, "tidings-relay", answer_s=_ANSWER_S, **_SESSION)
            return await self._connection.fetch(statement, *arguments)
        except (*AWAY, TimeoutError, asyncpg.QueryCanceledError) as error:
            self.close()
            raise DatabaseUnavailable(f"{type(error).__name__}: {error}") from error
        except BaseException:
            self.close()  # a statement may be under way on it
            raise

    def close(self) -> None:
        """End the connection at once."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
