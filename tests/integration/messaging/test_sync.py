"""Catching up: whatever an account missed comes with the next sync, in whatever order transactions end."""

import asyncio
import contextlib
import random
from collections.abc import Collection
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.integration.messaging.outcomes import code, id_of
from tests.integration.messaging.world import ALICE, BOB, CAROL, MALLORY, World
from tidings.errors import DomainError, InvalidInput, NotFound
from tidings.messaging.commands import Answer
from tidings.messaging.commands import sync as commands
from tidings.messaging.domain.entry import MarkKind
from tidings.messaging.domain.model import Actor, Kind
from tidings.messaging.domain.sync import Token
from tidings.messaging.store.database import Database
from tidings.messaging.wire import Wire


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


def chats_of(answer: Answer) -> list[str]:
    return [chat["chat_id"] for chat in answer["chats"]]


def new_in(answer: Answer) -> dict[str, bool]:
    """Which of the answer's chats are new to the account."""
    return {chat["chat_id"]: chat["newly_joined"] for chat in answer["chats"]}


def texts_of(answer: Answer) -> list[str]:
    return [update["content"]["text"] for update in answer["updates"] if update["type"] == "text_message"]


async def test_the_current_state_is_all_chats_with_their_last_message_and_the_names_in_them(world: World) -> None:
    await world.users.seen(Actor(id="bob", name="Bob"))
    pair, group = await world.pair(), await world.group(ALICE, BOB)
    other = await world.group(BOB, CAROL)
    await world.say(BOB, pair, "one")
    await world.say(BOB, pair, "two")
    await world.say(BOB, other, "not for alice")

    state = await world.sync.read(ALICE)

    assert chats_of(state) == sorted([str(pair), str(group)])
    shown = next(chat for chat in state["chats"] if chat["chat_id"] == str(pair))
    assert (shown["last_update_id"], shown["unread"], shown["first_unread"]["update_id"]) == (2, 2, 1)
    assert texts_of(state) == ["two"]
    assert {(user["user_id"], user["name"]) for user in state["users"]} == {("alice", ""), ("bob", "Bob")}
    assert (state["removed"], state["more"]) == ([], False)


async def test_preview_says_how_many_messages_of_each_chat_a_state_shows(world: World) -> None:
    pair = await world.pair()
    for number in range(5):
        await world.say(BOB, pair, str(number))
    assert texts_of(await world.sync.read(ALICE, preview=3)) == ["2", "3", "4"]
    assert texts_of(await world.sync.read(ALICE, preview=0)) == []
    for wrong in (-1, 21):
        assert await code(world.sync.read(ALICE, preview=wrong), InvalidInput) == "invalid_query_param"


async def test_nothing_changed_is_an_empty_answer(world: World) -> None:
    pair = await world.pair()
    await world.say(BOB, pair)
    since = (await world.sync.read(ALICE))["next"]
    for _ in range(2):
        answer = await world.sync.read(ALICE, since)
        assert {name: answer[name] for name in ("chats", "removed", "updates", "marks", "users")} == {
            "chats": [],
            "removed": [],
            "updates": [],
            "marks": [],
            "users": [],
        }
        since = answer["next"]


