"""Reading costs what is shown, not what is there: in long chats, and with the plans that Postgres keeps for good."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest

from tests.integration.messaging.crowds import fill
from tests.integration.messaging.listening import Statements, listening
from tests.integration.messaging.world import World
from tidings.messaging.commands import Answer
from tidings.messaging.domain.entry import MarkKind
from tidings.messaging.domain.model import Actor, Kind
from tidings.messaging.store.database import Database

CHATS, MESSAGES = 1_000, 200
U1 = Actor(id="u1")
LIMIT_ROWS = {"sync since": 25_000, "sync": 20_000, "chats": 5_000}
"""Of a page of 250 and of 50 chats, each with ten members and their marks. Of a chat alone 2,000. What changed since is
looked for in 1,000 chats and among their 10,000 members."""

PLANS = ["force_custom_plan", "force_generic_plan"]
LIMIT_PAGE = 5_000
"""Rows of one page of sync that shows 500 updates: each has its message, and was found by an index first."""

_READ = "SELECT sum(seq_tup_read + COALESCE(idx_tup_fetch, 0))::bigint FROM pg_stat_user_tables"
# Where an index answers alone, no row is read.
_ENTRIES = "SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes"

_EDITED = """
INSERT INTO updates (chat_id, update_id, type, sender_id, target_update_id, content, changed)
SELECT id, last_update_id + n, 'text_message_edited', 'u1', $2, jsonb_build_object('new_text', 'text ' || n), '3'
FROM chats, generate_series(1, $3::int) n WHERE id = $1
"""
_TAKEN_BACK = """
INSERT INTO updates (chat_id, update_id, type, sender_id, target_update_id, content, changed, deleted_at)
SELECT id, last_update_id + $3::int + n, 'reaction', 'u1', $2, '{"reaction": "cry"}', '3', now()
FROM chats, generate_series(1, $3::int) n WHERE id = $1
"""
_COUNT = "UPDATE chats SET last_update_id = last_update_id + 2 * $2::int WHERE id = $1"

_WRITTEN = """
WITH chosen AS (
  UPDATE chats SET last_update_id = last_update_id + $2::int, last_message_no = last_message_no + $2::int,
    changed = pg_current_xact_id()
  WHERE id = ANY($1::uuid[])
  RETURNING id, last_update_id - $2::int AS update_id, last_message_no - $2::int AS message_no),
entry AS (
  INSERT INTO updates (chat_id, update_id, type, sender_id, deleted_at)
  SELECT id, update_id + n, 'text_message', 'u2', CASE WHEN $3 THEN now() END
  FROM chosen, generate_series(1, $2::int) n)
