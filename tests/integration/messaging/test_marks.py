"""Delivered and read on a real PostgreSQL: cumulative, the first time kept, told to whom it matters."""

import asyncio
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.integration.messaging.outcomes import changed, code
from tests.integration.messaging.speaking import Speaking
from tests.integration.messaging.world import ALICE, BOB, CAROL, MALLORY, World
from tidings.errors import NotFound
from tidings.messaging.commands import Answer
from tidings.messaging.commands import marks as commands
from tidings.messaging.domain.entry import MarkKind
from tidings.messaging.domain.model import Kind
from tidings.messaging.store.database import Database
from tidings.messaging.wire import Wire

DELIVERED, READ = MarkKind.DELIVERED, MarkKind.READ


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


@pytest.fixture
async def pair(world: World) -> UUID:
    """alice wrote ten messages to bob; none of it is left in the outbox."""
    chat = await world.pair()
    for number in range(1, 11):
        await world.say(ALICE, chat, str(number), client_message_id=f"c{number}")
    await world.emitted()
    return chat


async def times(world: World, chat: UUID, user: str, kind: MarkKind) -> dict[int, datetime]:
    """When the user first marked each message."""
    rows = await world.database.pool.fetch(
        "SELECT n, (SELECT marked_at FROM marks WHERE chat_id = $1 AND user_id = $2 AND kind = $3"
        " AND from_no < n AND up_to_no >= n) AS at FROM generate_series(1, 20) n",
        chat,
        user,
        kind.value,
    )
    return {row["n"]: row["at"] for row in rows if row["at"] is not None}


async def test_a_mark_covers_all_before_it_and_later_ones_leave_its_time_alone(world: World, pair: UUID) -> None:
    five = await world.read(BOB, pair, 5)
    ten = await world.read(BOB, pair, 10)
    found = await times(world, pair, "bob", READ)
    assert len({found[number] for number in range(1, 6)}) == 1
    assert len({found[number] for number in range(6, 11)}) == 1
    assert found[5] < found[10]
    assert (five["unread"], ten["unread"]) == (5, 0)
    assert five["first_unread"]["message_no"] == 6
    assert five["first_unread"]["client_message_id"] == "c6"
    assert ten["first_unread"] is None


async def test_a_repeat_is_answered_with_the_first_time_and_told_to_nobody(world: World, pair: UUID) -> None:
    five = await world.read(BOB, pair, 5)
    ten = await world.read(BOB, pair, 10)
    assert [record.type for record in await world.emitted()] == ["marks_set"] * 2
    before = await changed(world.database, pair)
    for up_to, first in ((5, five), (3, five), (7, ten), (10, ten)):
        again = await world.read(BOB, pair, up_to)
        assert (again["marked_at"], again["up_to_message_no"]) == (first["marked_at"], up_to)
    assert await world.emitted() == []
    assert await changed(world.database, pair) == before


async def test_reading_implies_delivery_at_the_same_time_and_tells_read_only(world: World, pair: UUID) -> None:
    await world.marks.mark(BOB, pair, DELIVERED, 4)
    await world.read(BOB, pair, 8)
    delivered, read = await times(world, pair, "bob", DELIVERED), await times(world, pair, "bob", READ)
    assert delivered[4] < read[4]
    assert [delivered[number] for number in (5, 8)] == [read[number] for number in (5, 8)]
    assert [record.data["kind"] for record in await world.emitted()] == ["delivered", "read"]
    assert (await world.marks.mark(BOB, pair, DELIVERED, 8))["up_to_message_no"] == 8
    assert await world.emitted() == []


async def test_delivery_does_not_imply_reading(world: World, pair: UUID) -> None:
    answer = await world.marks.mark(BOB, pair, DELIVERED, 10)
    assert answer["unread"] == 10
    assert await times(world, pair, "bob", READ) == {}


async def test_ones_own_messages_are_answered_but_not_marked(world: World, pair: UUID) -> None:
    answer = await world.read(ALICE, pair, 10)
    assert (answer["marked_at"], answer["unread"]) == (None, 0)
    assert await world.emitted() == []
    assert await times(world, pair, "alice", READ) == {}


async def test_ones_own_message_has_no_time_also_once_a_later_one_was_read(world: World, pair: UUID) -> None:
    await world.say(BOB, pair, "answer")
    later = await world.read(ALICE, pair, 11)
    assert later["marked_at"] is not None
    for kind in (READ, DELIVERED):
        assert [(await world.marks.mark(ALICE, pair, kind, number))["marked_at"] for number in (1, 10)] == [None, None]
        assert (await world.marks.mark(ALICE, pair, kind, 11))["marked_at"] == later["marked_at"]