async def test_every_kind_of_change_is_shown(world: World) -> None:
    pair, group = await world.pair(), await world.group(ALICE, BOB)
    first = await world.say(ALICE, pair, "first")
    second = await world.say(BOB, pair, "second")
    since = (await world.sync.read(ALICE))["next"]

    async def missed() -> Answer:
        nonlocal since
        answer = await world.missed(ALICE, since)
        since = answer["next"]
        return answer

    await world.say(BOB, pair, "third")
    answer = await missed()
    assert (chats_of(answer), texts_of(answer)) == ([str(pair)], ["third"])
    assert answer["chats"][0]["last_update_id"] == 3

    await world.updates.edit_text(BOB, Kind.PERSONAL, pair, second["update_id"], "second, better")
    answer = await missed()
    (edit,) = [update for update in answer["updates"] if update["type"] == "text_message_edited"]
    assert edit["content"] == {"message_id": second["update_id"], "new_text": "second, better"}

    await world.updates.react(BOB, Kind.PERSONAL, pair, first["update_id"], "heart")
    answer = await missed()
    assert [update["content"]["reaction"] for update in answer["updates"] if update["type"] == "reaction"] == ["heart"]

    await world.updates.delete_message(BOB, Kind.PERSONAL, pair, second["update_id"], "all")
    answer = await missed()
    (deletion,) = [update for update in answer["updates"] if update["type"] == "delete"]
    assert deletion["content"] == {"deleted_id": second["update_id"], "deleted_mode": "all"}
    assert "second, better" not in texts_of(answer)

    await world.updates.delete_message(ALICE, Kind.PERSONAL, pair, first["update_id"], "only_me")
    answer = await missed()
    assert [u["content"]["deleted_mode"] for u in answer["updates"] if u["type"] == "delete"] == ["only_me"]

    await world.read(BOB, pair, 1)
    answer = await missed()
    assert [(mark["user_id"], mark["kind"], mark["up_to_message_no"]) for mark in answer["marks"]] == []

    await world.read(ALICE, pair)
    answer = await missed()
    assert [(m["user_id"], m["kind"], m["up_to_message_no"]) for m in answer["marks"] if m["user_id"] == "alice"] == [
        ("alice", "delivered", 3),
        ("alice", "read", 3),
    ]
    assert [chat["unread"] for chat in answer["chats"]] == [0]

    await world.likes.toggle(BOB, group)
    (chat,) = (await missed())["chats"]
    assert (chat["chat_id"], chat["likes"], chat["liked"]) == (str(group), 1, False)

    await world.groups.set_info(ALICE, group, Kind.GROUP, "renamed", "")
    (chat,) = (await missed())["chats"]
    assert chat["info"]["name"] == "renamed"

    await world.chats.block(BOB, pair)
    (chat,) = (await missed())["chats"]
    assert chat["info"] == {"blocked_by": ["bob"]}

    await world.groups.add_member(ALICE, group, Kind.GROUP, "carol")
    (chat,) = (await missed())["chats"]
    assert chat["members"] == ["alice", "bob", "carol"]

    await world.users.change(BOB, name="Robert")
    answer = await missed()
    assert [(user["user_id"], user["name"]) for user in answer["users"]] == [("bob", "Robert")]
    assert answer["chats"] == []


async def test_what_others_deleted_for_themselves_is_nobody_elses_business(world: World) -> None:
    pair = await world.pair()
    since = (await world.sync.read(ALICE))["next"]
    said = await world.say(ALICE, pair)
    await world.updates.delete_message(BOB, Kind.PERSONAL, pair, said["update_id"], "only_me")
    answer = await world.missed(ALICE, since)
    assert [update["type"] for update in answer["updates"]] == ["text_message"]


async def test_chats_left_or_deleted_are_removed_and_new_ones_are_there(world: World) -> None:
    pair, group, kept = await world.pair(), await world.group(BOB, ALICE), await world.group(BOB, ALICE)
    since = {actor.id: (await world.sync.read(actor))["next"] for actor in (ALICE, CAROL)}
    await world.chats.delete(BOB, pair, Kind.PERSONAL)
    await world.groups.remove_member(BOB, group, Kind.GROUP, "alice")
    await world.groups.add_member(BOB, kept, Kind.GROUP, "carol")
    answer = await world.missed(ALICE, since["alice"])
    assert answer["removed"] == sorted([str(pair), str(group)])
    assert chats_of(answer) == [str(kept)]
    assert chats_of(await world.missed(CAROL, since["carol"])) == [str(kept)]
    assert chats_of(await world.missed(ALICE)) == [str(kept)]

    await world.groups.add_member(BOB, group, Kind.GROUP, "alice")
    answer = await world.missed(ALICE, answer["next"])
    assert (answer["removed"], chats_of(answer)) == ([], [str(group)])


async def test_another_accounts_chats_are_never_shown(world: World) -> None:
    pair = await world.pair()
    since = (await world.sync.read(MALLORY))["next"]
    await world.say(BOB, pair)
    for answer in (await world.missed(MALLORY, since), await world.missed(MALLORY)):
        assert (answer["chats"], answer["updates"], answer["marks"]) == ([], [], [])
        assert {user["user_id"] for user in answer["users"]} <= {"mallory"}


