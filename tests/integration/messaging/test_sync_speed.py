"""What catching up costs somebody who is in 1,000 chats."""

import time
from statistics import median

import pytest

from tests.integration.messaging.crowds import fill
from tests.integration.messaging.world import World
from tidings.messaging.commands import Answer
from tidings.messaging.domain.model import Actor
from tidings.messaging.store.database import Database

U1 = Actor(id="u1")
TIMES = 15
LIMIT_MS = 50

_CHANGE = """
WITH chosen AS (
  UPDATE chats SET last_update_id = last_update_id + 1, last_message_no = last_message_no + 1,
    changed = pg_current_xact_id()
  WHERE number <= $1 RETURNING id, last_update_id),
entry AS (
  INSERT INTO updates (chat_id, update_id, type, sender_id) SELECT id, last_update_id, 'text_message', 'u2' FROM chosen)
INSERT INTO messages (id, chat_id, update_id, message_no, sender_id, text)
SELECT gen_random_uuid(), id, last_update_id, last_update_id, 'u2', 'new' FROM chosen
"""


@pytest.fixture
async def world(database: Database) -> World:
    await fill(database, users=5_000, chats=1_000, members=10, messages=200)
    return World(database)


async def cost(world: World, since: str | None) -> tuple[float, list[Answer]]:
    """Milliseconds of one page, the median over all pages of some runs."""
    times = []
    pages: list[Answer] = []
    for _ in range(TIMES):
        token, pages = since, []
        while not pages or pages[-1]["more"]:
            begin = time.perf_counter()
            pages.append(await world.sync.read(U1, token))
            times.append((time.perf_counter() - begin) * 1000)
            token = pages[-1]["next"]
    return median(times), pages


@pytest.mark.slow
@pytest.mark.parametrize(("changed", "pages"), [(0, 1), (20, 1), (1_000, 4)])
async def test_catching_up_in_1000_chats_takes_at_most_50_ms_a_page(world: World, changed: int, pages: int) -> None:
    since = (await world.missed(U1))["next"]
    await world.database.pool.execute(_CHANGE, changed)
    took_ms, shown = await cost(world, since)
    print(f"{changed} of 1,000 chats changed: {took_ms:.1f} ms a page, {len(shown)} pages")
    assert sum(len(page["updates"]) for page in shown) == changed
    assert len(shown) == pages
    assert took_ms <= LIMIT_MS


@pytest.mark.slow
async def test_the_state_of_1000_chats_is_four_pages(world: World) -> None:
    took_ms, shown = await cost(world, None)
    print(f"all of 1,000 chats: {took_ms:.1f} ms a page, {len(shown)} pages")
    assert [len(page["chats"]) for page in shown] == [250] * 4
    assert took_ms <= 2 * LIMIT_MS
