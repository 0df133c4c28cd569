"""Reading costs what is shown, not what is there: in long chats, and with the plans that Postgres keeps for good."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.integration.messaging.crowds import fill
from tests.integration.messaging.listening import Statements, listening
from tests.integration.messaging.world import World
from tidings.messaging.domain.entry import MarkKind
from tidings.messaging.domain.model import Actor, Kind
from tidings.messaging.store.database import Database

CHATS, MESSAGES = 1_000, 200
U1 = Actor(id="u1")
LIMIT_ROWS = {"sync since": 20_000, "sync": 20_000, "chats": 5_000}
"""Of a page of 250, 250 and 50 chats, each with ten members and their marks. Of a chat alone 2,000."""

_READ = "SELECT sum(seq_tup_read + COALESCE(idx_tup_fetch, 0))::bigint FROM pg_stat_user_tables"


async def rows_read(statements: Statements, ask: Callable[[], Awaitable[Any]]) -> int:
    """Of all tables, as Postgres counts them."""
    connection = statements.connection
    await connection.execute("SELECT pg_stat_force_next_flush()")
    before = await connection.fetchval(_READ)
    await ask()
    await connection.execute("SELECT pg_stat_force_next_flush()")
    return int(await connection.fetchval(_READ) - before)


@pytest.mark.parametrize("plans", ["force_custom_plan", "force_generic_plan"])
async def test_reading_costs_what_is_shown_and_not_what_is_there(database: Database, plans: str) -> None:
    await fill(database, users=5_000, chats=CHATS, members=10, messages=MESSAGES)
    chat = await database.pool.fetchval("SELECT chat_id FROM members WHERE user_id = 'u1' LIMIT 1")
    parent = await database.pool.fetchval("SELECT id FROM messages WHERE chat_id = $1 LIMIT 1", chat)
    async with listening(database.pool) as statements:
        world = World(statements.database)
        await statements.connection.execute(f"SET plan_cache_mode = {plans}")
        state = await world.sync.read(U1)
        for number in range(20):
            await world.messages.send_text(U1, Kind.GROUP, chat, f"text {number}")
        questions: dict[str, Callable[[], Awaitable[Any]]] = {
            "sync since": lambda: world.sync.read(U1, state["next"]),
            "sync": lambda: world.sync.read(U1),
            "chats": lambda: world.history.chats(U1),
            "messages": lambda: world.history.messages(U1, chat),
            "before": lambda: world.history.messages(U1, chat, before=100),
            "after": lambda: world.history.messages(U1, chat, after=100),
            "by number": lambda: world.history.messages(U1, chat, after=100, by="message_no"),
            "roots": lambda: world.history.messages(U1, chat, parent="none"),
            "comments": lambda: world.history.messages(U1, chat, parent=parent),
            "send": lambda: world.messages.send_text(U1, Kind.GROUP, chat, "more"),
            "mark": lambda: world.marks.mark(U1, chat, MarkKind.READ),
        }
        found = {name: await rows_read(statements, ask) for name, ask in questions.items()}
    print(plans, found)
    assert {name: rows for name, rows in found.items() if rows > LIMIT_ROWS.get(name, 2_000)} == {}
