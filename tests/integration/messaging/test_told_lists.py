"""What edges need to show a chat in each receiver's list: told with what changes a chat, at the price of one read."""

from typing import Any
from uuid import UUID

import pytest

from tests.integration.messaging.emitted import Emitted
from tests.integration.messaging.listening import listening
from tests.integration.messaging.speaking import Speaking
from tests.integration.messaging.world import ALICE, BOB, CAROL, World
from tidings.messaging import context as contexts
from tidings.messaging.domain.entry import MarkKind
from tidings.messaging.domain.model import Kind
from tidings.messaging.store import messages as store
from tidings.messaging.store.database import Database


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


@pytest.fixture
async def group(world: World) -> UUID:
    """alice wrote two messages; bob has read one, carol has received both. Nothing of it is left in the outbox."""
    chat = await world.group(ALICE, BOB, CAROL)
    for text in ("one", "two"):
        await world.say(ALICE, chat, text, client_message_id=text)
    await world.read(BOB, chat, 1)
    await world.marks.mark(CAROL, chat, MarkKind.DELIVERED, 2)
    await world.emitted()
    return chat


async def rename(world: World, chat: UUID, kind: Kind = Kind.GROUP) -> Emitted:
    await world.groups.set_info(ALICE, chat, kind, "new name", "")
    (record,) = await told(world, "group_info_updated")
    return record


async def told(world: World, *types: str) -> list[Emitted]:
    return [record for record in await world.emitted() if record.type in types]


async def test_a_change_of_a_group_shows_its_last_message_and_what_each_has_not_read(world: World, group: UUID) -> None:
    context = (await rename(world, group)).context
    assert context["receivers"] == {
        "alice": {"missed": 0, "status": "unread"},
        "bob": {"missed": 1, "status": "undelivered"},
        "carol": {"missed": 2, "status": "unread"},
    }
    last = context["last_message"]
    assert (last["message_no"], last["update_id"], last["text"]) == (2, 2, "two")
    assert (last["client_message_id"], last["sender"]["id"]) == ("two", "alice")
    for number in (last["number"], last["sender"]["number"], last["created_us"]):
        assert isinstance(number, int)
    await world.read(BOB, group)
    await world.read(CAROL, group)
    assert {each["status"] for each in (await rename(world, group)).context["receivers"].values()} == {"read"}


async def test_a_new_chat_has_no_last_message_and_nothing_unread(world: World) -> None:
    await world.groups.create(ALICE, "g", ["alice", "bob"])
    await world.chats.create_personal(ALICE, "bob")
    for record in await told(world, "chat_created"):
        assert record.context["receivers"] == {"alice": {"missed": 0}, "bob": {"missed": 0}}
        assert record.context["last_message"] is None


async def test_who_comes_and_who_goes_changes_what_those_who_are_told_need(world: World, group: UUID) -> None:
    await world.groups.add_member(ALICE, group, Kind.GROUP, "dora")
    created, added = await told(world, "chat_created", "group_members_added")
    assert created.context["receivers"] == {"dora": {"missed": 0, "status": "read"}}
    assert set(added.context["receivers"]) == {"alice", "bob", "carol"}
    assert created.context["last_message"] == added.context["last_message"]
    assert added.context["last_message"]["text"] == "two"
    await world.groups.remove_member(ALICE, group, Kind.GROUP, "carol")
    (removed,) = await told(world, "group_members_removed")
    assert "carol" in removed.receivers
    assert set(removed.context["receivers"]) == {"alice", "bob", "dora"}
    assert removed.context["last_message"]["text"] == "two"


async def test_after_a_deletion_the_message_before_is_the_last_one(world: World, group: UUID) -> None:
    await world.updates.delete_message(ALICE, Kind.GROUP, group, 2, "all")
    (record,) = await world.emitted()
    assert record.context["last_message"]["text"] == "one"
    assert record.context["receivers"]["bob"] == {"missed": 1, "status": "read"}
    await world.updates.delete_message(ALICE, Kind.GROUP, group, 1, "all")
    (record,) = await world.emitted()
    assert record.context["last_message"] is None
    assert record.context["receivers"]["bob"] == {"missed": 1}


