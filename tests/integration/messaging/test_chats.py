"""Chats of two people, the end of chats and reading them, on a real PostgreSQL."""

import asyncio
from uuid import UUID, uuid4

import pytest

from tests.integration.messaging.emitted import emitted, take_emitted
from tests.integration.messaging.outcomes import changed, code, id_of, outcomes
from tidings.errors import Conflict, Forbidden, InvalidInput, NotFound
from tidings.messaging.commands import Answer
from tidings.messaging.commands.chats import Chats
from tidings.messaging.commands.groups import Groups
from tidings.messaging.commands.messages import Messages
from tidings.messaging.domain.model import Actor, Kind
from tidings.messaging.store.database import Database
from tidings.messaging.store.unit import Unit
from tidings.messaging.wire import Wire

ALICE = Actor(id="alice", session="s-1")
BOB = Actor(id="bob")
MALLORY = Actor(id="mallory")


@pytest.fixture
def chats(database: Database) -> Chats:
    return Chats(database, Wire.SEED)


@pytest.fixture
def groups(database: Database) -> Groups:
    return Groups(database, Wire.SEED)


async def write(database: Database, chat: UUID, sender: str, *texts: str) -> list[int]:
    """Messages as rows; returns their update ids."""

    async def work(unit: Unit) -> list[int]:
        await unit.lock_chat(chat)
        ids = []
        for text in texts:
            update_id, message_no = await unit.connection.fetchrow(
                "UPDATE chats SET last_update_id = last_update_id + 1, last_message_no = last_message_no + 1,"
                " last_message_at = now(), changed = pg_current_xact_id()"
                " WHERE id = $1 RETURNING last_update_id, last_message_no",
                chat,
            )
            await unit.connection.execute(
                "INSERT INTO updates (chat_id, update_id, type, sender_id) VALUES ($1, $2, 'text_message', $3)",
                chat,
                update_id,
                sender,
            )
            await unit.connection.execute(
                "INSERT INTO messages (id, chat_id, update_id, message_no, sender_id, text)"
                " VALUES ($1, $2, $3, $4, $5, $6)",
                uuid4(),
                chat,
                update_id,
                message_no,
                sender,
                text,
            )
            ids.append(update_id)
        return ids

    return await database.run(work)


@pytest.mark.parametrize("secret", [False, True])
async def test_both_are_told_of_a_new_chat_and_the_caller_gets_the_same(
    database: Database, chats: Chats, woken: list[set[int]], secret: bool
) -> None:
    answer = await chats.create_personal(ALICE, "bob", secret=secret)
    assert answer["type"] == ("secret_personal" if secret else "personal")
    assert sorted(answer["members"]) == ["alice", "bob"]
    assert answer["info"] == ({"expiration": None} if secret else {"blocked_by": None})
    (record,) = await emitted(database)
    assert record.brief == ("chat_created", ["alice", "bob"])
    assert record.data == {"sender_id": "alice", "chat": answer}
    assert record.key == answer["chat_id"]
    assert record.context["actor"]["id"] == "alice"
    assert record.context["session"] == "s-1"
    assert {member["id"] for member in record.context["chat"]["members"]} == {"alice", "bob"}
    assert all(member["number"] for member in record.context["chat"]["members"])
    assert len(woken) == 1


async def test_times_are_seconds_in_the_words_of_chakchats_code(database: Database) -> None:
    answer = await Chats(database, Wire.CHAKCHAT).create_personal(ALICE, "bob")
    assert isinstance(answer["created_at"], int)
    (record,) = await emitted(database)
    assert record.data["chat"] == answer


async def test_two_people_have_one_chat_and_one_secret_one(database: Database, chats: Chats) -> None:
    await chats.create_personal(ALICE, "bob")
    await chats.create_personal(BOB, "alice", secret=True)
    await take_emitted(database)
    for actor, other in ((ALICE, "bob"), (BOB, "alice")):
        for secret in (False, True):
            refused = chats.create_personal(actor, other, secret=secret)
            assert await code(refused, Conflict) == "chat_already_exists"
    assert await emitted(database) == []
    assert await database.pool.fetchval("SELECT count(*) FROM members") == 4


