"""Reading back on a real PostgreSQL: messages in both directions, the list of chats, likes."""

import asyncio
from itertools import pairwise
from typing import Any, Literal
from uuid import UUID, uuid4

import pytest

from tests.integration.messaging.outcomes import code
from tests.integration.messaging.world import ALICE, BOB, CAROL, MALLORY, World
from tidings.errors import Forbidden, InvalidInput, NotFound
from tidings.messaging.commands import Answer
from tidings.messaging.domain.entry import MarkKind
from tidings.messaging.domain.model import Actor, Kind
from tidings.messaging.store.database import Database
from tidings.messaging.wire import Wire


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


@pytest.fixture
async def chat(world: World) -> UUID:
    """Messages 1 to 10, each followed by a reaction: so the updates of the messages are 1, 3, …, 19."""
    made = await world.pair()
    for number in range(1, 11):
        said = await world.say(ALICE if number % 2 else BOB, made, str(number))
        await world.updates.react(BOB, Kind.PERSONAL, made, said["update_id"], "heart")
    return made


def texts(answer: Answer) -> list[str]:
    return [message["content"]["text"] for message in answer["messages"]]


def numbers(*range_: int) -> list[str]:
    return [str(number) for number in range(*range_)]


async def test_the_newest_messages_come_ascending(world: World, chat: UUID) -> None:
    answer = await world.history.messages(ALICE, chat, limit=3)
    assert (texts(answer), answer["more"]) == (["8", "9", "10"], True)
    assert texts(await world.history.messages(ALICE, chat)) == numbers(1, 11)


@pytest.mark.parametrize("limit", [1, 3, 9, 10, 11])
async def test_pages_in_both_directions_show_every_message_once(world: World, chat: UUID, limit: int) -> None:
    back: list[str] = []
    before: int | None = None
    more = True
    while more:
        page = await world.history.messages(ALICE, chat, before=before, limit=limit)
        back = texts(page) + back
        before, more = page["messages"][0]["update_id"], page["more"]
    assert back == numbers(1, 11)

    ahead: list[str] = []
    after, more = 0, True
    while more:
        page = await world.history.messages(ALICE, chat, after=after, limit=limit)
        ahead += texts(page)
        after, more = page["messages"][-1]["update_id"], page["more"]
    assert ahead == numbers(1, 11)


async def test_a_cursor_may_count_updates_messages_or_all_messages(world: World, chat: UUID) -> None:
    five = (await world.history.messages(ALICE, chat, before=10, limit=1))["messages"][0]
    assert (five["content"]["text"], five["update_id"], five["message"]["message_no"]) == ("5", 9, 5)
    cursors: list[tuple[Literal["update_id", "message_no", "number"], int]] = [
        ("update_id", 9),
        ("message_no", 5),
        ("number", five["message"]["number"]),
    ]
    for by, cursor in cursors:
        assert texts(await world.history.messages(ALICE, chat, before=cursor, by=by)) == numbers(1, 5)
        assert texts(await world.history.messages(ALICE, chat, after=cursor, by=by)) == numbers(6, 11)
    assert texts(await world.history.messages(ALICE, chat, after=0, by="message_no")) == numbers(1, 11)
    assert texts(await world.history.messages(ALICE, chat, before=99, by="message_no")) == numbers(1, 11)
    assert texts(await world.history.messages(ALICE, chat, after=99)) == []
    assert texts(await world.history.messages(ALICE, chat, before=1)) == []


async def test_messages_show_their_edit_and_reactions_and_deleted_ones_are_gone(world: World, chat: UUID) -> None:
    await world.updates.edit_text(ALICE, Kind.PERSONAL, chat, 1, "one")
    await world.updates.delete_message(ALICE, Kind.PERSONAL, chat, 3, "all")
    await world.updates.delete_message(BOB, Kind.PERSONAL, chat, 5, "only_me")
    shown = await world.history.messages(ALICE, chat, limit=3, after=0)
    assert texts(shown) == ["one", "3", "4"]
    content = shown["messages"][0]["content"]
    assert content["edited"]["content"]["new_text"] == "one"
    assert [reaction["content"]["reaction"] for reaction in content["reactions"]] == ["heart"]
    assert texts(await world.history.messages(BOB, chat, limit=2, after=0)) == ["one", "4"]


