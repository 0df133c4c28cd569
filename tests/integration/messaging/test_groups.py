"""Groups and secret chats on a real PostgreSQL."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.integration.messaging.emitted import Emitted, emitted, take_emitted
from tests.integration.messaging.outcomes import changed, code, id_of, outcomes
from tidings.errors import Conflict, Forbidden, InvalidInput, NotFound
from tidings.messaging.commands import Answer
from tidings.messaging.commands.chats import Chats
from tidings.messaging.commands.files import Files
from tidings.messaging.commands.groups import Groups
from tidings.messaging.commands.secrets import Secrets
from tidings.messaging.commands.sync import Sync
from tidings.messaging.commands.updates import Updates
from tidings.messaging.domain.limits import MAX_MEMBERS_BYTES
from tidings.messaging.domain.model import Actor, Kind
from tidings.messaging.store.database import Database
from tidings.messaging.store.unit import Unit
from tidings.messaging.wire import Wire

ALICE = Actor(id="alice", session="s-1")
BOB = Actor(id="bob")
CAROL = Actor(id="carol")
MALLORY = Actor(id="mallory")
SECRETS = (Kind.SECRET_PERSONAL, Kind.SECRET_GROUP)
HOUR_NS = 3600 * 10**9


@pytest.fixture
def chats(database: Database) -> Chats:
    return Chats(database, Wire.SEED)


@pytest.fixture
def groups(database: Database) -> Groups:
    return Groups(database, Wire.SEED)


@pytest.fixture
def secrets(database: Database) -> Secrets:
    return Secrets(database, Wire.SEED)


@pytest.fixture
def files(database: Database) -> Files:
    return Files(database, Wire.SEED)


@pytest.fixture(params=[Kind.GROUP, Kind.SECRET_GROUP])
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture
async def group(database: Database, groups: Groups, kind: Kind) -> UUID:
    """Of alice, its admin, and bob; its creation is no longer in the outbox."""
    made = id_of(await groups.create(ALICE, "g", ["alice", "bob"], secret=kind.is_secret))
    await take_emitted(database)
    return made


async def file_of(files: Files, owner: Actor, *, mime_type: str = "image/png", size: int = 2 << 20) -> UUID:
    file = uuid4()
    url = f"https://files.example/{file}"
    await files.put(owner, file, file_name="p.png", mime_type=mime_type, file_size=size, file_url=url)
    return file


def briefs(records: list[Emitted]) -> list[tuple[str, list[str]]]:
    return [record.brief for record in records]


def log_of(record: Emitted) -> Any:
    assert record.type == "update"
    assert record.data["type"] == "action_log"
    return record.data["update_id"], record.data["sender_id"], record.data["content"]


async def test_all_members_are_told_of_a_new_group(database: Database, groups: Groups, kind: Kind) -> None:
    answer = await groups.create(ALICE, "héllo", ["bob", "alice", "bob", "carol"], secret=kind.is_secret)
    assert answer["type"] == kind.value
    assert sorted(answer["members"]) == ["alice", "bob", "carol"]
    info = {"admin_id": "alice", "name": "héllo", "description": "", "group_photo": None}
    assert answer["info"] == (info | {"expiration": None} if kind.is_secret else info)
    (record,) = await emitted(database)
    assert record.brief == ("chat_created", ["alice", "bob", "carol"])
    assert record.data == {"sender_id": "alice", "chat": answer}
    assert "members" not in record.context["chat"]
    assert record.context["session"] == "s-1"


async def test_a_group_may_begin_with_a_description_and_a_room(database: Database, groups: Groups) -> None:
    answer = await groups.create(ALICE, "g", ["alice"], description="about", room="kitchen")
    assert answer["info"]["description"] == "about"
    (record,) = await emitted(database)
    assert record.context["chat"]["room"] == "kitchen"


async def test_a_missing_photo_is_an_empty_string_in_the_words_of_chakchats_code(database: Database) -> None:
    answer = await Groups(database, Wire.CHAKCHAT).create(ALICE, "g", ["alice"])
    assert answer["info"]["group_photo"] == ""


async def test_a_group_of_5001_is_told_in_records_with_disjoint_receivers(database: Database, groups: Groups) -> None:
    people = [f"user-{number}" for number in range(5_000)]
    await groups.create(ALICE, "g", ["alice", *people])
    records = await emitted(database)
    assert [record.type for record in records] == ["chat_created"] * 2
    receivers = [receiver for record in records for receiver in record.receivers]
    assert sorted(receivers) == sorted(["alice", *people])
    assert max(len(record.receivers) for record in records) <= 5_000
    ids = [row["event_id"] for row in await database.pool.fetch("SELECT event_id FROM outbox")]
    assert len(set(ids)) == 2


async def test_the_largest_group_can_be_made_changed_joined_and_left(database: Database, groups: Groups) -> None:
    people = [str(UUID(int=number)) for number in range(MAX_MEMBERS_BYTES // 39 - 1)]
    admin = Actor(id=people[0], name="é" * 256, avatar="x" * 4_096)
    group = id_of(await groups.create(admin, "é" * 25, people, description="é" * 150, room="r" * 256))
    await groups.remove_member(admin, group, Kind.GROUP, people[1])
    await groups.add_member(admin, group, Kind.GROUP, people[1])
    refused = groups.add_member(admin, group, Kind.GROUP, "x" * 99)
    assert await code(refused, InvalidInput) == "too_many_members"
    told: dict[str, int] = {}
    for record in await emitted(database):
        told[record.type] = told.get(record.type, 0) + len(record.receivers)
    everyone = len(people)
    assert told == {
        "chat_created": everyone + 1,
        "group_members_removed": everyone,
        "group_members_added": everyone - 1,
        "update": 2 * everyone - 1,
    }


@pytest.mark.parametrize(
    ("name", "members", "description", "error", "refusal"),
    [
        ("", ["alice"], "", InvalidInput, "group_name_empty"),
        ("é" * 26, ["alice"], "", InvalidInput, "group_name_too_long"),
        ("g", ["alice"], "é" * 151, InvalidInput, "group_description_too_long"),
        ("g", ["bob"], "", Forbidden, "admin_not_member"),
        ("g", [], "", Forbidden, "admin_not_member"),
        ("g", ["alice", ""], "", InvalidInput, "validation_failed"),
        ("g\0", ["alice"], "", InvalidInput, "validation_failed"),
        ("g", ["alice", *(f"{number:036}" for number in range(21_000))], "", InvalidInput, "too_many_members"),
    ],
)
async def test_a_group_that_breaks_a_rule_is_not_made(
    database: Database, groups: Groups, name: str, members: list[str], description: str, error: Any, refusal: str
) -> None:
    for secret in (False, True):
        made = groups.create(ALICE, name, members, description=description, secret=secret)
        assert await code(made, error) == refusal
    assert await database.pool.fetchval("SELECT count(*) FROM chats") == 0


async def test_all_are_told_the_new_name_and_then_read_of_it(
    database: Database, chats: Chats, groups: Groups, group: UUID, kind: Kind
) -> None:
    answer = await groups.set_info(ALICE, group, kind, "new", "about")
    told, logged = await take_emitted(database)
    assert told.brief == ("group_info_updated", ["alice", "bob"])
    assert told.data == {
        "sender_id": "alice",
        "chat_id": str(group),
        "name": "new",
        "description": "about",
        "group_photo": "",
    }
    assert logged.receivers == told.receivers
    assert log_of(logged) == (1, "alice", {"action": "renamed", "name": "new"})
    assert await chats.get(BOB, group) == answer
    assert (answer["info"]["name"], answer["info"]["description"]) == ("new", "about")
    assert (await chats.get(BOB, group, last_update_id=True))["last_update_id"] == 1


async def test_what_is_told_of_an_action_is_what_is_read_of_it_later(
    database: Database, groups: Groups, group: UUID, kind: Kind
) -> None:
    await groups.set_info(ALICE, group, kind, "new", "about")
    _, logged = await take_emitted(database)
    read = await Updates(database, Wire.SEED).read(BOB, group, 1, 1)
    assert read["updates"] == [logged.data], "its time too"


async def test_a_new_description_alone_is_no_renaming(
    database: Database, groups: Groups, group: UUID, kind: Kind
) -> None:
    before, _ = await changed(database, group)
    await groups.set_info(ALICE, group, kind, "g", "about")
    (told,) = await emitted(database)
    assert told.type == "group_info_updated"
    after, _ = await changed(database, group)
    assert after > before


async def test_both_name_and_description_are_replaced(chats: Chats, groups: Groups, group: UUID, kind: Kind) -> None:
    await groups.set_info(ALICE, group, kind, "a", "about")
    assert (await groups.set_info(ALICE, group, kind, "b", ""))["info"]["description"] == ""


@pytest.mark.parametrize(
    ("name", "description", "refusal"),
    [
        ("", "", "group_name_empty"),
        ("x" * 51, "", "group_name_too_long"),
        ("é" * 26, "", "group_name_too_long"),
        ("g", "x" * 301, "group_description_too_long"),
    ],
)
async def test_a_name_that_breaks_a_rule_changes_nothing(
    database: Database, chats: Chats, groups: Groups, group: UUID, kind: Kind, name: str, description: str, refusal: str
) -> None:
    assert await code(groups.set_info(ALICE, group, kind, name, description), InvalidInput) == refusal
    assert (await chats.get(ALICE, group))["info"]["name"] == "g"
    assert await emitted(database) == []


async def test_a_newcomer_is_shown_the_chat_the_others_who_came_and_all_read_of_it(
    database: Database, chats: Chats, groups: Groups, group: UUID, kind: Kind
) -> None:
    answer = await groups.add_member(ALICE, group, kind, "carol")
    assert answer["members"] == ["alice", "bob", "carol"]
    shown, told, logged = await take_emitted(database)
    assert shown.brief == ("chat_created", ["carol"])
    assert shown.data == {"sender_id": "alice", "chat": answer}
    assert told.brief == ("group_members_added", ["alice", "bob"])
    assert told.data == {"sender_id": "alice", "chat_id": str(group), "members": ["carol"]}
    assert logged.brief == ("update", ["alice", "bob", "carol"])
    assert log_of(logged) == (1, "alice", {"action": "joined", "users": ["carol"]})
    assert await chats.get(CAROL, group) == answer


async def test_what_was_written_before_somebody_came_is_not_unread(
    database: Database, groups: Groups, group: UUID, kind: Kind
) -> None:
    await database.pool.execute("UPDATE chats SET last_message_no = 7 WHERE id = $1", group)
    await groups.add_member(ALICE, group, kind, "carol")
    row = await database.pool.fetchrow("SELECT read_no, delivered_no FROM members WHERE user_id = 'carol'")
    assert tuple(row) == (7, 7)


async def test_what_was_written_while_somebody_was_away_is_not_unread(
    database: Database, groups: Groups, group: UUID, kind: Kind
) -> None:
    await groups.remove_member(BOB, group, kind, "bob")
    await database.pool.execute("UPDATE chats SET last_message_no = 7 WHERE id = $1", group)
    await groups.add_member(ALICE, group, kind, "bob")
    row = await database.pool.fetchrow("SELECT read_no, delivered_no FROM members WHERE user_id = 'bob'")
    assert tuple(row) == (7, 7)


async def test_who_is_removed_is_told_and_the_others_read_of_it(
    database: Database, chats: Chats, groups: Groups, group: UUID, kind: Kind
) -> None:
    _, members_before = await changed(database, group)
    answer = await groups.remove_member(ALICE, group, kind, "bob")
    assert answer["members"] == ["alice"]
    told, logged = await emitted(database)
    assert told.brief == ("group_members_removed", ["alice", "bob"])
    assert told.data == {"sender_id": "alice", "chat_id": str(group), "members": ["bob"]}
    assert logged.brief == ("update", ["alice"])
    assert log_of(logged) == (1, "alice", {"action": "removed", "users": ["bob"]})
    assert await code(chats.get(BOB, group), NotFound) == "chat_not_found"
    _, members_after = await changed(database, group)
    assert members_after["bob"] > members_before["bob"]


async def test_a_member_may_leave_and_its_other_devices_are_told(
    database: Database, chats: Chats, groups: Groups, group: UUID, kind: Kind
) -> None:
    await groups.remove_member(BOB, group, kind, "bob")
    told, logged = await emitted(database)
    assert told.brief == ("group_members_removed", ["alice", "bob"])
    assert told.data["sender_id"] == "bob"
    assert told.context["actor"]["id"] == "bob"
    assert log_of(logged) == (1, "bob", {"action": "left", "users": ["bob"]})
    assert (await chats.list_all(BOB))["chats"] == []


async def test_who_left_may_be_added_again(database: Database, chats: Chats, groups: Groups, group: UUID) -> None:
    kind = Kind((await chats.get(ALICE, group))["type"])
    await groups.remove_member(BOB, group, kind, "bob")
    _, before = await changed(database, group)
    await take_emitted(database)
    await groups.add_member(ALICE, group, kind, "bob")
    assert briefs(await emitted(database)) == [
        ("chat_created", ["bob"]),
        ("group_members_added", ["alice"]),
        ("update", ["alice", "bob"]),
    ]
    _, after = await changed(database, group)
    assert after["bob"] > before["bob"]
    assert (await chats.get(BOB, group))["members"] == ["alice", "bob"]


async def test_only_the_admin_adds_and_removes(database: Database, groups: Groups, group: UUID, kind: Kind) -> None:
    await groups.add_member(ALICE, group, kind, "carol")
    await take_emitted(database)
    for user in ("carol", "alice", "mallory"):
        assert await code(groups.remove_member(BOB, group, kind, user), Forbidden) == "sender_not_admin"
        assert await code(groups.add_member(BOB, group, kind, user), Forbidden) == "sender_not_admin"
    assert await emitted(database) == []


async def test_only_the_admin_changes_the_name_and_the_photo(
    groups: Groups, files: Files, group: UUID, kind: Kind
) -> None:
    photo = await file_of(files, BOB)
    assert await code(groups.set_info(BOB, group, kind, "mine", ""), Forbidden) == "sender_not_admin"
    assert await code(groups.set_photo(BOB, group, kind, photo), Forbidden) == "sender_not_admin"
    assert await code(groups.delete_photo(BOB, group, kind), Forbidden) == "sender_not_admin"


async def test_a_member_is_not_added_twice(groups: Groups, group: UUID, kind: Kind) -> None:
    for user in ("alice", "bob"):
        assert await code(groups.add_member(ALICE, group, kind, user), Conflict) == "user_already_member"


async def test_only_a_user_is_added(groups: Groups, group: UUID, kind: Kind) -> None:
    for user in ("", "x" * 257, "\0"):
        assert await code(groups.add_member(ALICE, group, kind, user), InvalidInput) == "validation_failed"


async def test_who_is_no_member_is_not_removed(groups: Groups, group: UUID, kind: Kind) -> None:
    assert await code(groups.remove_member(ALICE, group, kind, "carol"), Forbidden) == "user_not_member"
    await groups.remove_member(ALICE, group, kind, "bob")
    assert await code(groups.remove_member(ALICE, group, kind, "bob"), Forbidden) == "user_not_member"


async def test_the_admin_stays_also_as_the_last_one(groups: Groups, group: UUID, kind: Kind) -> None:
    assert await code(groups.remove_member(ALICE, group, kind, "alice"), Forbidden) == "member_is_admin"
    assert await code(groups.remove_member(BOB, group, kind, "alice"), Forbidden) == "sender_not_admin"
    await groups.remove_member(BOB, group, kind, "bob")
    assert await code(groups.remove_member(ALICE, group, kind, "alice"), Forbidden) == "member_is_admin"


async def test_who_left_knows_no_more_than_a_stranger(
    database: Database, chats: Chats, groups: Groups, files: Files, group: UUID, kind: Kind
) -> None:
    sync = Sync(database, Wire.SEED)
    await groups.remove_member(BOB, group, kind, "bob")
    since = {actor.id: (await sync.read(actor))["next"] for actor in (ALICE, BOB, MALLORY)}
    for actor in (BOB, MALLORY):
        for chat in (group, uuid4()):
            for work in (
                chats.get(actor, chat),
                groups.set_info(actor, chat, kind, "x" * 99, ""),
                groups.add_member(actor, chat, kind, "alice"),
                groups.add_member(actor, chat, kind, actor.id),
                groups.remove_member(actor, chat, kind, actor.id),
                groups.remove_member(actor, chat, kind, "alice"),
                groups.set_photo(actor, chat, kind, uuid4()),
                groups.delete_photo(actor, chat, kind),
                chats.delete(actor, chat, kind),
            ):
                assert await code(work, NotFound) == "chat_not_found"
    await groups.set_info(ALICE, group, kind, "news", "")
    await chats.delete(ALICE, group, kind)
    removed = {user: (await sync.read(Actor(id=user), token))["removed"] for user, token in since.items()}
    assert removed == {"alice": [str(group)], "bob": [], "mallory": []}


async def test_a_group_is_changed_as_what_it_is(groups: Groups, group: UUID, kind: Kind) -> None:
    other = Kind.GROUP if kind is Kind.SECRET_GROUP else Kind.SECRET_GROUP
    for work in (
        groups.set_info(ALICE, group, other, "x", ""),
        groups.add_member(ALICE, group, other, "carol"),
        groups.remove_member(ALICE, group, other, "bob"),
        groups.set_photo(ALICE, group, other, uuid4()),
        groups.delete_photo(ALICE, group, other),
    ):
        assert await code(work, NotFound) == "chat_not_found"


async def test_of_many_who_add_one_user_at_once_one_does(
    database: Database, groups: Groups, group: UUID, kind: Kind
) -> None:
    added = await outcomes(*(groups.add_member(ALICE, group, kind, "carol") for _ in range(6)))
    assert added == ["done"] + ["user_already_member"] * 5
    assert len(await emitted(database)) == 3


async def test_who_leaves_while_being_removed_goes_once(
    database: Database, groups: Groups, group: UUID, kind: Kind
) -> None:
    gone = await outcomes(
        groups.remove_member(ALICE, group, kind, "bob"), groups.remove_member(BOB, group, kind, "bob")
    )
    assert gone in (["chat_not_found", "done"], ["done", "user_not_member"])
    assert briefs(await emitted(database)) == [("group_members_removed", ["alice", "bob"]), ("update", ["alice"])]


async def test_people_who_come_and_go_at_once_leave_numbers_without_a_gap_and_a_true_list(
    database: Database, chats: Chats, groups: Groups, group: UUID, kind: Kind
) -> None:
    people = [f"user-{number}" for number in range(20)]
    await asyncio.gather(*(groups.add_member(ALICE, group, kind, user) for user in people))
    await asyncio.gather(
        *(groups.remove_member(ALICE, group, kind, user) for user in people[:5]),
        *(groups.remove_member(Actor(id=user), group, kind, user) for user in people[5:10]),
        *(groups.add_member(ALICE, group, kind, f"late-{number}") for number in range(5)),
    )
    answer = await chats.get(ALICE, group, last_update_id=True)
    assert set(answer["members"]) == {"alice", "bob", *people[10:], *(f"late-{number}" for number in range(5))}
    records = await emitted(database)
    assert [log_of(record)[0] for record in records if record.type == "update"] == list(range(1, 36))
    assert answer["last_update_id"] == 35
    members = {"alice", "bob"}
    for record in records:  # every record's receivers are those who were members at its place in the order
        match record.type:
            case "group_members_added":
                assert set(record.receivers) == members
                members |= set(record.data["members"])
            case "group_members_removed":
                assert set(record.receivers) == members
                members -= set(record.data["members"])
            case "update":
                assert set(record.receivers) == members


async def test_a_change_while_the_group_ends_is_made_before_the_end_or_not_at_all(
    database: Database, chats: Chats, groups: Groups, group: UUID, kind: Kind
) -> None:
    works = [groups.add_member(ALICE, group, kind, f"user-{number}") for number in range(5)]
    done = await outcomes(chats.delete(ALICE, group, kind), *works)
    assert set(done) <= {"chat_not_found", "done"}
    records = await emitted(database)
    assert records[-1].type == "chat_deleted"
    assert len(records) == 1 + 3 * (done.count("done") - 1)


async def test_a_file_of_the_admin_becomes_the_photo_and_all_are_told(
    database: Database, chats: Chats, groups: Groups, files: Files, group: UUID, kind: Kind
) -> None:
    photo = await file_of(files, ALICE)
    url = f"https://files.example/{photo}"
    answer = await groups.set_photo(ALICE, group, kind, photo)
    assert answer["info"]["group_photo"] == url
    (told,) = await take_emitted(database)
    assert told.brief == ("group_info_updated", ["alice", "bob"])
    assert (told.data["sender_id"], told.data["name"], told.data["group_photo"]) == ("alice", "g", url)
    assert await chats.get(BOB, group) == answer
    answer = await groups.delete_photo(ALICE, group, kind)
    assert answer["info"]["group_photo"] is None
    (told,) = await take_emitted(database)
    assert told.brief == ("group_info_updated", ["alice", "bob"])
    assert (told.data["sender_id"], told.data["group_photo"]) == ("alice", "")


async def test_where_there_is_no_photo_none_is_taken_away(groups: Groups, group: UUID, kind: Kind) -> None:
    assert await code(groups.delete_photo(ALICE, group, kind), InvalidInput) == "group_photo_empty"


async def test_a_photo_is_a_known_file_of_the_admins_own(groups: Groups, files: Files, group: UUID, kind: Kind) -> None:
    for photo in (uuid4(), await file_of(files, BOB)):
        assert await code(groups.set_photo(ALICE, group, kind, photo), NotFound) == "file_not_found"


@pytest.mark.parametrize("facts", [{"size": (2 << 20) + 1}, {"mime_type": "image/svg+xml"}, {"mime_type": "video/mp4"}])
async def test_a_photo_is_a_small_image(
    groups: Groups, files: Files, group: UUID, kind: Kind, facts: dict[str, Any]
) -> None:
    photo = await file_of(files, ALICE, **facts)
    assert await code(groups.set_photo(ALICE, group, kind, photo), InvalidInput) == "invalid_photo"


@pytest.mark.parametrize("actor", [ALICE, BOB])
async def test_either_one_of_a_secret_chat_sets_its_expiration(
    database: Database, chats: Chats, secrets: Secrets, actor: Actor
) -> None:
    chat = id_of(await chats.create_personal(ALICE, "bob", secret=True))
    await take_emitted(database)
    before, _ = await changed(database, chat)
    answer = await secrets.set_expiration(actor, chat, HOUR_NS + 999_999_999, *SECRETS)
    assert answer["info"] == {"expiration": HOUR_NS}
    (told,) = await take_emitted(database)
    assert told.brief == ("chat_expiration_set", ["alice", "bob"])
    assert told.data == {"sender_id": actor.id, "chat_id": str(chat), "expiration": HOUR_NS}
    assert await chats.get(BOB, chat) == answer
    after, _ = await changed(database, chat)
    assert after > before
    answer = await secrets.set_expiration(actor, chat, None, *SECRETS)
    assert answer["info"] == {"expiration": None}
    (told,) = await take_emitted(database)
    assert told.data["expiration"] is None


async def test_in_a_secret_group_the_admin_sets_the_expiration(
    database: Database, groups: Groups, secrets: Secrets
) -> None:
    group = id_of(await groups.create(ALICE, "g", ["alice", "bob"], secret=True))
    await take_emitted(database)
    assert await code(secrets.set_expiration(BOB, group, HOUR_NS, *SECRETS), Forbidden) == "sender_not_admin"
    answer = await secrets.set_expiration(ALICE, group, HOUR_NS, *SECRETS)
    assert answer["info"]["expiration"] == HOUR_NS
    (told,) = await emitted(database)
    assert told.brief == ("chat_expiration_set", ["alice", "bob"])


async def test_only_secret_chats_of_ones_own_have_an_expiration(chats: Chats, groups: Groups, secrets: Secrets) -> None:
    for chat in (
        id_of(await chats.create_personal(ALICE, "bob")),
        id_of(await groups.create(ALICE, "g", ["alice"])),
        id_of(await chats.create_personal(BOB, "carol", secret=True)),
        id_of(await groups.create(BOB, "g", ["bob"], secret=True)),
        uuid4(),
    ):
        assert await code(secrets.set_expiration(ALICE, chat, HOUR_NS, *SECRETS), NotFound) == "chat_not_found"


@pytest.mark.parametrize("expiration", [-HOUR_NS, -1, 0, 999_999_999])
async def test_nothing_ends_before_a_second(chats: Chats, secrets: Secrets, expiration: int) -> None:
    chat = id_of(await chats.create_personal(ALICE, "bob", secret=True))
    refused = secrets.set_expiration(ALICE, chat, expiration, *SECRETS)
    assert await code(refused, InvalidInput) == "invalid_expiration"


async def test_the_longest_expiration_can_be_kept(chats: Chats, secrets: Secrets) -> None:
    chat = id_of(await chats.create_personal(ALICE, "bob", secret=True))
    answer = await secrets.set_expiration(ALICE, chat, (1 << 63) - 1, *SECRETS)
    assert answer["info"]["expiration"] == 9_223_372_036 * 10**9


async def test_facts_of_a_file_are_its_owners(files: Files) -> None:
    file = uuid4()
    facts: dict[str, Any] = {"file_name": "a.txt", "mime_type": "text/plain", "file_size": 1, "file_url": "https://x"}
    answer = await files.put(ALICE, file, **facts)
    assert answer == {"file_id": str(file), **facts, "created_at": answer["created_at"]}
    assert await code(files.put(BOB, file, **facts), Forbidden) == "not_file_owner"
    again = await files.put(ALICE, file, **facts | {"file_name": "b.txt"})
    assert again == answer | {"file_name": "b.txt"}


async def test_a_file_of_over_a_gibibyte_is_refused(files: Files) -> None:
    facts: dict[str, Any] = {"file_name": "a.txt", "mime_type": "text/plain", "file_url": "https://x"}
    assert await code(files.put(ALICE, uuid4(), file_size=(1 << 30) + 1, **facts), InvalidInput) == "file_too_big"
    assert await code(files.put(ALICE, uuid4(), file_size=-1, **facts), InvalidInput) == "validation_failed"
    await files.put(ALICE, uuid4(), file_size=1 << 30, **facts)


async def test_every_change_stands_or_falls_with_what_is_recorded(
    database: Database, chats: Chats, groups: Groups, secrets: Secrets, files: Files
) -> None:
    async def refuse(unit: Unit, answer: Answer) -> None:
        raise RuntimeError("known already")

    with pytest.raises(RuntimeError):
        await groups.create(ALICE, "g", ["alice"], secret=True, record=refuse)
    kind = Kind.SECRET_GROUP
    group = id_of(await groups.create(ALICE, "g", ["alice", "bob"], secret=True))
    photo = await file_of(files, ALICE)
    answer = await groups.set_photo(ALICE, group, kind, photo)
    await take_emitted(database)
    works: list[Callable[[], Awaitable[Answer]]] = [
        lambda: groups.set_info(ALICE, group, kind, "new", "", record=refuse),
        lambda: groups.add_member(ALICE, group, kind, "carol", record=refuse),
        lambda: groups.remove_member(ALICE, group, kind, "bob", record=refuse),
        lambda: groups.set_photo(ALICE, group, kind, photo, record=refuse),
        lambda: groups.delete_photo(ALICE, group, kind, record=refuse),
        lambda: secrets.set_expiration(ALICE, group, HOUR_NS, kind, record=refuse),
        lambda: chats.delete(ALICE, group, kind, record=refuse),
        lambda: files.put(
            ALICE, photo, file_name="x", mime_type="x/x", file_size=1, file_url="https://x", record=refuse
        ),
    ]
    for work in works:
        with pytest.raises(RuntimeError):
            await work()
    assert await emitted(database) == []
    assert await chats.get(ALICE, group) == answer
    assert await database.pool.fetchval("SELECT count(*) FROM users WHERE id = 'carol'") == 0
