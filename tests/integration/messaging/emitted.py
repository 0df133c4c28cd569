"""What a unit of work left in the outbox, as readers of the topic would see it."""

from typing import Any, NamedTuple

import msgspec

from tidings.contract import events
from tidings.contract.record import decode
from tidings.messaging.store.database import Database

__all__ = ["Emitted", "emitted", "take_emitted"]


class Emitted(NamedTuple):
    """One record, decoded."""

    type: str
    receivers: list[str]
    data: Any
    context: Any
    key: str

    @property
    def brief(self) -> tuple[str, list[str]]:
        return self.type, sorted(self.receivers)


async def emitted(database: Database) -> list[Emitted]:
    """All records that wait, in order; each was checked against the written contract."""
    rows = await database.pool.fetch("SELECT key, value FROM outbox ORDER BY id")
    found = []
    for row in rows:
        record = decode(row["value"])
        data = msgspec.json.decode(record.data)
        if record.type in events.MODIFICATIONS:
            assert events.parse(record.type, record.data) is not None, f"{record.type} in a shape of its own: {data}"
        assert record.context is not None
        context = msgspec.json.decode(record.context)
        found.append(Emitted(record.type, list(record.receivers), data, context, row["key"]))
    return found


async def take_emitted(database: Database) -> list[Emitted]:
    """As `emitted`; afterwards the outbox is empty."""
    found = await emitted(database)
    await database.pool.execute("DELETE FROM outbox")
    return found