async def test_what_one_deleted_for_itself_is_its_last_message_no_more(world: World, group: UUID) -> None:
    await world.updates.delete_message(BOB, Kind.GROUP, group, 2, "only_me")
    (record,) = await world.emitted()
    assert record.context["last_message"]["text"] == "one"
    assert record.context["receivers"] == {"bob": {"missed": 1, "status": "read"}}
    context = (await rename(world, group)).context
    assert context["last_message"]["text"] == "two"
    assert context["receivers"]["bob"] == {"missed": 1, "last_hidden": True}
    assert context["receivers"]["carol"] == {"missed": 2, "status": "unread"}


async def test_deleting_a_reaction_changes_no_list(world: World, group: UUID) -> None:
    reaction = await world.updates.react(BOB, Kind.GROUP, group, 2, "heart")
    await world.updates.delete_reaction(BOB, Kind.GROUP, group, reaction["update_id"])
    for record in await world.emitted():
        assert not {"last_message", "receivers"} & set(record.context)


async def test_who_has_read_is_told_what_the_chat_shows_now(world: World, group: UUID) -> None:
    await world.say(ALICE, group, "three")
    await world.emitted()
    for up_to, missed in ((2, 1), (None, 0)):
        await world.read(BOB, group, up_to)
        (record,) = await world.emitted()
        own = record.context["receivers"]["bob"]
        assert (own["missed"], own["last_message"]["text"]) == (missed, "three"), up_to
    assert record.context["messages"][-1]["text"] == own["last_message"]["text"]
    await world.marks.mark(CAROL, group, MarkKind.DELIVERED)
    (record,) = await world.emitted()
    assert "last_message" not in record.context["receivers"]["carol"]


async def test_the_oldest_unread_is_named_to_who_has_read(world: World, group: UUID) -> None:
    await world.read(CAROL, group, 1)
    (record,) = await world.emitted()
    assert record.context["receivers"]["carol"].items() >= {"missed": 1, "first_missed_no": 2}.items()
    assert record.context["names"] == {"2": "two"}


async def test_what_is_written_in_secret_chats_is_shown_in_no_list(database: Database) -> None:
    people = Speaking(database)
    world = World(database)
    chat = await people.group(ALICE, BOB, secret=True)
    await people.whisper(ALICE, chat, Kind.SECRET_GROUP)
    await world.emitted()
    context = (await rename(world, chat, Kind.SECRET_GROUP)).context
    assert context["receivers"] == {"alice": {"missed": 0}, "bob": {"missed": 1}}
    assert "last_message" not in context


async def test_a_large_group_says_nothing_about_single_receivers(
    world: World, group: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contexts, "MAX_LISTED_MEMBERS", 2)
    context = (await rename(world, group)).context
    assert "receivers" not in context
    assert context["last_message"]["text"] == "two"


async def test_among_very_many_deleted_messages_no_last_one_is_looked_for(
    world: World, group: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "LOOK_BACK", 1)
    await world.updates.delete_message(ALICE, Kind.GROUP, group, 2, "all")
    (record,) = await world.emitted()
    assert record.context["last_message"] is None


async def test_a_change_costs_one_read_more_and_a_new_chat_none(database: Database, world: World, group: UUID) -> None:
    async with listening(database.pool) as statements:
        inside = World(statements.database)
        ways: dict[str, Any] = {
            "info": lambda: inside.groups.set_info(ALICE, group, Kind.GROUP, "n", "d"),
            "come": lambda: inside.groups.add_member(ALICE, group, Kind.GROUP, "dora"),
            "go": lambda: inside.groups.remove_member(ALICE, group, Kind.GROUP, "dora"),
            "delete": lambda: inside.updates.delete_message(ALICE, Kind.GROUP, group, 2, "all"),
            "new": lambda: inside.groups.create(ALICE, "h", ["alice", "bob"]),
            "read": lambda: inside.read(CAROL, group),
        }
        found = {}
        for name, way in ways.items():
            statements.sent.clear()
            await way()
            found[name] = sum("hidden_from" in query for query, _ in statements.sent)
    assert found == {"info": 1, "come": 1, "go": 1, "delete": 1, "new": 0, "read": 1}