async def test_what_commits_late_with_an_early_transaction_is_shown_next_time(world: World) -> None:
    early, late = await world.pair(ALICE, BOB), await world.pair(ALICE, CAROL)
    since = (await world.sync.read(ALICE))["next"]
    written, commit = asyncio.Event(), asyncio.Event()

    async def hold(unit: object, answer: Answer) -> None:
        written.set()
        await commit.wait()

    slow = asyncio.create_task(world.say(BOB, early, "slow", record=hold))
    await asyncio.wait_for(written.wait(), 5)
    await world.say(CAROL, late, "quick")
    between = await world.missed(ALICE, since)
    again = await world.missed(ALICE, between["next"])
    commit.set()
    await slow
    after = await world.missed(ALICE, again["next"])

    assert texts_of(between) == ["quick"]
    assert "slow" in texts_of(after)
    assert texts_of(await world.missed(ALICE, after["next"])) == []


async def test_a_chat_that_the_user_joined_since_the_token_says_so_once(world: World) -> None:
    group = await world.group(BOB, CAROL)
    await world.say(BOB, group, "before")
    since = (await world.sync.read(ALICE))["next"]
    await world.groups.add_member(BOB, group, Kind.GROUP, "alice")
    await world.say(BOB, group, "after")

    joined = await world.sync.read(ALICE, since)
    assert new_in(joined) == {str(group): True}

    await world.say(BOB, group, "later")
    assert new_in(await world.sync.read(ALICE, joined["next"])) == {str(group): False}


async def test_names_come_with_the_people_who_are_new_to_the_user(world: World) -> None:
    """Nobody changed a name: it is the chat that is new, or somebody in it."""
    for actor, name in ((BOB, "Bob"), (CAROL, "Carol"), (Actor(id="dave"), "Dave")):
        await world.users.seen(Actor(id=actor.id, name=name))
    old, other = await world.group(BOB, ALICE), await world.group(BOB, CAROL)
    since = (await world.sync.read(ALICE))["next"]
    await world.groups.add_member(BOB, other, Kind.GROUP, "alice")
    joined = await world.sync.read(ALICE, since)
    assert {user["user_id"]: user["name"] for user in joined["users"]} == {"alice": "", "bob": "Bob", "carol": "Carol"}

    await world.groups.add_member(BOB, old, Kind.GROUP, "dave")
    newcomer = await world.sync.read(ALICE, joined["next"])
    assert {user["user_id"]: user["name"] for user in newcomer["users"]} == {"dave": "Dave"}

    await world.say(BOB, other, "later")
    assert (await world.sync.read(ALICE, newcomer["next"]))["users"] == []


async def test_how_far_the_others_are_comes_with_a_chat_that_is_new(world: World) -> None:
    group = await world.group(BOB, CAROL)
    await world.say(BOB, group, "before")
    await world.marks.mark(CAROL, group, MarkKind.READ)
    since = (await world.sync.read(ALICE))["next"]
    await world.groups.add_member(BOB, group, Kind.GROUP, "alice")
    joined = await world.sync.read(ALICE, since)
    assert ("carol", "read", 1) in {(m["user_id"], m["kind"], m["up_to_message_no"]) for m in joined["marks"]}
    await world.say(BOB, group, "after")
    assert [
        mark for mark in (await world.sync.read(ALICE, joined["next"]))["marks"] if mark["user_id"] == "carol"
    ] == []


async def test_a_chat_that_the_user_joined_again_since_the_token_says_so_once(world: World) -> None:
    group = await world.group(BOB, ALICE)
    since = (await world.sync.read(ALICE))["next"]
    await world.groups.remove_member(BOB, group, Kind.GROUP, "alice")
    away = await world.sync.read(ALICE, since)
    await world.say(BOB, group, "while alice was away")
    await world.groups.add_member(BOB, group, Kind.GROUP, "alice")

    for token in (since, away["next"]):  # whether or not the client heard that it was removed
        back = await world.sync.read(ALICE, token)
        assert (new_in(back), back["removed"]) == ({str(group): True}, [])

    await world.say(BOB, group, "later")
    assert new_in(await world.sync.read(ALICE, back["next"])) == {str(group): False}


