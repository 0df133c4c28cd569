"""Secret updates end: within 5 s of their time, once, also after a restart and with two processes."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import httpx
import pytest

from tests.integration.messaging.emitted import emitted, take_emitted
from tests.integration.messaging.relaying import until
from tests.integration.messaging.shell import make_shell, opened
from tests.integration.messaging.speaking import ANN, BEN, SECRET, Speaking
from tidings.errors import DatabaseUnavailable
from tidings.messaging import expiry as module
from tidings.messaging.domain.model import Kind
from tidings.messaging.expiry import Expiry
from tidings.messaging.http import updates as paths
from tidings.messaging.store.database import Database
from tidings.messaging.store.idempotency import Answers
from tidings.messaging.wire import Wire

_END = "UPDATE updates SET expires_at = now() - interval '1 second' WHERE type = 'secret_update'"
_END_IN = f"{_END} AND chat_id = $1"
_HOLD_CHAT = "SELECT FROM chats WHERE id = $1 FOR UPDATE"
_HOLD_UPDATES = "SELECT FROM updates WHERE chat_id = $1 FOR UPDATE"


@pytest.fixture
def people(database: Database) -> Speaking:
    return Speaking(database)


@contextlib.asynccontextmanager
async def held(database: Database, hold: str, chat: UUID) -> AsyncIterator[None]:
    """Rows of the chat locked by somebody else."""
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute(hold, chat)
        yield


@contextlib.asynccontextmanager
async def running(expiry: Expiry) -> AsyncIterator[None]:
    task = asyncio.create_task(expiry.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def told_in(database: Database) -> list[str]:
    """The chats whose members were told of something, once for each time."""
    return [record.key for record in await emitted(database)]


async def until_told(database: Database, *chats: UUID) -> None:
    """Of these and nothing else, in this order, within 5 s."""

    async def told() -> bool:
        return await told_in(database) == [str(chat) for chat in chats]

    await until(told, 5)


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

    async def told() -> bool:
        return len(await emitted(people.database)) == 1

    async with running(Expiry(people.database, Wire.CHAKCHAT)):
        await until(told, 10)
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


@pytest.mark.parametrize("hold", [_HOLD_CHAT, _HOLD_UPDATES])
async def test_what_somebody_holds_delays_no_other_chat_and_ends_once_it_is_free(people: Speaking, hold: str) -> None:
    database = people.database
    stuck, other = [await people.group(secret=True) for _ in range(2)]
    for chat in (stuck, other):
        await people.whisper(ANN, chat, Kind.SECRET_GROUP)
    await database.pool.execute(_END_IN, stuck)
    await take_emitted(database)
    async with held(database, hold, stuck), running(Expiry(database, Wire.SEED)):
        await asyncio.sleep(0.5)  # it has come upon what is held
        await database.pool.execute(_END_IN, other)
        await until_told(database, other)
    async with running(Expiry(database, Wire.SEED)):
        await until_told(database, other, stuck)
        await asyncio.sleep(1.5)
        assert await told_in(database) == [str(other), str(stuck)]


async def test_what_is_held_is_not_waited_for_in_vain_by_a_process_that_stays(people: Speaking) -> None:
    database = people.database
    chat = await people.group(secret=True)
    await people.whisper(ANN, chat, Kind.SECRET_GROUP)
    await database.pool.execute(_END_IN, chat)
    await take_emitted(database)
    async with running(Expiry(database, Wire.SEED)):
        async with held(database, _HOLD_CHAT, chat):
            await asyncio.sleep(1.5)
            assert await told_in(database) == []
        await until_told(database, chat)


async def test_a_chat_that_is_never_free_for_long_gets_its_turn_too(people: Speaking) -> None:
    database = people.database
    chat = await people.group(secret=True)
    await people.whisper(ANN, chat, Kind.SECRET_GROUP)
    await database.pool.execute(_END_IN, chat)
    await take_emitted(database)

    async def write_on_and_on() -> None:
        while True:
            async with held(database, _HOLD_CHAT, chat):
                await asyncio.sleep(0.05)

    writers = [asyncio.create_task(write_on_and_on()) for _ in range(4)]
    await asyncio.sleep(0.5)
    try:
        async with running(Expiry(database, Wire.SEED)):
            await until_told(database, chat)
    finally:
        for writer in writers:
            writer.cancel()
        await asyncio.gather(*writers, return_exceptions=True)


async def test_more_than_one_look_finds_in_a_held_chat_hides_no_other(
    people: Speaking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOOK", 2)
    database = people.database
    stuck, *others = [await people.group(secret=True) for _ in range(4)]
    for _ in range(3):
        await people.whisper(ANN, stuck, Kind.SECRET_GROUP)
    await database.pool.execute(_END_IN, stuck)
    for chat in others:
        await people.whisper(ANN, chat, Kind.SECRET_GROUP)
        await database.pool.execute(_END_IN, chat)
    await take_emitted(database)
    async with held(database, _HOLD_CHAT, stuck), asyncio.timeout(5):
        while await Expiry(database, Wire.SEED).sweep():
            pass
    assert sorted(await told_in(database)) == sorted(map(str, others))
    assert await Expiry(database, Wire.SEED).sweep() == 3


async def test_a_statement_over_its_time_is_its_chat_s_own_trouble(people: Speaking, postgres_dsn: str) -> None:
    stuck, *others = [await people.group(secret=True) for _ in range(6)]
    for chat in (stuck, *others):
        await people.whisper(ANN, chat, Kind.SECRET_GROUP)
    await people.database.pool.execute(_END)
    await take_emitted(people.database)
    async with (
        asyncpg.create_pool(postgres_dsn, min_size=1, server_settings={"statement_timeout": "200"}) as pool,
        held(people.database, _HOLD_UPDATES, stuck),
    ):
        database = Database(pool, lambda shards: None, acquire_timeout_s=1)
        assert await Expiry(database, Wire.SEED).sweep() == len(others)
    assert sorted(await told_in(people.database)) == sorted(map(str, others))


async def test_a_database_that_is_away_is_not_asked_once_for_each_chat(
    people: Speaking, monkeypatch: pytest.MonkeyPatch
) -> None:
    for chat in [await people.group(secret=True) for _ in range(3)]:
        await people.whisper(ANN, chat, Kind.SECRET_GROUP)
    await people.database.pool.execute(_END)
    asked = 0

    async def away(*_: object) -> None:
        nonlocal asked
        asked += 1
        raise DatabaseUnavailable("away") from ConnectionRefusedError()

    monkeypatch.setattr(people.database, "run", away)
    with pytest.raises(DatabaseUnavailable):
        await Expiry(people.database, Wire.SEED).sweep()
    assert asked == 1


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


@pytest.mark.parametrize("chat_deleted", [False, True])
async def test_what_has_ended_is_gone_from_the_kept_answers_too(people: Speaking, chat_deleted: bool) -> None:
    chat = await people.personal(secret=True)
    shell = make_shell(paths.routes(people), keeper=Answers(people.database))
    async with opened(shell, "ann") as client:

        async def whisper(key: str) -> httpx.Response:
            path = f"/v1.0/chat/personal/secret/{chat}/update/secret"
            return await client.post(path, json=SECRET, headers={"idempotency-key": key})

        first = await whisper("k")
        if chat_deleted:
            await people.chats.delete(BEN, chat, Kind.SECRET_PERSONAL)
        await people.database.pool.execute(_END)
        assert await Expiry(people.database, Wire.SEED).sweep() == (0 if chat_deleted else 1)
        body = await people.database.pool.fetchval("SELECT convert_from(body, 'UTF8') FROM idempotency")
        assert SECRET["payload"] not in body
        again = await whisper("k")
    assert (again.status_code, again.headers["idempotency-replayed"]) == (200, "true")
    assert again.json()["data"] == first.json()["data"] | {"content": dict.fromkeys(SECRET, "")}
