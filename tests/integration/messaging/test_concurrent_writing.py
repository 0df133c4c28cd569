"""Many who write into one chat at once: its updates are numbered without a gap, in the order of their commits."""

import asyncio
import time

from tests.integration.messaging.emitted import take_emitted
from tests.integration.messaging.outcomes import outcomes
from tests.integration.messaging.speaking import ANN, BEN, Speaking
from tidings.errors import DomainError
from tidings.messaging.domain.model import Actor, Kind
from tidings.messaging.store.database import Database


async def test_fifty_writers_at_once_leave_no_gap_in_the_update_ids(database: Database) -> None:
    people = Speaking(database)
    actors = [Actor(id=f"user{n}") for n in range(50)]
    chat = await people.group(*actors)
    root = await people.say(actors[0], chat, "root")

    async def write(n: int, actor: Actor) -> None:
        await people.say(actor, chat, f"{n}")
        await people.react(actor, chat, root)
        # Refused, after others may have taken ids: nothing is used up.
        await outcomes(people.edit(actor, chat, 999_999), people.say(actor, chat, reply_to=999_999))
        own = await people.say(actor, chat, f"{n} again")
        await people.edit(actor, chat, own, f"{n} at last")

    await asyncio.gather(*(write(n, actor) for n, actor in enumerate(actors)))
    rows = await database.pool.fetch("SELECT update_id FROM updates WHERE chat_id = $1 ORDER BY update_id", chat)
    assert [row["update_id"] for row in rows] == list(range(1, 202))
    numbers = await database.pool.fetch("SELECT message_no FROM messages WHERE chat_id = $1 ORDER BY update_id", chat)
    assert [row["message_no"] for row in numbers] == list(range(1, 102))
    assert await database.pool.fetchval("SELECT last_update_id FROM chats WHERE id = $1", chat) == 201


async def test_two_hundred_senders_into_one_chat_all_succeed_in_one_order(database: Database) -> None:
    people = Speaking(database)
    actors = [Actor(id=f"user{n}") for n in range(200)]
    chat = await people.group(*actors)
    await take_emitted(database)
    patient = Speaking(Database(database.pool, lambda shards: None, acquire_timeout_s=30))
    begin = time.monotonic()
    sent = await asyncio.gather(*(patient.say(actor, chat, actor.id) for actor in actors))
    assert time.monotonic() - begin < 20
    assert sorted(sent) == list(range(1, 201))
    updates = [record for record in await take_emitted(database) if record.type == "update"]
    assert [record.data["update_id"] for record in updates] == list(range(1, 201))
    times = [record.context["at_us"] for record in updates]
    assert times == sorted(set(times)), "the time of an update is after that of the one before"
    assert {record.data["update_id"]: record.data["sender_id"] for record in updates} == dict(
        zip(sent, (actor.id for actor in actors), strict=True)
    )


async def test_of_two_sends_with_one_client_message_id_at_once_one_is_written(database: Database) -> None:
    people = Speaking(database)
    chat = await people.group()
    await take_emitted(database)
    answers = await asyncio.gather(
        *(people.messages.send_text(ANN, Kind.GROUP, chat, "hi", client_message_id="c1") for _ in range(10))
    )
    assert all(answer == answers[0] for answer in answers)
    assert len(await take_emitted(database)) == 1
    assert len(await people.read(BEN, chat)) == 1


async def test_one_client_message_id_into_two_chats_at_once_is_written_once(database: Database) -> None:
    people = Speaking(database)
    chats = [await people.group(), await people.group()]
    found = await outcomes(*(people.say(ANN, chat, client_message_id="c1") for chat in chats))
    assert found == ["client_message_id_reused", "done"]
    assert sum([len(await people.read(BEN, chat)) for chat in chats]) == 1


async def test_of_two_deletions_at_once_one_counts(database: Database) -> None:
    people = Speaking(database)
    chat = await people.group()
    message = await people.say(ANN, chat)
    await take_emitted(database)
    found = await outcomes(*(people.delete(actor, chat, message) for actor in (ANN, BEN)))
    assert found == ["done", "update_deleted"]
    assert len(await take_emitted(database)) == 1


async def test_an_edit_and_a_deletion_at_once_leave_no_text(database: Database) -> None:
    people = Speaking(database)
    chat = await people.group()
    for _ in range(10):
        message = await people.say(ANN, chat, "private")
        found = await outcomes(people.edit(ANN, chat, message, "private too"), people.delete(BEN, chat, message))
        assert found in (["done", "done"], ["done", "update_deleted"])
    assert await database.pool.fetchval("SELECT count(*) FROM messages WHERE text <> ''") == 0
    assert await database.pool.fetchval("SELECT count(*) FROM updates WHERE content::text LIKE '%private%'") == 0


async def test_a_block_and_a_send_at_once_come_one_after_the_other(database: Database) -> None:
    people = Speaking(database)
    chat = await people.personal()
    await take_emitted(database)
    sends = [people.say(ANN, chat, str(n), Kind.PERSONAL) for n in range(10)]
    found = await asyncio.gather(*sends, people.chats.block(BEN, chat), return_exceptions=True)
    written = [outcome for outcome in found if isinstance(outcome, int)]
    refused = [outcome for outcome in found if isinstance(outcome, DomainError)]
    assert len(written) + len(refused) == 10
    assert {error.code for error in refused} <= {"chat_blocked"}
    types = [record.type for record in await take_emitted(database)]
    assert types == ["update"] * len(written) + ["chat_blocked"]