async def test_of_many_who_begin_the_same_chat_at_once_one_wins(database: Database, chats: Chats) -> None:
    both = [chats.create_personal(*pair) for pair in ((ALICE, "bob"), (BOB, "alice")) for _ in range(8)]
    assert await outcomes(*both) == ["chat_already_exists"] * 15 + ["done"]
    assert await database.pool.fetchval("SELECT count(*) FROM chats") == 1
    assert len(await emitted(database)) == 1


async def test_many_who_name_the_same_unknown_people_do_not_block_each_other(
    database: Database, chats: Chats, groups: Groups
) -> None:
    people = [f"user-{number}" for number in range(30)]
    works = [
        groups.create(Actor(id=maker), "g", people if number % 2 else people[::-1])
        for number, maker in enumerate(people[:15])
    ]
    assert set(await outcomes(*works)) == {"done"}


@pytest.mark.parametrize("secret", [False, True])
async def test_nobody_begins_a_chat_with_itself(database: Database, chats: Chats, secret: bool) -> None:
    assert await code(chats.create_personal(ALICE, "alice", secret=secret), InvalidInput) == "chat_with_myself"
    assert await database.pool.fetchval("SELECT count(*) FROM users") == 0


@pytest.mark.parametrize("member", ["", "x" * 257, "a\0"])
async def test_a_chat_is_begun_with_a_user_only(chats: Chats, member: str) -> None:
    assert await code(chats.create_personal(ALICE, member), InvalidInput) == "validation_failed"


async def test_somebody_who_was_never_seen_can_be_written_to(database: Database, chats: Chats) -> None:
    await chats.create_personal(ALICE, "nobody yet")
    row = await database.pool.fetchrow("SELECT username, name, avatar FROM users WHERE id = 'nobody yet'")
    assert tuple(row) == ("", "", "")


async def test_a_chat_is_blocked_for_both_and_both_are_told(database: Database, chats: Chats) -> None:
    chat = id_of(await chats.create_personal(ALICE, "bob"))
    await take_emitted(database)
    before, members_before = await changed(database, chat)
    answer = await chats.block(ALICE, chat)
    assert answer["info"] == {"blocked_by": ["alice"]}
    assert await chats.get(BOB, chat) == answer
    (record,) = await take_emitted(database)
    assert record.brief == ("chat_blocked", ["alice", "bob"])
    assert record.data == {"sender_id": "alice", "chat_id": str(chat)}
    after, members_after = await changed(database, chat)
    assert after > before
    assert members_after["alice"] > members_before["alice"]
    answer = await chats.unblock(ALICE, chat)
    assert answer["info"] == {"blocked_by": None}
    (record,) = await take_emitted(database)
    assert record.brief == ("chat_unblocked", ["alice", "bob"])


async def test_both_may_block_and_each_takes_back_its_own(chats: Chats) -> None:
    chat = id_of(await chats.create_personal(ALICE, "bob"))
    assert await code(chats.unblock(ALICE, chat), Conflict) == "already_unblocked"
    await chats.block(ALICE, chat)
    assert await code(chats.block(ALICE, chat), Conflict) == "already_blocked"
    assert await code(chats.unblock(BOB, chat), Conflict) == "already_unblocked"
    both = await chats.block(BOB, chat)
    assert sorted(both["info"]["blocked_by"]) == ["alice", "bob"]
    assert (await chats.unblock(ALICE, chat))["info"]["blocked_by"] == ["bob"]


