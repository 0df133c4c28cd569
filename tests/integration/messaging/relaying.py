"""For the tests of the relay: chats whose changes are numbered, and what reached the topic held against them."""

import asyncio
import json
import secrets
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID, uuid4

from tests.integration.producing import Stored, read_all
from tidings.config import KafkaSettings
from tidings.messaging.domain.modification import Modification
from tidings.messaging.store.database import Connection, Database, Pool
from tidings.messaging.store.unit import Unit

__all__ = ["change", "empty", "first_of_each_id", "in_kafka", "make_chats", "members", "numbers", "prove", "until"]


async def make_chats(pool: Pool, count: int) -> list[UUID]:
    """Chats without members; names of their own, as the database is the whole run's."""
    user = f"user-{secrets.token_hex(4)}"
    chats = [uuid4() for _ in range(count)]
    async with pool.acquire() as connection:
        await connection.execute("INSERT INTO users (id) VALUES ($1)", user)
        await connection.executemany(
            "INSERT INTO chats (id, kind, creator_id) VALUES ($1, 'group', $2)", [(chat, user) for chat in chats]
        )
    return chats


async def change(database: Database, chat: UUID, *, times: int = 1, filling: str = "") -> None:
    """One transaction with the chat's next updates, each emitted as `{"n": its number}`."""

    async def work(unit: Unit) -> None:
        await unit.lock_chat(chat)
        for _ in range(times):
            number = await unit.connection.fetchval(
                "UPDATE chats SET last_update_id = last_update_id + 1 WHERE id = $1 RETURNING last_update_id", chat
            )
            unit.emit(
                Modification(
                    chat_id=chat, type="update", receivers=["ann"], data={"n": number, "f": filling}, context={}
                )
            )

    await database.run(work)


def in_kafka(kafka: KafkaSettings, topic: str, partitions: int) -> dict[str, list[Stored]]:
    """The committed records by key, each key's in the order of its partition."""
    found = defaultdict(list)
    for record in read_all(kafka, topic, partitions):
        found[(record.key or b"").decode()].append(record)
    for records in found.values():
        assert len({record.partition for record in records}) == 1, "one chat, one partition"
    return dict(found)


def numbers(records: Sequence[Stored]) -> list[int]:
    """The `n` of each."""
    return [json.loads(record.value or b"")["data"]["n"] for record in records]


def first_of_each_id(records: Sequence[Stored]) -> list[Stored]:
    """Without the repeats, which have the id and the value of the first."""
    seen: dict[bytes, Stored] = {}
    for record in records:
        first = seen.setdefault(dict(record.headers)["id"], record)
        assert first.value == record.value, "one id, one value"
    return list(seen.values())


async def until(reached: Callable[[], Any], timeout_s: float = 20) -> None:
    """Wait for something to become true; it may be asked for with `await`."""
    async with asyncio.timeout(timeout_s):
        while True:
            found = reached()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            await asyncio.sleep(0.01)


def empty(pool: Pool) -> Callable[[], Any]:
    """For `until`: everything is relayed and forgotten."""

    async def ask() -> bool:
        return not await pool.fetchval("SELECT EXISTS (SELECT FROM outbox)")

    return ask


async def members(pool: "Pool | Connection") -> int:
    """How many processes have a lock session."""
    count = await pool.fetchval(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE application_name = 'tidings-relay-locks' AND datname = current_database()"
    )
    return int(count)


async def prove(pool: Pool, kafka: KafkaSettings, topic: str, partitions: int, chats: Sequence[UUID]) -> int:
    """No modification without a row, no row without its modification, in order, repeats only with the same id.

    Returns:
        How many records were repeats.
    """
    assert await pool.fetchval("SELECT count(*) FROM outbox") == 0, "the outbox is not empty"
    found = in_kafka(kafka, topic, partitions)
    rows = dict(await pool.fetch("SELECT id::text, last_update_id FROM chats WHERE id = ANY($1)", list(chats)))
    assert set(found) <= set(rows), "a chat that nobody committed"
    repeats = 0
    for chat, last in rows.items():
        records = found.get(chat, [])
        firsts = first_of_each_id(records)
        assert numbers(firsts) == list(range(1, last + 1)), f"chat {chat}: {numbers(firsts)[:50]} of {last}"
        repeats += len(records) - len(firsts)
    return repeats
