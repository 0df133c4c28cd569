"""The fixtures' own promises: empty tables, a sequence that starts anew, a schema that is there."""

import pytest

from tidings.messaging.store.database import Database


@pytest.mark.parametrize("time", ["first", "again"])
async def test_every_test_begins_with_empty_tables(database: Database, time: str) -> None:
    rows = await database.pool.fetch("INSERT INTO users (id) VALUES ('alice') RETURNING number")
    assert [row["number"] for row in rows] == [1]