async def test_of_two_blocks_by_one_user_at_once_one_counts(database: Database, chats: Chats) -> None:
    chat = id_of(await chats.create_personal(ALICE, "bob"))
    await take_emitted(database)
    assert await outcomes(*(chats.block(ALICE, chat) for _ in range(6))) == ["already_blocked"] * 5 + ["done"]
    assert len(await take_emitted(database)) == 1
    assert await outcomes(*(chats.unblock(ALICE, chat) for _ in range(6))) == ["already_unblocked"] * 5 + ["done"]
    assert len(await take_emitted(database)) == 1


async def test_two_who_block_each_other_at_once_both_do(database: Database, chats: Chats) -> None:
    chat = id_of(await chats.create_personal(ALICE, "bob"))
    assert await outcomes(chats.block(ALICE, chat), chats.block(BOB, chat)) == ["done", "done"]
    assert sorted((await chats.get(ALICE, chat))["info"]["blocked_by"]) == ["alice", "bob"]


async def test_groups_and_secret_chats_cannot_be_blocked(chats: Chats, groups: Groups) -> None:
    for answer in (
        await chats.create_personal(ALICE, "bob", secret=True),
        await groups.create(ALICE, "g", ["alice", "bob"]),
        await groups.create(ALICE, "g", ["alice", "bob"], secret=True),
    ):
        assert await code(chats.block(ALICE, id_of(answer)), NotFound) == "chat_not_found"
        assert await code(chats.unblock(ALICE, id_of(answer)), NotFound) == "chat_not_found"


@pytest.mark.parametrize(("secret", "kind"), [(False, Kind.PERSONAL), (True, Kind.SECRET_PERSONAL)])
@pytest.mark.parametrize("actor", [ALICE, BOB])
async def test_either_one_ends_a_chat_and_both_are_told(
    database: Database, chats: Chats, secret: bool, kind: Kind, actor: Actor
) -> None:
    chat = id_of(await chats.create_personal(ALICE, "bob", secret=secret))
    await take_emitted(database)
    before, _ = await changed(database, chat)
    assert await chats.delete(actor, chat, kind) == {}
    (record,) = await emitted(database)
    assert record.brief == ("chat_deleted", ["alice", "bob"])
    assert record.data == {"sender_id": actor.id, "chat_id": str(chat)}
    for user in (ALICE, BOB):
        assert await code(chats.get(user, chat), NotFound) == "chat_not_found"
        assert (await chats.list_all(user))["chats"] == []
        assert await code(chats.delete(user, chat, kind), NotFound) == "chat_not_found"
    after, _ = await changed(database, chat)
    assert after > before


async def test_a_blocked_chat_can_be_ended(chats: Chats) -> None:
    chat = id_of(await chats.create_personal(ALICE, "bob"))
    await chats.block(ALICE, chat)
    await chats.delete(BOB, chat, Kind.PERSONAL)


async def test_a_blocked_chat_can_be_read(chats: Chats) -> None:
    chat = id_of(await chats.create_personal(ALICE, "bob"))
    await chats.block(ALICE, chat)
    assert (await chats.get(BOB, chat))["chat_id"] == str(chat)


async def test_two_who_ended_their_chat_may_begin_another(chats: Chats) -> None:
    first = id_of(await chats.create_personal(ALICE, "bob"))
    await chats.delete(ALICE, first, Kind.PERSONAL)
    second = id_of(await chats.create_personal(BOB, "alice"))
    assert second != first
    assert [chat["chat_id"] for chat in (await chats.list_all(ALICE))["chats"]] == [str(second)]