async def test_a_chat_that_the_user_was_in_is_not_new_whatever_happens_in_it(world: World) -> None:
    pair, group = await world.pair(), await world.group(BOB, ALICE)
    since = (await world.sync.read(ALICE))["next"]
    for chat in (pair, group):
        await world.say(BOB, chat)
        await world.read(ALICE, chat)
        await world.say(ALICE, chat)
    await world.chats.block(ALICE, pair)
    await world.groups.set_info(BOB, group, Kind.GROUP, "renamed", "")
    await world.groups.add_member(BOB, group, Kind.GROUP, "carol")
    await world.groups.remove_member(CAROL, group, Kind.GROUP, "carol")
    assert new_in(await world.missed(ALICE, since)) == {str(pair): False, str(group): False}


async def test_chats_begun_by_others_or_oneself_since_the_token_are_new_to_all_in_them(world: World) -> None:
    since = {actor.id: (await world.sync.read(actor))["next"] for actor in (ALICE, BOB)}
    pair, group = await world.pair(BOB, ALICE), await world.group(BOB, ALICE)
    for actor in (ALICE, BOB):
        assert new_in(await world.missed(actor, since[actor.id])) == {str(pair): True, str(group): True}


async def test_without_a_token_every_chat_is_new(world: World) -> None:
    pair, group = await world.pair(), await world.group(BOB, ALICE)
    assert new_in(await world.sync.read(ALICE)) == {str(pair): True, str(group): True}


async def test_who_joins_in_a_transaction_that_commits_late_is_told_next_time(world: World) -> None:
    group, pair = await world.group(BOB, CAROL), await world.pair(ALICE, CAROL)
    joined, commit = asyncio.Event(), asyncio.Event()

    async def hold(unit: object, answer: Answer) -> None:
        joined.set()
        await commit.wait()

    slow = asyncio.create_task(world.groups.add_member(BOB, group, Kind.GROUP, "alice", record=hold))
    await asyncio.wait_for(joined.wait(), 5)
    await world.say(CAROL, pair, "quick")
    between = await world.sync.read(ALICE)
    assert chats_of(between) == [str(pair)]
    commit.set()
    await slow

    after = await world.sync.read(ALICE, between["next"])
    assert new_in(after)[str(group)] is True
    await world.say(BOB, group)
    assert new_in(await world.sync.read(ALICE, after["next"])) == {str(group): False}


async def test_the_pages_of_an_answer_say_what_is_new_since_its_token(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "MAX_CHATS", 1)
    groups = sorted([await world.group(BOB, ALICE if number % 2 else CAROL) for number in range(6)])
    known = set(chats_of(await world.missed(ALICE)))
    since = (await world.missed(ALICE))["next"]
    for group in groups:
        await world.say(BOB, group)
        if str(group) not in known:
            await world.groups.add_member(BOB, group, Kind.GROUP, "alice")

    first = await world.sync.read(ALICE, since)
    assert first["more"]
    # New for the next answer, whether its page is still to come or not.
    for group in (groups[0], groups[-1]):
        await world.groups.remove_member(ALICE, group, Kind.GROUP, "alice")
        await world.groups.add_member(BOB, group, Kind.GROUP, "alice")
    rest = await world.missed(ALICE, first["next"])

    expected = {str(group): str(group) not in known for group in groups}
    assert new_in(first) | new_in(rest) == expected | {str(groups[-1]): True}
    last = await world.missed(ALICE, rest["next"])
    assert new_in(last) == {str(groups[0]): True, str(groups[-1]): True}
    for group in groups:
        await world.say(BOB, group)
    assert set(new_in(await world.missed(ALICE, last["next"])).values()) == {False}


async def test_an_account_that_was_not_there_sees_its_first_chat(world: World) -> None:
    state = await world.sync.read(MALLORY)
    assert (state["chats"], state["more"]) == ([], False)
    pair = await world.pair(ALICE, MALLORY)
    await world.say(ALICE, pair, "welcome")
    answer = await world.missed(MALLORY, state["next"])
    assert (chats_of(answer), texts_of(answer)) == ([str(pair)], ["welcome"])


