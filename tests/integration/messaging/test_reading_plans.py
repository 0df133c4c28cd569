"""With a million messages in the tables, catching up, reading back, marking and ending find their rows by an index."""

from typing import Any

import pytest

from tests.integration.messaging.crowds import fill
from tests.integration.messaging.listening import listening
from tests.integration.messaging.speaking import ANN, BEN, Speaking
from tests.integration.messaging.test_plans import _FEW, CHATS, MESSAGES, walked_through
from tests.integration.messaging.world import World
from tidings.messaging.domain.entry import MarkKind
from tidings.messaging.domain.model import Actor, Kind
from tidings.messaging.expiry import Expiry
from tidings.messaging.store.database import Database
from tidings.messaging.wire import Wire

_OWN = """
UPDATE members SET changed = '3'::xid8; UPDATE chats SET changed = '3'::xid8; UPDATE updates SET changed = '3'::xid8
WHERE update_id > 990; UPDATE users SET changed = '3'::xid8
"""

_END = "UPDATE updates SET expires_at = now() - interval '1 second' WHERE type = 'secret_update'"


@pytest.mark.slow
async def test_catching_up_reading_back_marking_and_ending_walk_through_no_table(database: Database) -> None:
    await fill(database, users=5_000, chats=CHATS, members=10, messages=MESSAGES)
    await database.pool.execute(_OWN)
    people = Speaking(database)
    secret, gone = await people.personal(secret=True), await people.group(ANN, BEN, secret=True)
    await people.secrets.set_expiration(ANN, secret, 3_600 * 1_000_000_000, Kind.SECRET_PERSONAL)
    for _ in range(30):
        await people.whisper(ANN, secret)
        await people.whisper(ANN, gone, Kind.SECRET_GROUP)
    await database.pool.execute(_END)
    await database.pool.execute("UPDATE chats SET deleted_at = now() WHERE id = $1", gone)
    await database.pool.execute(_FEW)
    user = await database.pool.fetchval(
        "SELECT user_id FROM members WHERE user_id <> 'u1' GROUP BY user_id ORDER BY count(*) DESC LIMIT 1"
    )
    actor = Actor(id=user, username="newname")
    chat = await database.pool.fetchval("SELECT chat_id FROM members WHERE user_id = $1 LIMIT 1", user)
    parent = await database.pool.fetchval("SELECT id FROM messages WHERE chat_id = $1 LIMIT 1", chat)
    async with listening(database.pool) as statements:
        world = World(statements.database)
        state = await world.sync.read(actor)
        await world.messages.send_text(Actor(id="u1"), Kind.GROUP, chat, "hi")
        missed = await world.sync.read(actor, state["next"])
        assert [update["content"]["text"] for update in missed["updates"]] == ["hi"]
        await world.marks.mark(actor, chat, MarkKind.DELIVERED, MESSAGES - 1)
        await world.marks.mark(actor, chat, MarkKind.READ)
        await world.marks.mark(actor, chat, MarkKind.READ, parent)
        await world.likes.toggle(actor, chat)
        await world.likes.toggle(actor, chat)
        await world.history.chats(actor)
        questions: list[dict[str, Any]] = [{}, {"before": 500}, {"after": 500}, {"parent": "none"}, {"parent": parent}]
        for question in questions:
            await world.history.messages(actor, chat, **question)
        await world.history.messages(actor, chat, after=500, by="message_no")
        await world.users.seen(actor)
        await world.users.change(actor, name="New")
        await world.users.get(actor, "u1")
        expiry = Expiry(statements.database, Wire.SEED)
        assert [await expiry.sweep() for _ in range(3)] == [20, 10, 0]
        assert len(statements.sent) > 250
        walked = await walked_through(statements)
    for query, tables in walked.items():
        print(tables, query, sep="\n")
    assert not walked