@pytest.mark.parametrize("ends", [ALICE, BOB])
@pytest.mark.parametrize(("begins", "with_"), [(ALICE, "bob"), (BOB, "alice")])
async def test_a_block_outlives_its_chat_whoever_ends_it_and_begins_anew(
    database: Database, chats: Chats, ends: Actor, begins: Actor, with_: str
) -> None:
    messages = Messages(database, Wire.SEED)
    chat = id_of(await chats.create_personal(ALICE, "bob"))
    await chats.block(ALICE, chat)
    for _ in range(2):
        await chats.delete(ends, chat, Kind.PERSONAL)
        await take_emitted(database)
        answer = await chats.create_personal(begins, with_)
        chat = id_of(answer)
        assert answer["info"] == {"blocked_by": ["alice"]}
        assert (await chats.get(BOB, chat))["info"] == {"blocked_by": ["alice"]}
        (record,) = await emitted(database)
        assert record.data["chat"]["info"] == {"blocked_by": ["alice"]}
        for actor in (ALICE, BOB):
            refused = messages.send_text(actor, Kind.PERSONAL, chat, "hi")
            assert await code(refused, Forbidden) == "chat_blocked"
    assert await code(chats.unblock(BOB, chat), Conflict) == "already_unblocked"
    await chats.unblock(ALICE, chat)
    await messages.send_text(BOB, Kind.PERSONAL, chat, "hi")
    await chats.delete(BOB, chat, Kind.PERSONAL)
    assert (await chats.create_personal(BOB, "alice"))["info"] == {"blocked_by": None}


async def test_both_blocks_outlive_the_chat_and_each_takes_back_its_own(chats: Chats) -> None:
    chat = id_of(await chats.create_personal(ALICE, "bob"))
    await chats.block(ALICE, chat)
    await chats.block(BOB, chat)
    await chats.delete(BOB, chat, Kind.PERSONAL)
    chat = id_of(await chats.create_personal(BOB, "alice"))
    assert (await chats.unblock(BOB, chat))["info"] == {"blocked_by": ["alice"]}
    await chats.delete(BOB, chat, Kind.PERSONAL)
    assert (await chats.create_personal(BOB, "alice"))["info"] == {"blocked_by": ["alice"]}


async def test_a_block_is_of_the_two_and_of_their_personal_chat_alone(chats: Chats, groups: Groups) -> None:
    chat = id_of(await chats.create_personal(ALICE, "bob"))
    await chats.block(ALICE, chat)
    await chats.delete(BOB, chat, Kind.PERSONAL)
    assert (await chats.create_personal(ALICE, "mallory"))["info"] == {"blocked_by": None}
    assert (await chats.create_personal(MALLORY, "bob"))["info"] == {"blocked_by": None}
    await groups.create(ALICE, "g", ["alice", "bob"])
    await chats.create_personal(BOB, "alice", secret=True)
    assert (await chats.create_personal(BOB, "alice"))["info"] == {"blocked_by": ["alice"]}


async def test_a_block_is_not_lost_between_two_who_end_begin_and_block_at_once(
    database: Database, chats: Chats
) -> None:
    for _ in range(10):
        chat = id_of(await chats.create_personal(ALICE, "bob"))
        works = (
            chats.block(ALICE, chat),
            chats.delete(BOB, chat, Kind.PERSONAL),
            *(chats.create_personal(BOB, "alice") for _ in range(3)),
        )
        blocked, *_ = await asyncio.gather(*works, return_exceptions=True)
        (left,) = (await chats.list_all(ALICE))["chats"] or [await chats.create_personal(BOB, "alice")]
        assert left["info"]["blocked_by"] == (None if isinstance(blocked, NotFound) else ["alice"])
        if left["info"]["blocked_by"]:
            await chats.unblock(ALICE, id_of(left))
        await chats.delete(ALICE, id_of(left), Kind.PERSONAL)
        assert await database.pool.fetchval("SELECT count(*) FROM blocks") == 0


async def test_of_two_who_end_a_chat_at_once_one_does(database: Database, chats: Chats) -> None:
    chat = id_of(await chats.create_personal(ALICE, "bob"))
    await take_emitted(database)
    ended = await outcomes(*(chats.delete(actor, chat, Kind.PERSONAL) for actor in (ALICE, BOB) * 3))
    assert ended == ["chat_not_found"] * 5 + ["done"]
    assert len(await emitted(database)) == 1