INSERT INTO messages (id, chat_id, update_id, message_no, sender_id, text)
SELECT gen_random_uuid(), id, update_id + n, message_no + n, 'u2', 'new' FROM chosen, generate_series(1, $2::int) n
"""


async def rows_read(statements: Statements, ask: Callable[[], Awaitable[Any]]) -> int:
    """Of all tables, as Postgres counts them."""
    return (await read_by(statements, ask))[0]


async def read_by(statements: Statements, ask: Callable[[], Awaitable[Any]]) -> tuple[int, int]:
    """Rows of all tables, and entries of all indexes, as Postgres counts them."""
    connection = statements.connection
    await connection.execute("SELECT pg_stat_force_next_flush()")
    rows, entries = await connection.fetchval(_READ), await connection.fetchval(_ENTRIES)
    await ask()
    await connection.execute("SELECT pg_stat_force_next_flush()")
    return int(await connection.fetchval(_READ) - rows), int(await connection.fetchval(_ENTRIES) - entries)


async def write(statements: Statements, chats: list[UUID], count: int, *, gone: bool = False) -> None:
    """So many messages in each of those chats, by one transaction; `gone`: deleted since. Over the same connection:
    what others read may be counted a second later."""
    await statements.connection.execute(_WRITTEN, chats, count, gone)


@pytest.mark.parametrize("plans", PLANS)
async def test_reading_costs_what_is_shown_and_not_what_is_there(database: Database, plans: str) -> None:
    await fill(database, users=5_000, chats=CHATS, members=10, messages=MESSAGES)
    chat = await database.pool.fetchval("SELECT chat_id FROM members WHERE user_id = 'u1' LIMIT 1")
    parent = await database.pool.fetchval("SELECT id FROM messages WHERE chat_id = $1 LIMIT 1", chat)
    async with listening(database.pool) as statements:
        world = World(statements.database)
        await statements.connection.execute(f"SET plan_cache_mode = {plans}")
        since = (await world.missed(U1))["next"]
        for number in range(20):
            await world.messages.send_text(U1, Kind.GROUP, chat, f"text {number}")
        questions: dict[str, Callable[[], Awaitable[Any]]] = {
            "sync since": lambda: world.sync.read(U1, since),
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


@pytest.mark.parametrize("analyzed", [True, False])
@pytest.mark.parametrize("plans", PLANS)
async def test_a_message_costs_the_same_however_often_it_was_edited_and_reacted_to(
    database: Database, plans: str, analyzed: bool
) -> None:
    await fill(database, users=20, chats=30, members=5, messages=200)
    chat = await database.pool.fetchval("SELECT chat_id FROM members WHERE user_id = 'u1' LIMIT 1")
    async with listening(database.pool) as statements:
        world = World(statements.database)
        await statements.connection.execute(f"SET plan_cache_mode = {plans}")
        since = (await world.missed(U1))["next"]
        await world.updates.react(U1, Kind.GROUP, chat, 200, "heart")
        given = iter(("like", "cry"))
        questions: dict[str, Callable[[], Awaitable[Any]]] = {
            "sync since": lambda: world.sync.read(U1, since),
            "sync": lambda: world.sync.read(U1),
            "chats": lambda: world.history.chats(U1),
            "messages": lambda: world.history.messages(U1, chat),
            "range": lambda: world.updates.read(U1, chat, 200, 200),
            "react": lambda: world.updates.react(U1, Kind.GROUP, chat, 200, next(given)),
        }
        once = {name: await rows_read(statements, ask) for name, ask in questions.items()}
        # Written long ago: what changed since the token is shown, and costs that.
        await statements.connection.execute(_EDITED, chat, 200, 10_000)
        await statements.connection.execute(_TAKEN_BACK, chat, 200, 10_000)
        await statements.connection.execute(_COUNT, chat, 10_000)
        if analyzed:
            await statements.connection.execute("ANALYZE")
        often = {name: await rows_read(statements, ask) for name, ask in questions.items()}
        (shown,) = (await world.updates.read(U1, chat, 200, 200))["updates"]
    print(plans, analyzed, once, often)
    assert shown["content"]["edited"]["content"]["new_text"] == "text 10000"
    assert [given["content"]["reaction"] for given in shown["content"]["reactions"]] == ["heart", "like", "cry"]
    assert {name: rows for name, rows in often.items() if rows > once[name] + 1_000} == {}


async def pages_of(statements: Statements, since: str, count: int | None = None) -> tuple[list[Answer], list[int]]:
    """The pages of a sync, at most `count`, and what each read: rows or entries of indexes, whatever was more."""
    world, pages, read = World(statements.database), list[Answer](), list[int]()

    async def ask() -> None:
        pages.append(await world.sync.read(U1, pages[-1]["next"] if pages else since))

    while not pages or (pages[-1]["more"] and len(pages) != count):
        read.append(max(await read_by(statements, ask)))
    return pages, read


@pytest.mark.parametrize("plans", PLANS)
async def test_a_page_of_50000_missed_updates_of_one_chat_costs_what_it_shows(database: Database, plans: str) -> None:
    await fill(database, users=20, chats=1_000, members=5, messages=10)
    chats = [row["id"] for row in await database.pool.fetch("SELECT id FROM chats ORDER BY id")]
    async with listening(database.pool) as statements:
        await statements.connection.execute(f"SET plan_cache_mode = {plans}")
        since = (await World(statements.database).missed(U1))["next"]
        for count in [25_000, *[25] * 600]:  # by one transaction, and by many
            await write(statements, [chats[7]], count)
        await write(statements, [chats[7]], 10_000, gone=True)
        await write(statements, chats[5:10], 3)
        pages, read = await pages_of(statements, since)
    shown = [update for page in pages for update in page["updates"]]
    print(plans, len(pages), "pages", max(read[1:-1]), "rows, the first", read[0], "the last", read[-1])
    assert max(read[1:-1]) <= LIMIT_PAGE - 2_000, "most pages do not even look through the account's chats"
    assert max(read) <= LIMIT_ROWS["sync since"]
    assert len(pages) == 101
    assert len({(update["chat_id"], update["update_id"]) for update in shown}) == len(shown) == 40_000 + 5 * 3
    assert [chat["chat_id"] for page in pages for chat in page["chats"]] == [str(chat) for chat in chats[5:10]]


@pytest.mark.parametrize("gone", [False, True])
@pytest.mark.parametrize("plans", PLANS)
async def test_a_page_of_many_chats_in_which_much_changed_costs_what_fits_into_it(
    database: Database, plans: str, gone: bool
) -> None:
    await fill(database, users=20, chats=250, members=5, messages=10)
    chats = [row["id"] for row in await database.pool.fetch("SELECT id FROM chats ORDER BY id")]
    async with listening(database.pool) as statements:
        await statements.connection.execute(f"SET plan_cache_mode = {plans}")
        since = (await World(statements.database).missed(U1))["next"]
        await write(statements, chats, 400, gone=gone)
        pages, read = await pages_of(statements, since, 8)
    print(plans, gone, read)
    assert max(read) <= LIMIT_PAGE
    assert [len(page["updates"]) for page in pages] == [0 if gone else 500] * 8
    assert [chat["chat_id"] for page in pages for chat in page["chats"]] == [str(chat) for chat in chats[:10]]
