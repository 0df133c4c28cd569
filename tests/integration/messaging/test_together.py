"""Messages that come at the same time share a transaction, and none of them suffers from another."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.integration.messaging.emitted import take_emitted
from tests.integration.messaging.speaking import ANN, BEN, CAT, STRANGER, Speaking
from tidings.errors import DomainError, Forbidden, NotFound
from tidings.messaging.commands.messages import Messages
from tidings.messaging.domain.model import Kind
from tidings.messaging.store.database import Database
from tidings.messaging.wire import Wire
from tidings.metrics import Metrics

WITHIN_S = 5.0


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def people(database: Database, metrics: Metrics) -> Speaking:
    """Those of one process."""
    people = Speaking(database)
    people.messages = Messages(database, Wire.SEED, metrics)
    return people


async def written(database: Database, chats: list[UUID]) -> dict[UUID, list[int]]:
    """The update ids of each chat."""
    rows = await database.pool.fetch(
        "SELECT chat_id, update_id FROM updates WHERE chat_id = ANY($1) ORDER BY update_id", chats
    )
    return {chat: [row["update_id"] for row in rows if row["chat_id"] == chat] for chat in chats}


async def at_once(*sends: Any) -> list[Any]:
    async with asyncio.timeout(WITHIN_S):
        return await asyncio.gather(*sends, return_exceptions=True)


async def test_messages_to_many_chats_share_few_transactions_and_each_is_told(
    database: Database, people: Speaking, metrics: Metrics
) -> None:
    chats = [await people.group() for _ in range(20)]
    await take_emitted(database)
    for turn in range(1, 4):
        assert await at_once(*(people.say(BEN, chat, f"{turn}") for chat in chats)) == [turn] * 20
    assert await written(database, chats) == {chat: [1, 2, 3] for chat in chats}
    transactions = await database.pool.fetchval("SELECT count(DISTINCT xmin::text) FROM messages")
    assert transactions == metrics.value("tidings_messaging_batches_total") == 3
    assert metrics.value("tidings_messaging_batched_total") == 60
    told = Counter(record.data["chat_id"] for record in await take_emitted(database))
    assert told == {str(chat): 3 for chat in chats}


async def test_many_into_one_chat_and_others_beside_it_all_get_their_place(
    database: Database, people: Speaking
) -> None:
    busy, others = await people.group(), [await people.group() for _ in range(5)]
    sends = [people.say(ANN, busy, f"{number}") for number in range(40)]
    answers = await at_once(*sends, *(people.say(ANN, chat) for chat in others))
    assert answers == [*range(1, 41), *[1] * 5]
    texts = [update["content"]["text"] for update in await people.read(ANN, busy)]
    assert texts == [str(number) for number in range(40)], "in the order in which they came"


async def test_what_is_refused_spoils_nothing_of_what_it_came_with(database: Database, people: Speaking) -> None:
    good = [await people.group() for _ in range(6)]
    closed = await people.personal()
    await people.chats.block(BEN, closed)
    foreign = await people.group()
    answers = await at_once(
        people.say(ANN, good[0]),
        people.say(ANN, closed, kind=Kind.PERSONAL),
        people.say(ANN, good[1]),
        people.say(STRANGER, foreign),
        people.say(ANN, good[2], kind=Kind.PERSONAL),
        people.say(ANN, uuid4()),
        people.say(ANN, good[3]),
    )
    assert [answer if isinstance(answer, int) else (type(answer), str(answer)) for answer in answers] == [
        1,
        (Forbidden, "chat_blocked"),
        1,
        (NotFound, "chat_not_found"),
        (NotFound, "chat_not_found"),
        (NotFound, "chat_not_found"),
        1,
    ]
    assert [len(ids) for ids in (await written(database, good)).values()] == [1, 1, 0, 1, 0, 0]


async def test_a_repeat_gets_the_first_answer_and_what_it_came_with_is_written_once(
    database: Database, people: Speaking, metrics: Metrics
) -> None:
    chats = [await people.group() for _ in range(6)]
    assert await people.say(ANN, chats[0], client_message_id="c1") == 1
    answers = await at_once(
        *(people.say(ANN, chat, client_message_id=f"c{number}") for number, chat in enumerate(chats[1:], 2)),
        people.say(ANN, chats[0], client_message_id="c1"),
        people.say(BEN, chats[0], client_message_id="c1"),
    )
    assert answers == [1, 1, 1, 1, 1, 1, 2]
    assert [len(ids) for ids in (await written(database, chats)).values()] == [2, 1, 1, 1, 1, 1]
    assert metrics.value("tidings_messaging_written_alone_total") >= 6


async def test_a_chat_that_another_process_holds_keeps_only_its_own_message_waiting(
    database: Database, people: Speaking
) -> None:
    held, free = await people.group(), [await people.group() for _ in range(4)]
    async with database.connection() as other_process:
        holding = other_process.transaction()
        await holding.start()
        await other_process.execute("SELECT FROM chats WHERE id = $1 FOR UPDATE", held)
        waiting = asyncio.create_task(people.say(ANN, held))
        for turn in (1, 2):
            assert await at_once(*(people.say(ANN, chat) for chat in free)) == [turn] * 4
        assert not waiting.done()
        await holding.rollback()
    assert await waiting == 1


@pytest.mark.parametrize("broken", [RuntimeError, lambda text: DomainError(text)], ids=["error", "refusal"])
async def test_a_transaction_that_broke_is_begun_again_by_each_alone(
    database: Database, people: Speaking, broken: Callable[[str], Exception]
) -> None:
    chats = [await people.group() for _ in range(5)]
    await take_emitted(database)

    async def refuse(unit: object, answer: object) -> None:
        raise broken("not this one")

    answers = await at_once(*(people.say(ANN, chat) for chat in chats[:4]), people.say(CAT, chats[4], record=refuse))
    assert answers[:4] == [1, 1, 1, 1]
    assert str(answers[4]) == "not this one"
    assert [len(ids) for ids in (await written(database, chats)).values()] == [1, 1, 1, 1, 0]
    assert len(await take_emitted(database)) == 4


async def test_secrets_go_along_and_end_by_their_own_chats_expiration(database: Database, people: Speaking) -> None:
    ending, lasting, plain = await people.group(secret=True), await people.group(secret=True), await people.group()
    await people.secrets.set_expiration(ANN, ending, 3_600 * 10**9, Kind.SECRET_GROUP)
    assert await at_once(
        people.whisper(BEN, ending, Kind.SECRET_GROUP),
        people.say(BEN, plain),
        people.whisper(BEN, lasting, Kind.SECRET_GROUP),
    ) == [1, 1, 1]
    ends = "SELECT extract(epoch FROM expires_at - created_at)::int FROM updates WHERE chat_id = $1 AND update_id = $2"
    assert await database.pool.fetchval(ends, ending, 1) == 3_600
    assert await database.pool.fetchval(ends, lasting, 1) is None
    assert await database.pool.fetchval(ends, plain, 1) is None