async def test_a_chat_that_ends_while_it_begins_anew_is_there_once_or_not_at_all(
    database: Database, chats: Chats
) -> None:
    for _ in range(10):
        first = id_of(await chats.create_personal(ALICE, "bob"))
        ended = await outcomes(chats.delete(ALICE, first, Kind.PERSONAL), chats.create_personal(BOB, "alice"))
        left = await database.pool.fetch("SELECT id FROM chats WHERE deleted_at IS NULL")
        assert len(left) == (1 if ended == ["done", "done"] else 0)
        for row in left:
            await chats.delete(ALICE, row["id"], Kind.PERSONAL)


async def test_a_chat_of_others_and_none_look_the_same(chats: Chats, groups: Groups) -> None:
    personal = id_of(await chats.create_personal(ALICE, "bob"))
    secret = id_of(await chats.create_personal(ALICE, "bob", secret=True))
    group = id_of(await groups.create(ALICE, "g", ["alice"]))
    for chat in (personal, secret, group, uuid4()):
        for work in (
            chats.get(MALLORY, chat),
            chats.block(MALLORY, chat),
            chats.unblock(MALLORY, chat),
            *(chats.delete(MALLORY, chat, kind) for kind in Kind),
        ):
            with pytest.raises(NotFound) as caught:
                await work
            assert (caught.value.code, caught.value.detail) == ("chat_not_found", "")


async def test_a_chat_is_ended_as_what_it_is(chats: Chats, groups: Groups) -> None:
    made = {
        Kind.PERSONAL: await chats.create_personal(ALICE, "bob"),
        Kind.SECRET_PERSONAL: await chats.create_personal(ALICE, "bob", secret=True),
        Kind.GROUP: await groups.create(ALICE, "g", ["alice"]),
        Kind.SECRET_GROUP: await groups.create(ALICE, "g", ["alice"], secret=True),
    }
    for kind, answer in made.items():
        for other in set(Kind) - {kind}:
            assert await code(chats.delete(ALICE, id_of(answer), other), NotFound) == "chat_not_found"
        assert await chats.delete(ALICE, id_of(answer), kind) == {}


@pytest.mark.parametrize(("secret", "kind"), [(False, Kind.GROUP), (True, Kind.SECRET_GROUP)])
async def test_only_its_admin_ends_a_group(
    database: Database, chats: Chats, groups: Groups, secret: bool, kind: Kind
) -> None:
    group = id_of(await groups.create(ALICE, "g", ["alice", "bob"], secret=secret))
    await take_emitted(database)
    assert await code(chats.delete(BOB, group, kind), Forbidden) == "sender_not_admin"
    assert await emitted(database) == []
    await chats.delete(ALICE, group, kind)
    (record,) = await emitted(database)
    assert record.brief == ("chat_deleted", ["alice", "bob"])


async def test_what_is_recorded_with_the_answer_stands_or_falls_with_the_work(database: Database, chats: Chats) -> None:
    seen: list[Answer] = []

    async def record(unit: Unit, answer: Answer) -> None:
        assert await unit.connection.fetchval("SELECT count(*) FROM chats") == 1
        seen.append(answer)

    async def refuse(unit: Unit, answer: Answer) -> None:
        raise RuntimeError("known already")

    with pytest.raises(RuntimeError):
        await chats.create_personal(ALICE, "bob", record=refuse)
    assert await emitted(database) == []
    answer = await chats.create_personal(ALICE, "bob", record=record)
    assert seen == [answer]
    chat = id_of(answer)
    for work in (chats.block(ALICE, chat, record=refuse), chats.delete(ALICE, chat, Kind.PERSONAL, record=refuse)):
        with pytest.raises(RuntimeError):
            await work
    assert await chats.get(ALICE, chat) == answer
    assert len(await emitted(database)) == 1


