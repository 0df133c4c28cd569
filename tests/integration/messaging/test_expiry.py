"""Secret updates end: within 5 s of their time, once, also after a restart and with two processes."""

import asyncio
import contextlib
import time
from collections import Counter

import pytest

from tests.integration.messaging.emitted import emitted, take_emitted
from tests.integration.messaging.relaying import until
from tests.integration.messaging.speaking import ANN, BEN, Speaking
from tidings.messaging.domain.model import Kind
from tidings.messaging.expiry import Expiry
from tidings.messaging.store.database import Database
from tidings.messaging.wire import Wire

_END = "UPDATE updates SET expires_at = now() - interval '1 second' WHERE type = 'secret_update'"


@pytest.fixture
def people(database: Database) -> Speaking:
    return Speaking(database)


async def test_what_has_ended_is_gone_and_its_members_are_told(people: Speaking) -> None:
    for kind, chat in (
        (Kind.SECRET_PERSONAL, await people.personal(secret=True)),
        (Kind.SECRET_GROUP, await people.group(secret=True)),
    ):
        secret = await people.whisper(ANN, chat, kind)
        await people.database.pool.execute(_END)
        await take_emitted(people.database)
        assert await Expiry(people.database, Wire.SEED).sweep() == 1
        record = await people.told()
        assert record.data["type"] == "delete"
        assert record.data["sender_id"] == "ann"
        assert record.data["content"] == {"deleted_id": secret, "deleted_mode": "all"}
        assert {"ann", "ben"} <= set(record.receivers)
        assert record.context["message"]["deleted"]
        assert await people.read(BEN, chat) == [record.data]
        assert await people.database.pool.fetchval("SELECT count(*) FROM updates WHERE content::text LIKE '%aGk%'") == 0


async def test_within_5_seconds_of_its_time(people: Speaking) -> None:
    chat = await people.personal(secret=True)
    await people.secrets.set_expiration(ANN, chat, 1_000_000_000, Kind.SECRET_PERSONAL)
    await people.whisper(ANN, chat)
    await take_emitted(people.database)
    began = time.monotonic()
    task = asyncio.create_task(Expiry(people.database, Wire.CHAKCHAT).run())

    async def told() -> bool:
        return len(await emitted(people.database)) == 1

    await until(told, 10)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert 0.8 < time.monotonic() - began < 1 + 5
    assert (await people.told()).data["content"]["deleted_mode"] == "for_all"


async def test_what_has_no_time_or_not_yet_stays(people: Speaking) -> None:
    chat = await people.personal(secret=True)
    await people.whisper(ANN, chat)
    await people.secrets.set_expiration(ANN, chat, 3_600 * 1_000_000_000, Kind.SECRET_PERSONAL)
    await people.whisper(ANN, chat)
    await take_emitted(people.database)
    assert await Expiry(people.database, Wire.SEED).sweep() == 0
    assert len(await people.read(ANN, chat)) == 2
    assert await emitted(people.database) == []


async def test_two_processes_and_a_hand_that_deletes_end_each_once(people: Speaking) -> None:
    chats = [await people.group(secret=True) for _ in range(6)]
    secrets = [(chat, await people.whisper(ANN, chat, Kind.SECRET_GROUP)) for chat in chats for _ in range(30)]
    await people.database.pool.execute(_END)
    await take_emitted(people.database)
    first, second = Expiry(people.database, Wire.SEED), Expiry(people.database, Wire.SEED)

    async def sweep(expiry: Expiry) -> int:
        total = 0
        async with asyncio.timeout(60):  # what were deleted again and again would never end
            while found := await expiry.sweep():
                total += found
        return total

    by_hand = people.updates.delete_secret(BEN, Kind.SECRET_GROUP, *secrets[-1])
    *swept, _ = await asyncio.gather(sweep(first), sweep(second), by_hand, return_exceptions=True)
    records = await take_emitted(people.database)
    told = Counter((record.key, record.data["content"]["deleted_id"]) for record in records)
    assert told == Counter((str(chat), secret) for chat, secret in secrets)
    assert sum(int(str(number)) for number in swept) in (len(secrets), len(secrets) - 1)
    assert await sweep(first) == 0


async def test_in_a_chat_that_was_deleted_it_is_blanked_and_nobody_is_told(people: Speaking) -> None:
    chat = await people.personal(secret=True)
    await people.whisper(ANN, chat)
    await people.database.pool.execute(_END)
    await people.database.pool.execute("UPDATE chats SET deleted_at = now(), pair = NULL WHERE id = $1", chat)
    await take_emitted(people.database)
    assert await Expiry(people.database, Wire.SEED).sweep() == 0
    assert await emitted(people.database) == []
    assert await people.database.pool.fetchval("SELECT count(*) FROM updates WHERE deleted_at IS NULL") == 0


async def test_who_left_is_not_told_and_a_sender_who_left_does_not_stop_it(people: Speaking) -> None:
    chat = await people.group(secret=True)
    await people.whisper(BEN, chat, Kind.SECRET_GROUP)
    await people.groups.remove_member(BEN, chat, Kind.SECRET_GROUP, BEN.id)
    await people.database.pool.execute(_END)
    await take_emitted(people.database)
    assert await Expiry(people.database, Wire.SEED).sweep() == 1
    record = await people.told()
    assert sorted(record.receivers) == ["ann", "cat"]
    assert record.context["actor"]["id"] == "ben"