async def test_comments_are_read_by_their_message_and_can_be_left_out(world: World) -> None:
    group = await world.group(ALICE, BOB)
    root = await world.say(ALICE, group, "root")
    for number in range(5):
        await world.say(BOB, group, f"comment {number}", parent=root["update_id"])
    await world.say(ALICE, group, "other")
    all_of_them = await world.history.messages(ALICE, group)
    first = all_of_them["messages"][0]["message"]
    assert first["comment_count"] == 5
    assert all_of_them["messages"][1]["message"]["parent"] == first["number"]
    assert texts(await world.history.messages(ALICE, group, parent="none")) == ["root", "other"]
    page = await world.history.messages(ALICE, group, parent=UUID(first["id"]), limit=2)
    assert (texts(page), page["more"]) == (["comment 3", "comment 4"], True)
    page = await world.history.messages(ALICE, group, parent=UUID(first["id"]), after=0, limit=2)
    assert texts(page) == ["comment 0", "comment 1"]
    assert await code(world.history.messages(ALICE, group, parent=uuid4()), NotFound) == "message_not_found"


async def test_the_marks_over_the_messages_come_with_them(world: World, chat: UUID) -> None:
    await world.read(ALICE, chat)
    answer = await world.history.messages(BOB, chat, limit=2)
    alices = [mark for mark in answer["marks"] if (mark["user_id"], mark["kind"]) == ("alice", "read")]
    assert [(mark["from_message_no"], mark["up_to_message_no"]) for mark in alices] == [(9, 10)]
    bobs = [mark for mark in answer["marks"] if (mark["user_id"], mark["kind"]) == ("bob", "read")]
    assert [(mark["from_message_no"], mark["up_to_message_no"]) for mark in bobs] == [(8, 9)]


async def test_wrong_questions_are_refused(world: World, chat: UUID) -> None:
    wrong: list[dict[str, Any]] = [
        {"limit": 0},
        {"limit": 501},
        {"before": 1, "after": 1},
        {"before": -1},
        {"after": 1 << 63},
        {"before": 12_345, "by": "number"},
    ]
    for arguments in wrong:
        refused = await code(world.history.messages(ALICE, chat, **arguments), InvalidInput)
        assert refused == "invalid_query_param", arguments


async def test_only_members_read(world: World, chat: UUID) -> None:
    assert await code(world.history.messages(MALLORY, chat), NotFound) == "chat_not_found"
    assert await code(world.history.messages(ALICE, uuid4()), NotFound) == "chat_not_found"
    await world.chats.delete(BOB, chat, Kind.PERSONAL)
    assert await code(world.history.messages(ALICE, chat), NotFound) == "chat_not_found"


async def test_the_list_has_the_chat_with_the_newest_message_first(world: World) -> None:
    with_bob, with_carol = await world.pair(), await world.pair(ALICE, CAROL)
    group = await world.group(ALICE, BOB)
    for chat in (group, with_carol, with_bob):
        await world.say(ALICE, chat, "hi")
    empty = await world.group(ALICE)
    listed = (await world.history.chats(ALICE))["chats"]
    assert [chat["chat_id"] for chat in listed] == [str(chat) for chat in (empty, with_bob, with_carol, group)]
    assert (listed[0]["last_message"], listed[0]["unread"]) == (None, 0)
    assert "last_message_status" not in listed[0]


async def test_pages_of_the_list_show_every_chat_once(world: World) -> None:
    made = {str(await world.group(ALICE, name=str(number))) for number in range(7)}
    shown: list[Answer] = []
    cursor, pages = None, 0
    while cursor is not None or not pages:
        page = await world.history.chats(ALICE, cursor=cursor, limit=3)
        shown += page["chats"]
        cursor, pages = page["next"], pages + 1
    assert pages == 3
    assert [chat["info"]["name"] for chat in shown] == numbers(6, -1, -1)
    assert {chat["chat_id"] for chat in shown} == made
    for wrong in ("", "x", "é", "kg", "A" * 200):
        assert await code(world.history.chats(ALICE, cursor=wrong), InvalidInput) == "invalid_query_param"
    for limit in (0, 201):
        assert await code(world.history.chats(ALICE, limit=limit), InvalidInput) == "invalid_query_param"


async def test_an_entry_tells_what_is_unread_and_how_far_the_last_message_came(world: World) -> None:
    chat = await world.pair()

    async def entry(actor: Actor) -> Answer:
        (only,) = (await world.history.chats(actor))["chats"]
        found: Answer = only
        return found

    await world.say(ALICE, chat, "one", client_message_id="c1")
    await world.say(ALICE, chat, "two")
    bobs = await entry(BOB)
    assert bobs["unread"] == 2
    assert (bobs["first_unread"]["update_id"], bobs["first_unread"]["client_message_id"]) == (1, "c1")
    assert bobs["last_message"]["content"]["text"] == "two"
    assert (await entry(ALICE))["last_message_status"] == "undelivered"
    await world.marks.mark(BOB, chat, MarkKind.DELIVERED)
    assert (await entry(ALICE))["last_message_status"] == "unread"
    assert (await entry(BOB))["last_message_status"] == "unread"
    await world.read(BOB, chat)
    for actor in (ALICE, BOB):
        assert (await entry(actor))["last_message_status"] == "read"
    assert ((await entry(BOB))["unread"], (await entry(BOB))["first_unread"]) == (0, None)
    people = (await world.history.chats(ALICE))["users"]
    assert {user["user_id"] for user in people} == {"alice", "bob"}