async def test_pages_show_everything_once_and_in_order(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "MAX_UPDATES", 7)
    monkeypatch.setattr(commands, "MAX_CHATS", 3)
    people = [Actor(id=f"user-{number}") for number in range(8)]
    chats = [await world.pair(ALICE, actor) for actor in people]
    since = (await world.missed(ALICE))["next"]
    expected = set()
    for index, (chat, actor) in enumerate(zip(chats, people, strict=True)):
        for number in range(index * 3):
            expected.add((str(chat), (await world.say(actor, chat, f"{index}-{number}"))["update_id"]))

    pages = await world.pages(ALICE, since)

    assert len(pages) >= 84 / 7
    for page in pages:
        assert len(page["updates"]) <= 7
        assert len(page["chats"]) <= 3
    shown = [(update["chat_id"], update["update_id"]) for page in pages for update in page["updates"]]
    assert shown == sorted(shown)
    assert len(shown) == len(set(shown))
    assert set(shown) == expected
    listed = [chat for page in pages for chat in chats_of(page)]
    assert listed == sorted(str(chat) for chat in chats[1:])

    state = await world.pages(ALICE, preview=3)
    listed = [chat for page in state for chat in chats_of(page)]
    assert listed == sorted(map(str, chats))
    assert all(len(page["updates"]) <= 7 for page in state)
    assert len(state) == 4


async def test_what_changes_between_pages_comes_with_the_next_sync(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "MAX_CHATS", 1)
    chats = sorted([await world.pair(ALICE, BOB), await world.pair(ALICE, CAROL)])
    state = await world.sync.read(ALICE)
    assert state["more"]
    author = {str(chats[0]): BOB, str(chats[1]): CAROL}
    pool = world.database.pool
    other = await pool.fetchval("SELECT user_id FROM members WHERE chat_id = $1 AND user_id <> 'alice'", chats[0])
    assert author
    await world.say(Actor(id=other), chats[0], "between")
    last = await world.sync.read(ALICE, state["next"])
    assert not last["more"]
    assert texts_of(await world.missed(ALICE, last["next"])) == ["between"]


async def test_a_chat_that_changes_while_its_pages_are_read_is_known_as_it_is_in_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "MAX_UPDATES", 4)
    pair, other = sorted([await world.pair(), await world.pair(ALICE, CAROL)])
    people = {"alice": ALICE, "bob": BOB, "carol": CAROL}
    rows = await world.database.pool.fetch("SELECT chat_id, user_id FROM members WHERE user_id <> 'alice'")
    author = {row["chat_id"]: people[row["user_id"]] for row in rows}
    since = (await world.sync.read(ALICE))["next"]
    for number in range(10):
        await world.say(author[pair], pair, str(number))
    await world.say(author[other], other, "other")
    written, commit = asyncio.Event(), asyncio.Event()

    async def hold(unit: object, answer: Answer) -> None:
        written.set()
        await commit.wait()

    # Begun before the first page, so with a lower number than all that the later pages show.
    slow = asyncio.create_task(world.say(author[other], other, "slow", record=hold))
    await asyncio.wait_for(written.wait(), 5)
    first = await world.sync.read(ALICE, since)
    assert texts_of(first) == ["0", "1", "2", "3"]
    await world.updates.edit_text(author[pair], Kind.PERSONAL, pair, 2, "2, shown before")
    await world.updates.edit_text(author[pair], Kind.PERSONAL, pair, 9, "9, not shown yet")
    await world.updates.delete_message(author[pair], Kind.PERSONAL, pair, 6, "all")
    commit.set()
    await slow

    known = {(pair, update["update_id"]): update for update in first["updates"]}
    rest = await world.pages(ALICE, first["next"])
    rest += await world.pages(ALICE, rest[-1]["next"])
    for page in rest:
        known |= {(UUID(update["chat_id"]), update["update_id"]): update for update in page["updates"]}
    truth = {
        (chat, update["update_id"]): update
        for chat in (pair, other)
        for update in (await world.updates.read(ALICE, chat, 1, 100))["updates"]
    }
    assert known == truth, "6 was deleted before it was shown"
    assert [chat for page in [first, *rest] for chat in chats_of(page)].count(str(pair)) == 2, "once in each answer"


