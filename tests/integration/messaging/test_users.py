"""People on a real PostgreSQL: known from their first request on, called what they choose."""

import asyncio
from typing import Any

import pytest

from tests.integration.messaging.outcomes import code, outcomes
from tests.integration.messaging.world import ALICE, BOB, CAROL, World
from tidings.errors import Conflict, InvalidInput, NotFound
from tidings.messaging.commands import users as commands
from tidings.messaging.commands.users import Users
from tidings.messaging.domain.model import Actor
from tidings.messaging.store.database import Database

NAMED = Actor(id="alice", username="Alice", name="Alice L", avatar="https://a/1")


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


async def test_the_first_request_makes_a_person_of_what_the_token_says(world: World) -> None:
    await world.users.seen(NAMED)
    me = await world.users.me(NAMED)
    assert me == {"user_id": "alice", "number": 1, "username": "Alice", "name": "Alice L", "avatar": "https://a/1"}
    assert await world.users.get(BOB, "alice") == me


async def test_a_known_person_costs_no_statement(world: World) -> None:
    await world.users.seen(NAMED)
    await world.database.pool.execute("DELETE FROM users")
    await world.users.seen(NAMED)
    await world.users.seen(Actor(id="alice", username="Alice", name="Alice L", avatar="https://a/1", session="s-9"))
    assert await world.database.pool.fetchval("SELECT count(*) FROM users") == 0


async def test_only_so_many_people_are_remembered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "MAX_KNOWN", 2)
    for id_ in ("a", "b", "a", "c"):
        await world.users.seen(Actor(id=id_))
    await world.database.pool.execute("DELETE FROM users")
    for id_ in ("a", "c", "b"):
        await world.users.seen(Actor(id=id_))
    assert [row["id"] for row in await world.database.pool.fetch("SELECT id FROM users")] == ["b"]


async def test_who_was_named_before_it_came_gets_its_name_and_the_others_learn_it(world: World) -> None:
    await world.pair(BOB, ALICE)
    await world.users.seen(NAMED)
    (record,) = await world.emitted()
    assert record.brief == ("user_updated", ["alice", "bob"])
    assert record.data == {"user_id": "alice", "username": "Alice", "name": "Alice L", "avatar": "https://a/1"}
    assert (await world.users.get(BOB, "alice"))["number"] == record.context["actor"]["number"]


async def test_a_token_fills_what_is_empty_and_never_takes_back_what_was_chosen(world: World) -> None:
    await world.users.seen(Actor(id="alice", name="Old"))
    await world.users.change(ALICE, name="Chosen")
    await world.users.seen(NAMED)
    me = await world.users.me(ALICE)
    assert (me["name"], me["username"]) == ("Chosen", "Alice")


async def test_a_username_that_another_has_or_that_cannot_be_one_is_left_out_of_a_token(world: World) -> None:
    await world.users.seen(NAMED)
    for number, username in enumerate(("ALICE", "two words", "x" * 65, "tab\t")):
        actor = Actor(id=f"user-{number}", username=username, name="Other")
        await world.users.seen(actor)
        me = await world.users.me(actor)
        assert (me["username"], me["name"]) == ("", "Other"), username


async def test_two_with_one_username_at_once_are_both_let_in(world: World) -> None:
    actors = [Actor(id=f"user-{number}", username="same") for number in range(10)]
    await asyncio.gather(*(world.users.seen(actor) for actor in actors))
    names = [(await world.users.me(actor))["username"] for actor in actors]
    assert sorted(names) == [""] * 9 + ["same"]


async def test_the_same_person_at_once_becomes_one_row(world: World) -> None:
    await asyncio.gather(*(World(world.database).users.seen(NAMED) for _ in range(10)))
    assert await world.database.pool.fetchval("SELECT count(*) FROM users") == 1


async def test_a_change_is_told_to_oneself_and_those_who_share_a_chat_once(world: World) -> None:
    await world.pair(ALICE, BOB)
    await world.group(ALICE, BOB, CAROL)
    gone = await world.pair(ALICE, Actor(id="dora"))
    await world.pair(BOB, Actor(id="eve"))
    await world.database.pool.execute("UPDATE chats SET deleted_at = now() WHERE id = $1", gone)
    answer = await world.users.change(ALICE, username="al", avatar="https://a/2")
    assert (answer["username"], answer["name"], answer["avatar"]) == ("al", "", "https://a/2")
    (record,) = await world.emitted()
    assert record.brief == ("user_updated", ["alice", "bob", "carol"])
    assert record.key == "alice"
    assert record.context["session"] == "s-1"


async def test_what_is_not_given_stays_and_the_empty_text_takes_away(world: World) -> None:
    await world.users.seen(NAMED)
    await world.users.change(ALICE, name="")
    me = await world.users.me(ALICE)
    assert (me["username"], me["name"], me["avatar"]) == ("Alice", "", "https://a/1")


async def test_what_was_taken_away_stays_away_whatever_later_tokens_say(world: World) -> None:
    await world.pair(BOB, ALICE)
    await world.users.seen(Actor(id="alice", username="Alice"))
    await world.users.change(ALICE, username="", name="")
    await world.emitted()
    await Users(world.database).seen(NAMED)  # another process, or this one later
    me = await world.users.me(ALICE)
    assert (me["username"], me["name"]) == ("", "")
    assert me["avatar"] == NAMED.avatar, "what was never chosen here is still the token's"
    assert [record.data["name"] for record in await world.emitted()] == [""]
    await world.users.change(ALICE, avatar="")
    await Users(world.database).seen(NAMED)
    assert (await world.users.me(ALICE))["avatar"] == ""
    await world.emitted()
    await Users(world.database).seen(NAMED)
    assert await world.emitted() == [], "nothing was to be done"


async def test_a_username_is_one_persons_in_whatever_case(world: World) -> None:
    await world.users.seen(NAMED)
    await world.users.seen(BOB)
    assert await code(world.users.change(BOB, username="aLICE"), Conflict) == "username_taken"
    await world.users.change(ALICE, username="alice")
    await world.users.seen(CAROL)
    done = await outcomes(world.users.change(BOB, username="same"), world.users.change(CAROL, username="Same"))
    assert done == ["done", "username_taken"]


async def test_nobody_knows_who_never_came(world: World) -> None:
    assert await code(world.users.get(ALICE, "nobody"), NotFound) == "user_not_found"


@pytest.mark.parametrize(
    "wrong", [{"username": "a b"}, {"username": "x" * 65}, {"name": "x" * 257}, {"avatar": "x" * 4_097}, {"name": "\0"}]
)
async def test_names_that_cannot_be_kept_are_refused(world: World, wrong: dict[str, Any]) -> None:
    await world.users.seen(ALICE)
    assert await code(world.users.change(ALICE, **wrong), InvalidInput) == "validation_failed"