async def test_in_a_group_the_last_message_is_read_when_all_others_read_it(world: World) -> None:
    group = await world.group(ALICE, BOB, CAROL)
    await world.say(ALICE, group)

    async def status() -> str:
        (only,) = (await world.history.chats(ALICE))["chats"]
        found: str = only["last_message_status"]
        return found

    assert await status() == "undelivered"
    await world.read(BOB, group)
    assert await status() == "unread"
    await world.read(CAROL, group)
    assert await status() == "read"


async def test_a_deleted_last_message_gives_way_to_the_one_before(world: World) -> None:
    chat = await world.pair()
    await world.say(ALICE, chat, "one")
    await world.say(ALICE, chat, "two")
    await world.updates.delete_message(ALICE, Kind.PERSONAL, chat, 2, "all")
    (entry,) = (await world.history.chats(BOB))["chats"]
    assert entry["last_message"]["content"]["text"] == "one"


async def test_each_like_toggles_and_is_told_once_to_everybody(world: World) -> None:
    group = await world.group(ALICE, BOB)
    first, second, third = [await world.likes.toggle(actor, group) for actor in (BOB, ALICE, BOB)]
    assert [(answer["liked"], answer["likes"]) for answer in (first, second, third)] == [
        (True, 1),
        (True, 2),
        (False, 1),
    ]
    told = await world.emitted()
    assert [record.brief for record in told] == [
        ("chat_liked", ["alice", "bob"]),
        ("chat_liked", ["alice", "bob"]),
        ("chat_unliked", ["alice", "bob"]),
    ]
    assert told[0].data == {"sender_id": "bob", "chat_id": str(group)}
    assert [(record.context["liked"], record.context["likes"]) for record in told] == [(True, 1), (True, 2), (False, 1)]
    (entry,) = (await world.history.chats(ALICE))["chats"]
    assert (entry["likes"], entry["liked"]) == (1, True)
    assert await code(world.likes.toggle(MALLORY, group), NotFound) == "chat_not_found"


async def test_two_likes_of_one_user_at_once_end_where_they_began(world: World) -> None:
    group = await world.group(ALICE, BOB)
    await asyncio.gather(*(world.likes.toggle(BOB, group) for _ in range(10)))
    told = [record.type for record in await world.emitted()]
    assert all(one != other for one, other in pairwise(told))
    assert len(told) == 10
    assert await world.database.pool.fetchval("SELECT count(*) FROM likes") == 0


async def test_a_blocked_chat_is_liked_by_nobody_until_it_is_open_again(world: World) -> None:
    chat = await world.pair()
    await world.likes.toggle(BOB, chat)
    await world.chats.block(ALICE, chat)
    await world.emitted()
    for actor in (ALICE, BOB):
        assert await code(world.likes.toggle(actor, chat), Forbidden) == "chat_blocked"
    assert await world.emitted() == []
    await world.chats.unblock(ALICE, chat)
    assert (await world.likes.toggle(ALICE, chat))["likes"] == 2


@pytest.mark.parametrize("remover", [ALICE, BOB])
async def test_a_like_goes_with_the_one_who_leaves_or_is_removed(world: World, remover: Actor) -> None:
    group = await world.group(ALICE, BOB)
    other = await world.group(ALICE, BOB)
    for chat in (group, other):
        await world.likes.toggle(ALICE, chat)
        await world.likes.toggle(BOB, chat)

    async def liked(actor: Actor) -> dict[str, tuple[int, bool]]:
        entries = (await world.history.chats(actor))["chats"]
        return {entry["chat_id"]: (entry["likes"], entry["liked"]) for entry in entries}

    state = await world.missed(ALICE)
    await world.groups.remove_member(remover, group, Kind.GROUP, "bob")
    assert await liked(ALICE) == {str(group): (1, True), str(other): (2, True)}
    (shown,) = (await world.missed(ALICE, state["next"]))["chats"]
    assert (shown["chat_id"], shown["likes"]) == (str(group), 1)
    await world.groups.add_member(ALICE, group, Kind.GROUP, "bob")
    assert await liked(BOB) == {str(group): (1, False), str(other): (2, True)}
    assert (await world.likes.toggle(BOB, group))["likes"] == 2


async def test_the_wire_decides_the_words(database: Database) -> None:
    world = World(database, Wire.CHAKCHAT)
    chat = await world.pair()
    said = await world.say(BOB, chat)
    (message,) = (await world.history.messages(ALICE, chat))["messages"]
    assert {name: message[name] for name in said} == said
    assert isinstance(message["created_at"], int)