async def test_writing_implies_reading_what_was_before(world: World, pair: UUID) -> None:
    await world.read(BOB, pair, 2)
    said = await world.say(BOB, pair, "answer")
    found = await times(world, pair, "bob", READ)
    assert found[2] < found[3] == found[10]
    told = [record for record in await world.emitted() if record.type == "marks_set"]
    assert [record.data["up_to_message_no"] for record in told] == [2, 10]
    assert told[1].data["marked_at"] == said["created_at"]
    assert (await world.read(BOB, pair))["unread"] == 0
    assert (await world.read(ALICE, pair))["up_to_message_no"] == 11


async def test_unread_counts_what_others_wrote_since_one_read_or_wrote(world: World) -> None:
    chat = await world.pair()
    for actor in (ALICE, ALICE, ALICE, BOB, ALICE, ALICE):
        await world.say(actor, chat)
    assert (await world.marks.mark(BOB, chat, DELIVERED))["unread"] == 2
    assert (await world.marks.mark(ALICE, chat, DELIVERED))["unread"] == 0


async def test_an_empty_chat_has_nothing_to_mark(world: World) -> None:
    chat = await world.pair()
    answer = await world.read(BOB, chat)
    assert (answer["up_to_message_no"], answer["message_id"], answer["marked_at"], answer["unread"]) == (
        0,
        None,
        None,
        0,
    )
    assert await world.emitted() == []
    assert await code(world.read(BOB, chat, 1), NotFound) == "message_not_found"


async def test_a_message_is_named_by_its_uuid_its_update_or_a_later_one(world: World, pair: UUID) -> None:
    await world.updates.react(ALICE, Kind.PERSONAL, pair, 1, "heart")
    by_update = await world.read(BOB, pair, 11)  # the reaction
    assert by_update["up_to_message_no"] == 10
    by_uuid = await world.read(BOB, pair, UUID(by_update["message_id"]))
    assert by_uuid == by_update
    assert by_uuid["client_message_id"] == "c10"
    assert (await world.read(BOB, pair)) == by_update


async def test_what_is_not_there_cannot_be_marked(world: World, pair: UUID) -> None:
    foreign = await world.say(BOB, await world.pair(BOB, CAROL))
    other = await world.read(CAROL, UUID(foreign["chat_id"]))
    for up_to in (0, -1, 11, 1 << 62, uuid4(), UUID(other["message_id"])):
        assert await code(world.read(BOB, pair, up_to), NotFound) == "message_not_found", up_to
    assert await code(world.read(MALLORY, pair, 1), NotFound) == "chat_not_found"
    assert await code(world.read(BOB, uuid4(), 1), NotFound) == "chat_not_found"


async def test_members_are_told_and_each_author_of_its_own_newest_message(world: World) -> None:
    group = await world.group(ALICE, BOB, CAROL)
    await world.say(ALICE, group, client_message_id="a1")
    await world.say(CAROL, group, client_message_id="k1")
    await world.say(CAROL, group)
    await world.emitted()
    answer = await world.marks.mark(BOB, group, READ, 3)
    (record,) = await world.emitted()
    assert record.brief == ("marks_set", ["alice", "bob", "carol"])
    assert record.key == str(group)
    assert record.data == {name: answer[name] for name in record.data}
    assert set(record.data) == {
        "chat_id",
        "user_id",
        "kind",
        "up_to_message_no",
        "up_to_update_id",
        "marked_at",
    }
    told = record.context["receivers"]
    assert (told["alice"]["message_no"], told["alice"]["client_message_id"]) == (1, "a1")
    assert (told["carol"]["message_no"], told["carol"]["client_message_id"]) == (3, None)
    assert told["bob"]["missed"] == 0
    assert record.context["actor"]["id"] == "bob"


async def test_what_was_read_is_shown_whole_with_all_its_readers(world: World) -> None:
    """For clients that replace whole messages; the newest ten of what was read at once."""
    group = await world.group(ALICE, BOB, CAROL)
    for number in range(1, 13):
        await world.say(CAROL if number == 12 else ALICE, group, str(number))
    await world.read(CAROL, group, 5)
    await world.emitted()
    await world.read(BOB, group)
    (record,) = await world.emitted()
    shown = record.context["messages"]
    assert [message["message_no"] for message in shown] == list(range(3, 13))
    readers = {message["message_no"]: [reader["id"] for reader in message["readers"]] for message in shown}
    assert readers == {number: ["bob"] if number == 12 else ["carol", "bob"] for number in range(3, 13)}
    assert shown[0]["text"] == "3"
    assert shown[0]["readers"][1]["read_us"] == record.context["at_us"]
    await world.marks.mark(BOB, group, DELIVERED)
    await world.say(ALICE, group)
    await world.emitted()
    await world.marks.mark(BOB, group, DELIVERED)
    (record,) = await world.emitted()
    assert "messages" not in record.context


