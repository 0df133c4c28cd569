"""`tidings messaging` killed at random moments, with requests, commits and batches under way: tables, topic and answers
still say the same.

The steps of the relay are killed one by one in `test_relay_failures.py`; here the whole service dies, anywhere.
"""

import asyncio
import json
import os
import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import pytest

from tests.integration.messaging.insisting import Crowd
from tests.integration.messaging.relaying import empty, first_of_each_id, in_kafka, until
from tests.integration.messaging.serving import Messaging, MessagingFactory
from tidings.config import TopicSettings
from tidings.kafka.ladder import Broker
from tidings.messaging.store.database import Pool
from tidings.messaging.wire import Wire, time_of

pytestmark = pytest.mark.kafka

SEED = "TIDINGS_CRASH_SEED"
"""Set it in the environment to have the same order of deeds and kills; when each comes depends on the machine."""

UPDATES = """
SELECT chat_id::text AS chat, update_id, type, sender_id, target_update_id, deleted_mode, content
FROM updates ORDER BY chat_id, update_id
"""
MARKS = "SELECT chat_id::text AS chat, user_id, marked_at FROM marks WHERE kind = 'read'"
LIKES = "SELECT chat_id::text AS chat, user_id FROM likes"

Record = dict[str, Any]


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
async def test_killed_at_random_what_is_answered_is_in_the_tables_and_on_the_topic_once_and_in_order(
    kills: int, messaging: MessagingFactory, pool: Pool, kafka: Broker, topics: TopicSettings
) -> None:
    seed = int(os.environ.get(SEED) or random.SystemRandom().randrange(1 << 32))
    print(f"{SEED}={seed}")
    chance = random.Random(f"{seed}/kills")

    def start() -> Messaging:
        return messaging(max_requests_per_s=100_000, max_requests_burst=100_000)

    running = [start(), start()]
    async with Crowd(running, random.Random(f"{seed}/deeds")) as crowd:
        for _ in range(kills):
            await asyncio.sleep(chance.uniform(0.2, 1.2))
            number = chance.randrange(len(running))
            running[number].process.kill()
            crowd.pause_s = 0.1  # or the new process would wait longest for a core
            running[number] = await asyncio.to_thread(start)
            crowd.pause_s = 0.0
        await asyncio.sleep(0.5)
        await crowd.stop()
    assert crowd.cut_off, "no request was under way when a process died"
    await until(empty(pool), 20)
    chats, repeats = await on_topic(pool, kafka, topics)
    tally = Counter(deed.kind for deed in crowd.deeds)
    print(f"{dict(tally)}; {crowd.cut_off} cut off, {crowd.replayed} replayed, {repeats} records repeated")
    await prove_by_tables(pool, chats)
    prove_by_answers(crowd, chats)


async def on_topic(pool: Pool, kafka: Broker, topics: TopicSettings) -> tuple[dict[str, list[Record]], int]:
    """Each chat's modifications, in order, each id once; and how many records were repeats of such."""
    chats, repeats = {}, 0
    for chat, records in in_kafka(kafka.settings, topics.modifications, topics.partitions).items():
        firsts = first_of_each_id(records)
        repeats += len(records) - len(firsts)
        chats[chat] = [json.loads(record.value or b"") for record in firsts]
    return chats, repeats


async def prove_by_tables(pool: Pool, chats: dict[str, list[Record]]) -> None:
    """No modification without its row, no row without its modification, in the order of the rows."""
    assert await pool.fetchval("SELECT count(*) FROM outbox") == 0
    rows = await pool.fetch("SELECT id::text, last_update_id, name FROM chats")
    assert set(chats) == {row["id"] for row in rows}, "a chat that nobody committed, or that nobody was told of"
    updates = defaultdict(list)
    for update in await pool.fetch(UPDATES):
        updates[update["chat"]].append(update)
    for row in rows:
        records, own = chats[row["id"]], updates[row["id"]]
        ids = [update["update_id"] for update in own]
        assert ids == list(range(1, row["last_update_id"] + 1)), f"a gap: {ids}"
        told = [record["data"] for record in records if record["type"] == "update"]
        assert [data["update_id"] for data in told] == ids, f"chat {row['id']}"
        assert [brief(data) for data in told] == [
            (update["type"], update["sender_id"], update["target_update_id"], update["deleted_mode"]) for update in own
        ]
        assert prove_neighbours(records) == row["name"]
    # These have no update ids, but each one that is told is a row, or the change of one.
    same(
        ((data["chat_id"], data["user_id"], data["marked_at"]) for data in of_type(chats, "marks_set")),
        ((mark["chat"], mark["user_id"], time_of(mark["marked_at"], Wire.SEED)) for mark in await pool.fetch(MARKS)),
    )
    assert {place for place, toggles in likes(chats).items() if toggles[-1] == "chat_liked"} == {
        (like["chat"], like["user_id"]) for like in await pool.fetch(LIKES)
    }


