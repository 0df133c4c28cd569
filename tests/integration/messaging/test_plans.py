"""With a million messages in the tables, what is done all day finds its rows by an index."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.integration.messaging.crowds import fill
from tests.integration.messaging.listening import Statements, listening
from tests.integration.messaging.speaking import Speaking
from tidings.messaging.domain.model import Actor, Kind
from tidings.messaging.store.database import Connection, Database

U1, U2 = Actor(id="u1"), Actor(id="u2")
CHATS, MESSAGES = 1_000, 1_000
_FEW = """
INSERT INTO attachments (id, message_id, position, file_id, file_name, mime_type, file_size, file_url)
SELECT gen_random_uuid(), id, 1, gen_random_uuid(), 'f', 'm', 1, 'u' FROM messages WHERE message_no % 20 = 0;
INSERT INTO deletions (chat_id, update_id, user_id)
SELECT chat_id, update_id, 'u1' FROM messages WHERE message_no % 20 = 1;
INSERT INTO updates (chat_id, update_id, type, sender_id, target_update_id, content)
SELECT id, last_update_id + n, 'reaction', 'u1', last_update_id - n, '{"reaction": "heart"}'
FROM chats, generate_series(1, 50) n;
UPDATE chats SET last_update_id = last_update_id + 50;
INSERT INTO idempotency (user_id, path, key, request_hash, status, body, chat_id, update_id)
SELECT sender_id, '/', id, '', 200, '{}', chat_id, update_id FROM messages WHERE message_no % 10 = 0;
ANALYZE
"""
KINDS = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")
LARGE = {"updates", "messages", "members", "chats", "users", "marks", "attachments", "deletions", "idempotency"}


def scans(plan: dict[str, Any]) -> Iterator[str]:
    """The tables that it walks through from end to end."""
    if plan["Node Type"] == "Seq Scan":
        yield plan["Relation Name"]
    for below in plan.get("Plans", ()):
        yield from scans(below)


async def walked_through(statements: Statements) -> dict[str, list[str]]:
    """The statements, each once, that walk through a large table, and which."""
    seen = {query: args for query, args in statements.sent if query.startswith(KINDS)}
    found = {query: await _explained(statements.connection, query, args) for query, args in seen.items()}
    return {query: tables for query, tables in found.items() if tables}


async def _explained(connection: Connection, query: str, args: Sequence[Any]) -> list[str]:
    (found,) = json.loads(await connection.fetchval("EXPLAIN (FORMAT JSON) " + query, *args))
    return [table for table in scans(found["Plan"]) if table in LARGE]


@pytest.mark.slow
async def test_writing_changing_and_reading_a_chat_walks_through_no_table(database: Database) -> None:
    await fill(database, users=5_000, chats=CHATS, members=10, messages=MESSAGES)
    await database.pool.execute(_FEW)
    assert await database.pool.fetchval("SELECT count(*) FROM messages") >= CHATS * MESSAGES
    chat = await database.pool.fetchval("SELECT chat_id FROM members WHERE user_id = 'u1' LIMIT 1")
    other = await database.pool.fetchval(
        "SELECT user_id FROM members WHERE chat_id = $1 AND user_id <> 'u1' LIMIT 1", chat
    )
    async with listening(database.pool) as statements:
        connection = statements.connection
        people = Speaking(statements.database)
        kind = Kind(await connection.fetchval("SELECT kind FROM chats WHERE id = $1", chat))
        peer = Actor(id=other)
        last = await people.say(U1, chat, "hi", kind)
        answer = await people.say(peer, chat, "hi", kind, reply_to=last, client_message_id="c1")
        await people.say(peer, chat, "hi", kind, client_message_id="c1")
        comment = await people.say(U1, chat, "ok", kind, parent=answer, attachments={await people.file(U1): {}})
        await people.edit(U1, chat, last, "ho", kind)
        reaction = await people.react(peer, chat, last, kind=kind)
        await people.read(U1, chat, MESSAGES - 200, MESSAGES + 200)
        await people.updates.delete_reaction(peer, kind, chat, reaction)
        await people.delete(peer, chat, answer, "only_me", kind)
        await people.delete(U1, chat, comment, kind=kind)
        assert len(statements.sent) > 20
        walked = await walked_through(statements)
    assert walked == {}