async def test_who_is_removed_between_two_pages_of_a_chat_sees_no_more_of_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "MAX_UPDATES", 4)
    group = await world.group(BOB, ALICE)
    since = (await world.sync.read(ALICE))["next"]
    for number in range(20):
        await world.say(BOB, group, str(number))
    first = await world.sync.read(ALICE, since)
    assert (texts_of(first), first["more"]) == (["0", "1", "2", "3"], True)
    await world.groups.remove_member(BOB, group, Kind.GROUP, "alice")
    rest = await world.missed(ALICE, first["next"])
    assert (rest["updates"], rest["chats"]) == ([], [])
    assert (await world.missed(ALICE, rest["next"]))["removed"] == [str(group)]


async def test_what_nobody_may_see_ends_a_page_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = await world.pair()
    since = (await world.sync.read(ALICE))["next"]
    for number in range(12):
        await world.say(BOB, pair, str(number))
        if number < 9:
            await world.updates.delete_message(BOB, Kind.PERSONAL, pair, 2 * number + 1, "all")
    monkeypatch.setattr(commands, "MAX_UPDATES", 4)
    pages = await world.pages(ALICE, since)
    assert len(pages) == -(-21 // 4)
    shown = [update for page in pages for update in page["updates"]]
    assert [update["type"] for update in shown] == ["delete"] * 9 + ["text_message"] * 3
    assert [chats_of(page) for page in pages] == [[str(pair)]] + [[]] * 5


async def test_a_token_of_another_database_or_of_nobody_is_refused(world: World) -> None:
    await world.pair()
    token = Token.of((await world.sync.read(ALICE))["next"])
    foreign = Token(uuid4(), token.since)
    ahead = Token(token.epoch, (token.since or 0) + 1_000_000)
    for text in (foreign.text(), ahead.text(), "", "x", "é", token.text()[:-3], "A" * 600, token.text() + "AAAA"):
        assert await code(world.sync.read(ALICE, text), InvalidInput) == "invalid_since", text


async def test_a_state_shows_how_far_the_others_are_as_later_answers_do(world: World) -> None:
    pair, group = await world.pair(), await world.group(ALICE, BOB, CAROL)
    for chat in (pair, group):
        await world.say(ALICE, chat)
        await world.read(BOB, chat)
    await world.marks.mark(CAROL, group, MarkKind.DELIVERED)

    def marked(answer: Answer) -> set[tuple[str, str, str]]:
        return {(mark["chat_id"], mark["user_id"], mark["kind"]) for mark in answer["marks"]}

    state = await world.sync.read(ALICE)
    expected = {(str(chat), "bob", kind) for chat in (pair, group) for kind in ("delivered", "read")}
    assert marked(state) == expected | {(str(group), "carol", "delivered")}
    await world.say(BOB, group)
    assert marked(await world.sync.read(ALICE, state["next"])) <= expected, "what did not change comes no more"


async def test_a_group_that_became_small_shows_how_far_the_others_are(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "MAX_TOLD", 2)
    group = await world.group(ALICE, BOB, CAROL)
    await world.say(ALICE, group)
    await world.read(BOB, group)
    state = await world.sync.read(ALICE)
    assert state["marks"] == []
    await world.groups.remove_member(ALICE, group, Kind.GROUP, "carol")
    answer = await world.sync.read(ALICE, state["next"])
    assert {(mark["user_id"], mark["kind"]) for mark in answer["marks"]} == {("bob", "delivered"), ("bob", "read")}
    await world.say(ALICE, group)
    assert (await world.sync.read(ALICE, answer["next"]))["marks"] == []


async def test_pages_end_early_where_there_are_many_people(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "MAX_PEOPLE", 5)
    since = (await world.sync.read(ALICE))["next"]
    groups = sorted([await world.group(ALICE, BOB, CAROL) for _ in range(4)] + [await world.pair()])
    for group in groups:
        await world.say(ALICE, group)
        await world.read(BOB, group)
    for token in (None, since):
        pages = await world.pages(ALICE, token)
        assert [chat for page in pages for chat in chats_of(page)] == list(map(str, groups))
        for page in pages:
            assert sum(len(chat["members"]) for chat in page["chats"]) <= 5
            assert {mark["chat_id"] for mark in page["marks"]} == set(chats_of(page))
            assert {update["chat_id"] for update in page["updates"]} == set(chats_of(page))


async def test_in_large_groups_only_ones_own_marks_are_shown(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "MAX_TOLD", 2)
    group = await world.group(ALICE, BOB, CAROL)
    since = (await world.sync.read(ALICE))["next"]
    await world.say(CAROL, group)
    await world.read(ALICE, group)
    await world.read(BOB, group)
    answer = await world.missed(ALICE, since)
    assert {mark["user_id"] for mark in answer["marks"]} == {"alice"}


@pytest.mark.parametrize("wire", list(Wire))
async def test_times_and_names_are_those_of_the_wire(database: Database, wire: Wire) -> None:
    world = World(database, wire)
    pair = await world.pair()
    said = await world.say(BOB, pair)
    (update,) = (await world.sync.read(ALICE))["updates"]
    assert update == said
    assert isinstance(update["created_at"], int) == (wire is Wire.CHAKCHAT)


class Mirror:
    """A client that knows nothing but what its syncs said, and reads by range what is new to it."""

    def __init__(self, actor: Actor) -> None:
        self.actor = actor
        self.since: str | None = None
        self.chats: dict[str, Any] = {}
        self.updates: dict[str, dict[int, Any]] = {}
        self.marks: dict[tuple[str, str, str], Any] = {}

    async def catch_up(self, world: World) -> None:
        more = True
        while more:
            page = await world.sync.read(self.actor, self.since, preview=20)
            for chat in page["removed"]:
                self.forget(chat)
            for chat in page["chats"]:
                if chat["newly_joined"]:
                    self.forget(chat["chat_id"])
                    await self.begin(world, chat)
                self.chats[chat["chat_id"]] = {name: chat[name] for name in chat if name != "newly_joined"}
            for update in page["updates"]:
                self.apply(update)
            for mark in page["marks"]:
                self.marks[mark["chat_id"], mark["user_id"], mark["kind"]] = mark
            self.since, more = page["next"], page["more"]

    def forget(self, chat: str) -> None:
        self.chats.pop(chat, None)
        self.updates.pop(chat, None)
        self.marks = {key: mark for key, mark in self.marks.items() if key[0] != chat}

    async def begin(self, world: World, chat: Any) -> None:
        if not chat["last_update_id"]:
            return
        with contextlib.suppress(NotFound):  # removed meanwhile: the next sync says so
            whole = await world.updates.read(self.actor, UUID(chat["chat_id"]), 1, chat["last_update_id"])
            assert "next_from" not in whole
            self.updates[chat["chat_id"]] = {update["update_id"]: update for update in whole["updates"]}

    def apply(self, update: Any) -> None:
        known = self.updates.setdefault(update["chat_id"], {})
        known[update["update_id"]] = update
        if update["type"] == "delete":
            known.pop(update["content"]["deleted_id"], None)
            for id_, other in list(known.items()):
                if other["content"].get("message_id") == update["content"]["deleted_id"]:
                    del known[id_]

    def shown_marks(self, told: int) -> dict[tuple[str, str, str], int]:
        """How far those are whom the account sees: in chats of more than `told` members only itself."""
        return {
            key: mark["up_to_message_no"]
            for key, mark in self.marks.items()
            if key[0] in self.chats and key[1] in self.whose(key[0], told)
        }

    def whose(self, chat: str, told: int) -> Collection[str]:
        """Whose marks of that chat the account sees."""
        members: list[str] = self.chats[chat]["members"]
        return members if len(members) <= told else [self.actor.id]


async def true_marks(world: World, mirror: Mirror, told: int) -> dict[tuple[str, str, str], int]:
    """What the table of marks holds of those whom the account sees."""
    rows = await world.database.pool.fetch(
        "SELECT chat_id::text AS chat_id, user_id, kind, max(up_to_no) AS no FROM marks GROUP BY 1, 2, 3"
    )
    return {
        (row["chat_id"], row["user_id"], row["kind"]): row["no"]
        for row in rows
        if row["chat_id"] in mirror.chats and row["user_id"] in mirror.whose(row["chat_id"], told)
    }


@pytest.mark.parametrize("told", [100, 3])
async def test_a_client_that_only_syncs_ends_up_with_all_there_is(
    world: World, monkeypatch: pytest.MonkeyPatch, told: int
) -> None:
    """Many writers at once, transactions that end in any order, small pages; then the client must know the truth."""
    monkeypatch.setattr(commands, "MAX_UPDATES", 20)
    monkeypatch.setattr(commands, "MAX_CHATS", 3)
    monkeypatch.setattr(commands, "MAX_TOLD", told)  # 3: groups become too large, and small again
    chance = random.Random(20_25)  # a failure comes again
    people = [ALICE, BOB, CAROL, MALLORY]
    groups = [await world.group(ALICE, BOB, CAROL, name=f"g{number}") for number in range(4)]
    groups += [await world.pair(one, other) for one, other in ((ALICE, BOB), (BOB, CAROL), (ALICE, CAROL))]
    mirrors = [Mirror(actor) for actor in (ALICE, CAROL)]
    done = asyncio.Event()

    async def linger(unit: object, answer: Answer) -> None:
        await asyncio.sleep(chance.choice((0, 0, 0.005, 0.03)))

    async def act() -> None:
        for _ in range(60):
            actor, chat = chance.choice(people), chance.choice(groups)
            kind = Kind.GROUP if chat in groups[:4] else Kind.PERSONAL
            about = chance.randint(1, 30)
            try:
                match chance.randrange(9):
                    case 0 | 1 | 2 | 3:
                        await world.say(actor, chat, str(chance.random()), record=linger)
                    case 4:
                        await world.updates.react(actor, kind, chat, about, "like", record=linger)
                    case 5:
                        await world.updates.edit_text(actor, kind, chat, about, str(chance.random()), record=linger)
                    case 6:
                        await world.updates.delete_message(actor, kind, chat, about, "all", record=linger)
                    case 7:
                        await world.read(actor, chat, about)
                    case 8:
                        member = chance.choice(["carol", "mallory"])
                        change = chance.choice((world.groups.add_member, world.groups.remove_member))
                        await change(ALICE, chat, kind, member, record=linger)
            except DomainError:
                pass  # as it happens: no such update, no member, deleted already

    async def follow(mirror: Mirror) -> None:
        while not done.is_set():
            await mirror.catch_up(world)
            await asyncio.sleep(chance.random() * 0.01)

    followers = [asyncio.create_task(follow(mirror)) for mirror in mirrors]
    try:
        await asyncio.gather(*(act() for _ in range(8)))
    finally:
        done.set()
        await asyncio.gather(*followers)

    for mirror in mirrors:
        await mirror.catch_up(world)
        truth = Mirror(mirror.actor)
        await truth.catch_up(world)
        assert mirror.chats == truth.chats
        for chat, shown in truth.chats.items():
            whole = await world.updates.read(mirror.actor, UUID(chat), 1, shown["last_update_id"])
            known = mirror.updates.get(chat, {})
            ids = {update["update_id"] for update in whole["updates"]}
            assert known.keys() <= ids, "it still shows what was deleted"
            assert known.keys() >= ids, "it lacks what was written before it came, or while it was away"
        for each in (mirror, truth):  # one that caught up again and again, and one that came just now
            assert each.shown_marks(told) == await true_marks(world, each, told)


async def test_an_answer_about_a_new_chat_is_that_of_its_creation(world: World) -> None:
    since = (await world.sync.read(BOB))["next"]
    created = await world.chats.create_personal(ALICE, "bob")
    (chat,) = (await world.missed(BOB, since))["chats"]
    assert {name: chat[name] for name in created} == created
    assert id_of(chat) == id_of(created)