def prove_neighbours(records: list[Record]) -> str:
    """What one transaction emits stays together; returns the chat's name after all of it."""
    assert records[0]["type"] == "chat_created", records[0]
    name, extra = records[0]["data"]["chat"]["info"]["name"], 1
    for number, record in enumerate(records):
        before = [(one["type"], one["data"]) for one in records[max(0, number - 2) : number]]
        action = record["data"].get("content", {}).get("action")
        if action == "joined":
            assert [type_ for type_, _ in before] == ["chat_created", "group_members_added"]
            assert before[1][1]["members"] == record["data"]["content"]["users"] == records[number - 2]["receivers"]
            extra += 2
        elif action == "renamed":
            assert before[-1][0] == "group_info_updated"
            assert before[-1][1]["name"] == record["data"]["content"]["name"] != name
            name = before[-1][1]["name"]
            extra += 1
        elif record["type"] == "group_info_updated" and record["data"]["name"] == name:
            extra += 1  # a renaming that was repeated: nothing to note
    found = Counter(record["type"] for record in records)
    assert found["chat_created"] + found["group_members_added"] + found["group_info_updated"] == extra
    assert found.keys() <= {
        "chat_created",
        "chat_liked",
        "chat_unliked",
        "group_info_updated",
        "group_members_added",
        "marks_set",
        "update",
    }
    return str(name)


def prove_by_answers(crowd: Crowd, chats: dict[str, list[Record]]) -> None:
    """What was answered took effect once, under the update id that was answered; nothing else took effect."""
    created = [(chat, records[0]["data"]["chat"]["info"]["name"]) for chat, records in chats.items()]
    same(created, ((deed.chat, deed.about) for deed in crowd.done("begin")))
    updates = defaultdict(list)
    for data in of_type(chats, "update"):
        place = (data["chat_id"], data["update_id"], data["sender_id"])
        updates[data["content"].get("action", data["type"])].append((*place, data["content"]))
    same(
        ((*place, content["text"]) for *place, content in updates["text_message"]),
        ((deed.chat, deed.answer["update_id"], deed.user, deed.about) for deed in crowd.done("send")),
    )
    same(
        ((*place, content["message_id"], content["reaction"]) for *place, content in updates["reaction"]),
        ((deed.chat, deed.answer["update_id"], deed.user, *deed.about) for deed in crowd.done("react")),
    )
    same(
        ((chat, user, content["deleted_id"], content["deleted_mode"]) for chat, _, user, content in updates["delete"]),
        ((deed.chat, deed.user, *deed.about) for deed in crowd.done("delete")),
    )
    same(
        ((chat, user, *content["users"]) for chat, _, user, content in updates["joined"]),
        ((deed.chat, deed.user, deed.about) for deed in crowd.done("join")),
    )
    same(
        (place for place, toggles in likes(chats).items() for _ in toggles),
        ((deed.chat, deed.user) for deed in crowd.done("like")),
    )
    marks = {(data["chat_id"], data["user_id"], data["marked_at"]) for data in of_type(chats, "marks_set")}
    for deed in crowd.done("read"):
        if deed.answer["marked_at"] is not None:  # null: of one's own message
            assert (deed.chat, deed.user, deed.answer["marked_at"]) in marks
    # Edits and names have no key: each try may have taken effect.
    within_tries(
        ((chat, user, content["name"]) for chat, _, user, content in updates["renamed"]),
        {(deed.chat, deed.user, deed.about): deed.tries for deed in crowd.done("rename")},
    )
    within_tries(
        (
            (chat, user, content["message_id"], content["new_text"])
            for chat, _, user, content in updates["text_message_edited"]
        ),
        {(deed.chat, deed.user, *deed.about): deed.tries for deed in crowd.done("edit")},
    )
    contents = {(chat, id_): content for told in updates.values() for chat, id_, _, content in told}
    for deed in crowd.done("edit"):
        assert contents[deed.chat, deed.answer["content"]["edited"]["update_id"]]["new_text"] == deed.about[1]
    for deed in crowd.done("delete"):
        if deed.answer is not None:  # of a repeat that was refused there is none
            assert contents[deed.chat, deed.answer["update_id"]]["deleted_id"] == deed.about[0]


def same(found: Iterable[Any], expected: Iterable[Any]) -> None:
    """The same things, each as often."""
    had, wanted = Counter(found), Counter(expected)
    assert not had - wanted, f"too much: {had - wanted}"
    assert not wanted - had, f"missing: {wanted - had}"


def within_tries(found: Iterable[Any], tries: dict[Any, int]) -> None:
    """Each at least once, and not more often than it was tried."""
    counts = Counter(found)
    assert counts.keys() == tries.keys()
    assert all(counts[one] <= tries[one] for one in counts)


def of_type(chats: dict[str, list[Record]], type_: str) -> list[Any]:
    return [record["data"] for records in chats.values() for record in records if record["type"] == type_]


def brief(data: Any) -> tuple[str, str, int | None, str | None]:
    """What an update's row says too."""
    content = data["content"]
    target = content.get("deleted_id") or content.get("message_id")
    return data["type"], data["sender_id"], target, content.get("deleted_mode")


def likes(chats: dict[str, list[Record]]) -> dict[tuple[str, str], list[str]]:
    """By chat and user what was told of its likes; each takes back the one before."""
    found = defaultdict(list)
    for chat, records in chats.items():
        for record in records:
            if record["type"] in ("chat_liked", "chat_unliked"):
                found[chat, record["data"]["sender_id"]].append(record["type"])
    for toggles in found.values():
        assert toggles == (["chat_liked", "chat_unliked"] * len(toggles))[: len(toggles)]
    return dict(found)
