"""What the relay reads of the outbox, and what that costs."""

import time

from tidings.messaging.domain.modification import SHARDS
from tidings.messaging.relay.rows import OutboxRows, Row
from tidings.messaging.store.database import Pool

WAITING = 50_000
TIMES = 5

_FILL = """
INSERT INTO outbox (shard, key, event_id, value)
SELECT n % $2, 'key', 'id', convert_to(repeat('x', 400), 'UTF8') FROM generate_series(1, $1::int) n
"""


async def lowest(rows: OutboxRows) -> tuple[float, list[Row]]:
    """Seconds, and what came."""
    began = time.perf_counter()
    found = await rows.advance([], range(SHARDS), limit=500, limit_bytes=1 << 22)
    return time.perf_counter() - began, found


async def test_a_backlog_is_read_as_fast_by_one_who_began_while_nothing_waited(pool: Pool, postgres_dsn: str) -> None:
    await pool.execute("VACUUM ANALYZE outbox")
    early, late = OutboxRows(postgres_dsn), OutboxRows(postgres_dsn)
    try:
        assert (await lowest(early))[1] == []
        await pool.execute(_FILL, WAITING, SHARDS)
        times: dict[OutboxRows, list[float]] = {early: [], late: []}
        for _ in range(TIMES):
            for rows, took in times.items():
                seconds, found = await lowest(rows)
                assert [row.id for row in found] == list(range(found[0].id, found[0].id + 500))
                took.append(seconds)
        began = time.perf_counter()
        assert (await late.pending()).rows == WAITING
        print(
            f"early {min(times[early]) * 1000:.1f} ms, late {min(times[late]) * 1000:.1f} ms,"
            f" counted in {(time.perf_counter() - began) * 1000:.1f} ms"
        )
        assert min(times[early]) < 3 * min(times[late])
    finally:
        early.close()
        late.close()