async def test_whatever_files_were_read_the_record_of_the_mark_fits(database: Database) -> None:
    people = Speaking(database)
    world = World(database)
    chat = await world.pair(ALICE, BOB)
    files: dict[UUID, dict[str, Any]] = {await people.file(ALICE, name="n" * 1_000): {} for _ in range(20)}
    await database.pool.execute("UPDATE files SET file_url = repeat('u', 4096)")
    for _ in range(10):
        await world.messages.send_text(ALICE, Kind.PERSONAL, chat, "hi", attachments=files)
    await world.emitted()
    assert (await world.read(BOB, chat))["unread"] == 0
    (record,) = await world.emitted()
    shown = [message["message_no"] for message in record.context["messages"]]
    assert shown == list(range(11 - len(shown), 11))
    assert 1 < len(shown) < 10


async def test_in_a_large_group_only_authors_and_the_marker_are_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "MAX_TOLD", 3)
    group = await world.group(ALICE, BOB, CAROL, MALLORY)
    await world.say(CAROL, group)
    await world.emitted()
    await world.read(BOB, group)
    (record,) = await world.emitted()
    assert record.brief == ("marks_set", ["bob", "carol"])


async def test_who_joins_has_nothing_unread(world: World) -> None:
    group = await world.group(ALICE, BOB)
    await world.say(ALICE, group)
    await world.groups.add_member(ALICE, group, Kind.GROUP, "carol")
    await world.emitted()
    assert (await world.read(CAROL, group))["unread"] == 0
    assert await world.emitted() == []
    await world.say(ALICE, group)
    assert (await world.marks.mark(CAROL, group, DELIVERED))["unread"] == 1


async def test_who_joined_later_has_not_read_what_was_written_before(world: World) -> None:
    group = await world.group(ALICE, BOB)
    for number in range(1, 4):
        await world.say(ALICE, group, str(number))
    await world.read(BOB, group, 2)
    await world.groups.add_member(ALICE, group, Kind.GROUP, "carol")
    later = await world.say(ALICE, group, "4")
    await world.read(CAROL, group)
    readers = {}
    for update_id in (1, 3, later["update_id"]):
        await world.emitted()
        await world.updates.edit_text(ALICE, Kind.GROUP, group, update_id, "edited")
        (record,) = await world.emitted()
        readers[update_id] = [reader["id"] for reader in record.context["message"]["readers"]]
    assert readers == {1: ["bob"], 3: [], later["update_id"]: ["carol"]}
    assert (await world.read(CAROL, group, 1))["marked_at"] is None


async def test_marks_at_once_cover_each_message_exactly_once(world: World, pair: UUID) -> None:
    await asyncio.gather(
        *(world.marks.mark(BOB, pair, kind, up_to) for up_to in range(1, 11) for kind in (READ, DELIVERED))
    )
    for kind in ("read", "delivered"):
        rows = await world.database.pool.fetch(
            "SELECT from_no, up_to_no FROM marks WHERE chat_id = $1 AND user_id = 'bob' AND kind = $2"
            " ORDER BY up_to_no",
            pair,
            kind,
        )
        covered = [number for row in rows for number in range(row["from_no"] + 1, row["up_to_no"] + 1)]
        assert covered == list(range(1, 11))
    told = [record.data for record in await world.emitted()]
    reads = [data["up_to_message_no"] for data in told if data["kind"] == "read"]
    assert reads == sorted(set(reads))
    assert reads[-1] == 10


@pytest.mark.parametrize("wire", list(Wire))
async def test_the_time_is_written_as_the_wire_does(database: Database, wire: Wire) -> None:
    world = World(database, wire)
    chat = await world.pair()
    await world.say(ALICE, chat)
    answer = await world.read(BOB, chat)
    assert isinstance(answer["marked_at"], int) == (wire is Wire.CHAKCHAT)


async def test_the_answer_is_recorded_in_the_same_transaction(world: World, pair: UUID) -> None:
    seen: list[Any] = []

    async def refuse(unit: object, answer: Answer) -> None:
        seen.append(answer)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        await world.marks.mark(BOB, pair, READ, 5, record=refuse)
    assert seen[0]["up_to_message_no"] == 5
    assert await times(world, pair, "bob", READ) == {}
    assert await world.emitted() == []
