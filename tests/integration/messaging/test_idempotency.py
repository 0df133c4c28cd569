"""A POST takes effect once, however often and however close together it comes; on real Postgres."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.integration.messaging.listening import listening
from tests.integration.messaging.shell import make_shell, opened
from tests.integration.messaging.speaking import ANN, BEN, Speaking
from tidings.errors import Conflict
from tidings.messaging.domain.model import Actor
from tidings.messaging.http import updates
from tidings.messaging.http.bodies import NewPersonal
from tidings.messaging.http.idempotency import Once
from tidings.messaging.http.replies import Reply
from tidings.messaging.http.routing import Handler, create
from tidings.messaging.store.answer import AnsweredBefore, Kept, Stored
from tidings.messaging.store.database import Database
from tidings.messaging.store.idempotency import Answers
from tidings.messaging.store.unit import Unit

KEY = {"idempotency-key": "k"}


def inserting(database: Database, *, fail_after: bool = False, hold: asyncio.Event | None = None) -> list[Handler]:
    """A command that writes a user of a new id each time, or refuses what is there already."""

    @create("/users", tag="Users", example={})
    async def add(actor: Actor, once: Once, data: NewPersonal) -> Reply:
        """Add."""

        async def command(record: Any) -> dict[str, Any]:
            async def work(unit: Unit) -> dict[str, Any]:
                if data.member_id == "only":
                    done = await unit.connection.execute(
                        "INSERT INTO users (id) VALUES ('only') ON CONFLICT DO NOTHING"
                    )
                    if done == "INSERT 0 0":
                        raise Conflict("chat_already_exists")
                else:
                    await unit.connection.execute("INSERT INTO users (id) VALUES ($1)", str(uuid4()))
                answer = {"id": await unit.connection.fetchval("SELECT max(number) FROM users"), "by": actor.id}
                await record(unit, answer)
                if hold is not None:
                    await hold.wait()
                if fail_after:
                    raise RuntimeError("after the record")
                return answer

            return await database.run(work)

        return await once(command)

    return [add]


async def users(database: Database) -> int:
    async with database.connection() as connection:
        count: int = await connection.fetchval("SELECT count(*) FROM users")
    return count


async def post(client: httpx.AsyncClient, member: str = "x", **headers: str) -> httpx.Response:
    return await client.post("/v1.0/users", json={"member_id": member}, headers={**KEY, **headers})


async def test_a_repeat_takes_no_effect_and_gets_the_first_answer(database: Database) -> None:
    async with opened(make_shell(inserting(database), keeper=Answers(database))) as client:
        first = await post(client)
        assert first.status_code == 200
        for _ in range(3):
            again = await post(client)
            assert (again.content, again.headers["idempotency-replayed"]) == (first.content, "true")
    assert await users(database) == 1


async def test_a_repeat_of_what_can_be_done_only_once_gets_the_first_answer_and_not_the_refusal(
    database: Database,
) -> None:
    async with opened(make_shell(inserting(database), keeper=Answers(database))) as client:
        first = await post(client, "only")
        assert first.status_code == 200
        assert (await post(client, "only")).content == first.content
        other = await client.post("/v1.0/users", json={"member_id": "only"}, headers={"idempotency-key": "k2"})
        assert (other.status_code, other.json()["error_type"]) == (400, "chat_already_exists")


@pytest.mark.parametrize("member", ["x", "only"])
async def test_of_twenty_at_once_one_takes_effect_and_all_get_its_answer(database: Database, member: str) -> None:
    async with opened(make_shell(inserting(database), keeper=Answers(database))) as client:
        answers = await asyncio.gather(*(post(client, member) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert await users(database) == 1


async def test_of_two_under_way_one_takes_effect_whichever_commits_first(database: Database) -> None:
    hold = asyncio.Event()
    first_shell = make_shell(inserting(database, hold=hold), keeper=Answers(database))
    other_process = make_shell(inserting(database), keeper=Answers(database))
    async with opened(first_shell) as one, opened(other_process) as two:
        first = asyncio.create_task(post(one))
        await asyncio.sleep(0.2)
        second = await post(two)
        hold.set()
        again = await first
        assert (again.content, again.headers["idempotency-replayed"]) == (second.content, "true")
    assert await users(database) == 1


async def test_a_repeat_waits_for_the_first_that_is_committing(database: Database) -> None:
    async with (
        opened(make_shell(inserting(database), keeper=Answers(database))) as client,
        database.connection() as other_process,
    ):
        committing = other_process.transaction()
        await committing.start()
        await other_process.execute(
            "INSERT INTO idempotency (user_id, path, key, request_hash) VALUES ('alice', '/v1.0/users', 'k', '')"
        )
        repeat = asyncio.create_task(post(client))
        done, _ = await asyncio.wait([repeat], timeout=0.5)
        assert not done
        await committing.rollback()
        answer = await repeat
        assert (answer.status_code, "idempotency-replayed" in answer.headers) == (200, False)
    assert await users(database) == 1


async def test_an_answer_is_kept_with_its_update_and_without_a_round_trip(database: Database) -> None:
    chat = await Speaking(database).group(ANN, BEN)
    async with listening(database.pool) as statements:
        shell = make_shell(updates.routes(Speaking(statements.database)), keeper=Answers(statements.database))
        async with opened(shell, "ann") as client:
            path = f"/v1.0/chat/group/{chat}/update/message/text"
            await client.post(path, json={"text": "hi"}, headers={"idempotency-key": "before"})
            statements.sent.clear()  # asyncpg has asked for the types of the arguments
            said = await client.post(path, json={"text": "hi"}, headers=KEY)
        # The chat's lock, its members, all that is written, outbox and answer.
        verbs = [query.split()[0].rstrip(";") for query, _ in statements.sent]
        assert verbs == ["BEGIN", "SELECT", "SELECT", "WITH", "WITH", "COMMIT"]
    row = await database.pool.fetchrow("SELECT chat_id, update_id FROM idempotency WHERE key = 'k'")
    assert tuple(row) == (chat, said.json()["data"]["update_id"])


async def test_what_did_not_commit_left_no_answer_behind(database: Database) -> None:
    async with opened(make_shell(inserting(database, fail_after=True), keeper=Answers(database))) as client:
        assert (await post(client)).status_code == 500
    assert await users(database) == 0
    async with opened(make_shell(inserting(database), keeper=Answers(database))) as client:
        again = await post(client)
        assert (again.status_code, "idempotency-replayed" in again.headers) == (200, False)


async def test_a_key_with_another_body_is_refused_and_takes_no_effect(database: Database) -> None:
    async with opened(make_shell(inserting(database), keeper=Answers(database))) as client:
        await post(client)
        other = await post(client, "y")
        assert (other.status_code, other.json()["error_type"]) == (409, "idempotency_key_reused")
    assert await users(database) == 1


async def test_keys_belong_to_their_user_and_path(database: Database) -> None:
    answers = Answers(database)
    stored = Stored(b"h", 200, b"{}")
    places: list[tuple[str, str, str]] = [
        ("alice", "/a", "k"),
        ("bob", "/a", "k"),
        ("alice", "/b", "k"),
        ("alice", "/a", "k2"),
    ]

    async def keep(unit: Unit) -> None:
        unit.keep(Kept(user, path, key, stored))

    for user, path, key in places:
        await database.run(keep)
        with pytest.raises(AnsweredBefore):
            await database.run(keep)
        assert await answers.find(user, path, key) == stored
    assert await answers.find("bob", "/b", "k") is None


async def test_an_answer_counts_for_a_day_also_before_it_is_cleaned_away(database: Database) -> None:
    answers = Answers(database)
    async with opened(make_shell(inserting(database), keeper=answers)) as client:
        first = await post(client)
        await _age(database, "23 hours 59 minutes")
        assert (await post(client)).content == first.content
        await _age(database, "2 minutes")
        again = await post(client)
        assert again.content != first.content
        assert "idempotency-replayed" not in again.headers
        assert (await post(client)).content == again.content
    assert await users(database) == 2


async def test_old_answers_are_cleaned_in_small_batches_and_young_ones_stay(database: Database) -> None:
    answers = Answers(database)
    for age, count in (("25 hours", 5), ("1 hour", 3)):
        async with database.connection() as connection:
            await connection.execute(
                "INSERT INTO idempotency (user_id, path, key, request_hash, created_at)"
                " SELECT $1, '/', n::text, '', now() - $1::text::interval FROM generate_series(1, $2::int) n",
                age,
                count,
            )
    assert [await answers.clean(2) for _ in range(4)] == [2, 2, 1, 0]
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM idempotency") == 3


async def test_what_another_process_cleans_is_not_waited_for(database: Database) -> None:
    answers = Answers(database)
    async with database.connection() as other:
        await other.execute(
            "INSERT INTO idempotency (user_id, path, key, request_hash, created_at)"
            " SELECT 'alice', '/', n::text, '', now() - interval '25 hours' FROM generate_series(1, 5) n"
        )
        async with other.transaction(), asyncio.timeout(5):
            await other.execute("DELETE FROM idempotency WHERE key = '1'")
            assert await answers.clean() == 4


async def test_an_answer_that_is_too_old_is_not_given_for_a_refusal(database: Database) -> None:
    async with opened(make_shell(inserting(database), keeper=Answers(database))) as client:
        assert (await post(client, "only")).status_code == 200
        await _age(database, "25 hours")
        again = await post(client, "only")
        assert (again.status_code, again.json()["error_type"]) == (400, "chat_already_exists")


async def _age(database: Database, by: str) -> None:
    async with database.connection() as connection:
        await connection.execute("UPDATE idempotency SET created_at = created_at - $1::text::interval", by)