async def test_all_chats_of_a_user_the_newest_message_first(database: Database, chats: Chats, groups: Groups) -> None:
    group = id_of(await groups.create(ALICE, "g", ["alice", "carol"]))
    secret = id_of(await chats.create_personal(ALICE, "bob", secret=True))
    personal = id_of(await chats.create_personal(ALICE, "bob"))
    await groups.create(BOB, "others", ["bob"])
    await write(database, group, "carol", "hi")
    listed = await chats.list_all(ALICE)
    assert [chat["chat_id"] for chat in listed["chats"]] == [str(group), str(personal), str(secret)]
    for chat in listed["chats"]:
        assert chat == await chats.get(ALICE, UUID(chat["chat_id"]))
        assert "last_update_id" not in chat
        assert "update_preview" not in chat


async def test_the_last_update_id_is_told_when_asked_for_in_lists_too(database: Database, chats: Chats) -> None:
    chat = id_of(await chats.create_personal(ALICE, "bob"))
    assert (await chats.get(ALICE, chat, last_update_id=True))["last_update_id"] == 0
    await write(database, chat, "bob", "a", "b", "c")
    assert (await chats.get(ALICE, chat, last_update_id=True))["last_update_id"] == 3
    assert [each["last_update_id"] for each in (await chats.list_all(ALICE, last_update_id=True))["chats"]] == [3]


async def test_a_preview_is_the_last_messages_and_all_that_came_after_the_oldest_of_them(
    database: Database, chats: Chats, groups: Groups
) -> None:
    chat = id_of(await chats.create_personal(ALICE, "bob"))
    group = id_of(await groups.create(ALICE, "g", ["alice", "bob"]))
    quiet = id_of(await groups.create(ALICE, "quiet", ["alice"]))
    await write(database, chat, "bob", "1", "2")
    await groups.add_member(ALICE, group, Kind.GROUP, "carol")
    await write(database, group, "bob", "3")
    await groups.add_member(ALICE, group, Kind.GROUP, "dave")
    await write(database, group, "bob", "4")
    await groups.add_member(ALICE, group, Kind.GROUP, "erin")

    async def previews(asked: int) -> dict[UUID, list[tuple[int, str]]]:
        found = {}
        for listed in (await chats.list_all(ALICE, preview=asked))["chats"]:
            assert listed == await chats.get(ALICE, UUID(listed["chat_id"]), preview=asked)
            found[UUID(listed["chat_id"])] = [(one["update_id"], one["type"]) for one in listed["update_preview"]]
        return found

    text, log = "text_message", "action_log"
    assert await previews(0) == {chat: [], group: [], quiet: []}
    assert await previews(1) == {chat: [(2, text)], group: [(4, text), (5, log)], quiet: []}
    assert await previews(2) == {
        chat: [(1, text), (2, text)],
        group: [(2, text), (3, log), (4, text), (5, log)],
        quiet: [],
    }
    assert await previews(100) == await previews(2)


async def test_a_preview_does_not_show_what_is_deleted(database: Database, chats: Chats) -> None:
    chat = id_of(await chats.create_personal(ALICE, "bob"))
    await write(database, chat, "bob", "1", "2", "3", "4")
    await database.pool.execute("UPDATE updates SET deleted_at = now() WHERE update_id = 3")
    await database.pool.execute("INSERT INTO deletions (chat_id, update_id, user_id) VALUES ($1, 2, 'alice')", chat)

    async def shown(actor: Actor, messages: int) -> list[int]:
        return [each["update_id"] for each in (await chats.get(actor, chat, preview=messages))["update_preview"]]

    assert await shown(ALICE, 3) == [4]
    assert await shown(BOB, 3) == [2, 4]


@pytest.mark.parametrize("preview", [-1, 101])
async def test_a_preview_is_not_everything(chats: Chats, preview: int) -> None:
    assert await code(chats.get(ALICE, uuid4(), preview=preview), InvalidInput) == "invalid_query_param"
    assert await code(chats.list_all(ALICE, preview=preview), InvalidInput) == "invalid_query_param"


async def test_somebody_without_chats_has_an_empty_list(chats: Chats) -> None:
    assert await chats.list_all(MALLORY, last_update_id=True, preview=5) == {"chats": []}
