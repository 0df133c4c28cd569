"""Edits, reactions and deletions, and what a chat's updates look like when they are read again."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from tests.integration.messaging.emitted import take_emitted
from tests.integration.messaging.outcomes import code, outcomes
from tests.integration.messaging.shell import make_shell, opened
from tests.integration.messaging.speaking import ANN, BEN, CAT, SECRET, STRANGER, Speaking
from tidings.errors import InvalidInput, NotFound
from tidings.messaging.commands import Answer
from tidings.messaging.commands import updates as commands
from tidings.messaging.domain.model import Kind
from tidings.messaging.http import updates as paths
from tidings.messaging.store.answer import Kept, Stored
from tidings.messaging.store.database import Database
from tidings.messaging.store.idempotency import Answers
from tidings.messaging.store.unit import Unit
from tidings.messaging.wire import Wire, message_uuid


@pytest.fixture
def people(database: Database) -> Speaking:
    return Speaking(database)


async def test_an_edit_answers_the_whole_message_and_tells_only_the_new_text(people: Speaking) -> None:
    chat = await people.group()
    message = await people.say(ANN, chat)
    await people.say(CAT, chat)
    await take_emitted(people.database)
    answer = await people.edit(ANN, chat, message, "ho")
    record = await people.told()
    assert (answer["update_id"], answer["type"], answer["content"]["text"]) == (message, "text_message", "ho")
    assert answer["content"]["edited"] == record.data
    assert record.data["content"] == {"message_id": message, "new_text": "ho"}
    assert sorted(record.receivers) == ["ann", "ben", "cat"]
    snapshot = record.context["message"]
    assert (snapshot["text"], snapshot["edited_us"], snapshot["update_id"]) == ("ho", record.context["at_us"], message)
    assert snapshot["created_us"] < snapshot["edited_us"]
    assert [reader["id"] for reader in snapshot["readers"]] == ["cat"]


async def test_a_message_is_also_named_by_its_uuid(people: Speaking) -> None:
    chat = await people.group()
    message = await people.say(ANN, chat)
    answer = await people.updates.edit_text(ANN, Kind.GROUP, chat, message_uuid(chat, message), "ho")
    assert answer["content"]["text"] == "ho"


async def test_a_reaction_is_told_with_its_time(people: Speaking) -> None:
    chat = await people.group()
    message = await people.say(ANN, chat)
    await take_emitted(people.database)
    await people.react(BEN, chat, message, "bzZZ")
    record = await people.told()
    assert (record.data["type"], record.data["sender_id"]) == ("reaction", "ben")
    assert record.data["content"] == {"reaction": "bzZZ", "message_id": message}
    assert record.data["created_at"].endswith("Z")
    assert sorted(record.receivers) == ["ann", "ben", "cat"]
    assert record.context["message"]["update_id"] == message


async def test_several_reactions_of_one_user_stand_side_by_side(people: Speaking) -> None:
    chat = await people.group()
    message = await people.say(ANN, chat)
    for name in ("heart", "like", "cry"):
        await people.react(BEN, chat, message, name)
    await people.react(CAT, chat, message, "heart")
    (shown, *_) = await people.read(ANN, chat)
    names = ["heart", "like", "cry", "heart"]
    assert [reaction["content"]["reaction"] for reaction in shown["content"]["reactions"]] == names


async def test_a_reaction_that_stands_is_not_given_again_until_it_was_taken_back(people: Speaking) -> None:
    chat = await people.group()
    message, other = await people.say(ANN, chat), await people.say(ANN, chat)
    reaction = await people.react(BEN, chat, message, "heart")
    await take_emitted(people.database)
    assert await code(people.react(BEN, chat, message, "heart"), InvalidInput) == "invalid_reaction_type"
    assert await take_emitted(people.database) == []
    await people.react(BEN, chat, other, "heart")
    await people.react(CAT, chat, message, "heart")
    await people.updates.delete_reaction(BEN, Kind.GROUP, chat, reaction)
    await people.react(BEN, chat, message, "heart")
    assert await code(people.react(BEN, chat, message, "heart"), InvalidInput) == "invalid_reaction_type"
    (shown, *_) = await people.read(ANN, chat)
    assert [reaction["sender_id"] for reaction in shown["content"]["reactions"]] == ["cat", "ben"]


async def test_of_one_reaction_that_is_given_twice_at_once_one_stands(people: Speaking) -> None:
    chat = await people.group()
    message = await people.say(ANN, chat)
    given = await outcomes(*(people.react(BEN, chat, message, "heart") for _ in range(6)))
    assert sorted(given) == ["done"] + ["invalid_reaction_type"] * 5
    (shown, *_) = await people.read(ANN, chat)
    assert len(shown["content"]["reactions"]) == 1


async def test_a_deletion_for_all_is_told_to_all_and_takes_everything_away(people: Speaking) -> None:
    chat = await people.group()
    message = await people.say(ANN, chat, "private", attachments={await people.file(): {}})
    await people.edit(ANN, chat, message, "still private")
    await people.react(CAT, chat, message)
    await take_emitted(people.database)
    answer = await people.delete(BEN, chat, message)
    record = await people.told()
    assert record.data == answer
    assert (answer["type"], answer["sender_id"]) == ("delete", "ben")
    assert answer["content"] == {"deleted_id": message, "deleted_mode": "all"}
    assert sorted(record.receivers) == ["ann", "ben", "cat"]
    snapshot = record.context["message"]
    assert (snapshot["deleted"], snapshot["text"], snapshot["attachments"]) == (True, "", [])
    assert isinstance(snapshot["number"], int)
    assert await people.read(ANN, chat) == [answer]
    for column, table in (("text", "messages"), ("content::text", "updates"), ("file_name", "attachments")):
        kept = await people.database.pool.fetch(f"SELECT {column} FROM {table}")
        assert not [row for row in kept if "private" in row[0] or "cat.jpg" in row[0]]


def api(people: Speaking) -> httpx.AsyncClient:
    """Ann's client of the paths of updates."""
    return opened(make_shell(paths.routes(people), keeper=Answers(people.database)), "ann")


async def kept(people: Speaking) -> str:
    """All answers that are kept, in one text."""
    rows = await people.database.pool.fetch("SELECT convert_from(body, 'UTF8') AS body FROM idempotency")
    return "\n".join(row["body"] for row in rows)


@pytest.mark.parametrize("wire", Wire)
@pytest.mark.parametrize("what", ["text", "files", "file", "forward", "secret"])
async def test_a_deletion_for_all_takes_it_from_the_kept_answers_too(database: Database, wire: Wire, what: str) -> None:
    people = Speaking(database, wire)
    secret = what == "secret"
    group, kind = await people.group(secret=secret), Kind.SECRET_GROUP if secret else Kind.GROUP
    named: dict[str, Any] = {"client_message_id": "c1"}
    path = f"/v1.0/chat/group/{group}/update/message/text"
    if secret:
        path = f"/v1.0/chat/group/secret/{group}/update/secret"
        body = SECRET | named
    else:
        first = await people.say(BEN, group)
        body = {"text": "private", "reply_to": first, "parent": first} | named
    match what:
        case "files":
            files = [{"file_id": str(await people.file()), "meta": {"a": "private"}}, str(await people.file())]
            body |= {"attachments": files}
        case "file":
            path = path.removesuffix("text") + "file"
            body |= {"file_id": str(await people.file())}
        case "forward":
            source = await people.group(ANN)
            body = {"message": await people.say(ANN, source, "private"), "from_chat_id": str(source)} | named
            path = path.removesuffix("message/text") + "text-message/forward"
    async with api(people) as client:
        first_try = await client.post(path, json=body, headers={"idempotency-key": "k"})
        assert first_try.status_code == 200, first_try.text
        update_id = first_try.json()["data"]["update_id"]
        assert [word for word in ("private", "cat.jpg", SECRET["payload"]) if word in await kept(people)]
        if secret:
            await people.updates.delete_secret(BEN, kind, group, update_id)
        else:
            await people.delete(BEN, group, update_id)
        assert not [word for word in ("private", "cat.jpg", SECRET["payload"]) if word in await kept(people)]
        again = await client.post(path, json=body, headers={"idempotency-key": "k"})
        by_name = await client.post(path, json=body, headers={"idempotency-key": "k2"})
    assert (again.status_code, again.headers["idempotency-replayed"]) == (200, "true")
    assert again.json() == by_name.json(), "a repeat is answered by key as by the client's own name for it"
    assert again.json()["data"] | {"content": {}} == first_try.json()["data"] | {"content": {}}
    assert not [word for word in ("private", "cat.jpg", SECRET["payload"]) if word in again.text]
    assert len(await people.read(ANN, group)) == (1 if secret else 2)


async def test_what_stands_keeps_its_answers(people: Speaking) -> None:
    chat, other = await people.group(), await people.group()
    async with api(people) as client:

        async def say(where: UUID, key: str) -> httpx.Response:
            path = f"/v1.0/chat/group/{where}/update/message/text"
            return await client.post(path, json={"text": f"text {key}"}, headers={"idempotency-key": key})

        said = {key: await say(where, key) for key, where in (("1", chat), ("2", chat), ("3", other))}
        await people.delete(ANN, chat, 1)
        await people.delete(BEN, chat, 2, "only_me")
        for key, where in (("2", chat), ("3", other)):
            assert (await say(where, key)).content == said[key].content
        assert (await say(chat, "1")).json()["data"]["content"] == {"text": ""}


async def test_a_reaction_s_answer_is_kept_as_the_reaction_is(people: Speaking) -> None:
    chat = await people.group()
    message = await people.say(BEN, chat)
    async with api(people) as client:
        path, body = f"/v1.0/chat/group/{chat}/update/reaction", {"reaction": "heart", "message_id": message}
        first = await client.post(path, json=body, headers={"idempotency-key": "k"})
        await people.delete(BEN, chat, message)
        assert (await client.post(path, json=body, headers={"idempotency-key": "k"})).content == first.content


async def test_an_answer_that_is_given_again_while_its_message_is_deleted_is_not_kept_with_its_text(
    people: Speaking,
) -> None:
    chat = await people.group()
    message = await people.say(ANN, chat, "private", client_message_id="c1")
    read, go_on = asyncio.Event(), asyncio.Event()

    async def keep(unit: Unit, answer: Answer) -> None:
        if "private" not in str(answer) or answer["update_id"] != message:
            return
        read.set()
        await go_on.wait()
        body = str(answer).encode().replace(b"'", b'"')
        stored = Stored(b"h", 200, b'{"data":' + body + b"}")
        unit.keep(Kept("ann", "/", str(uuid4()), stored, UUID(answer["chat_id"]), answer["update_id"]))

    again = asyncio.create_task(people.say(ANN, chat, "private", client_message_id="c1", record=keep))
    await asyncio.wait_for(read.wait(), 10)
    deletion = asyncio.create_task(people.delete(BEN, chat, message))
    await asyncio.wait([deletion], timeout=0.5)
    go_on.set()
    await asyncio.gather(again, deletion)
    assert "private" not in await kept(people)
    assert await people.database.pool.fetchval("SELECT count(*) FROM idempotency") == 1


async def test_a_file_is_deleted_in_a_group_too(people: Speaking) -> None:
    chat = await people.group()
    message = await people.show(ANN, chat)
    await people.delete(ANN, chat, message)
    assert [update["type"] for update in await people.read(ANN, chat)] == ["delete"]


async def test_a_deletion_for_oneself_is_told_to_one_s_own_devices_only(people: Speaking) -> None:
    chat = await people.group()
    message = await people.say(ANN, chat)
    await take_emitted(people.database)
    answer = await people.delete(BEN, chat, message, "only_me")
    assert (await people.told()).receivers == ["ben"]
    assert answer["content"]["deleted_mode"] == "only_me"
    assert await people.read(BEN, chat) == [answer]
    assert [update["update_id"] for update in await people.read(ANN, chat)] == [message]


async def test_who_deleted_a_message_for_itself_is_told_nothing_more_about_it(people: Speaking) -> None:
    chat = await people.group()
    message = await people.say(ANN, chat)
    await people.react(ANN, chat, message)
    await people.delete(BEN, chat, message, "only_me")
    await take_emitted(people.database)
    reaction = await people.react(CAT, chat, message)
    assert sorted((await people.told()).receivers) == ["ann", "cat"]
    await people.edit(ANN, chat, message)
    assert sorted((await people.told()).receivers) == ["ann", "cat"]
    await people.updates.delete_reaction(CAT, Kind.GROUP, chat, reaction)
    assert sorted((await people.told()).receivers) == ["ann", "cat"]
    # Neither its reactions nor its edits are to be seen; what was taken back and deleted tells nothing about it.
    assert [update["type"] for update in await people.read(BEN, chat)] == ["delete", "delete"]
    assert len(await people.read(CAT, chat)) == 4
    await people.delete(ANN, chat, message)
    assert sorted((await people.told()).receivers) == ["ann", "cat"]


async def test_a_reaction_taken_back_is_an_update_in_groups_too(people: Speaking) -> None:
    for kind, chat in ((Kind.GROUP, await people.group()), (Kind.PERSONAL, await people.personal())):
        message = await people.say(ANN, chat, kind=kind)
        reaction = await people.react(BEN, chat, message, kind=kind)
        await take_emitted(people.database)
        answer = await people.updates.delete_reaction(BEN, kind, chat, reaction)
        record = await people.told()
        assert record.data == answer
        assert answer["content"] == {"deleted_id": reaction, "deleted_mode": "all"}
        assert {"ann", "ben"} <= set(record.receivers)
        assert record.context["reaction"] == "heart"
        shown = await people.read(ANN, chat)
        assert [update["update_id"] for update in shown] == [message, answer["update_id"]]
        assert "reactions" not in shown[0]["content"]


async def test_any_member_takes_a_secret_away_and_all_are_told(people: Speaking) -> None:
    for kind, chat in (
        (Kind.SECRET_PERSONAL, await people.personal(secret=True)),
        (Kind.SECRET_GROUP, await people.group(secret=True)),
    ):
        secret = await people.whisper(ANN, chat, kind)
        await take_emitted(people.database)
        answer = await people.updates.delete_secret(BEN, kind, chat, secret)
        record = await people.told()
        assert record.data == answer
        assert {"ann", "ben"} <= set(record.receivers)
        assert await people.read(ANN, chat) == [answer]
        assert await people.database.pool.fetchval("SELECT count(*) FROM updates WHERE content::text LIKE '%aGk%'") == 0


async def test_a_read_shows_messages_with_their_newest_edit_and_reactions_in_order(people: Speaking) -> None:
    chat = await people.group()
    first = await people.say(ANN, chat, "1")
    second = await people.say(BEN, chat, "2")
    await people.edit(ANN, chat, first, "one")
    newest = (await people.edit(ANN, chat, first, "uno"))["content"]["edited"]
    await people.react(CAT, chat, second)
    shown = await people.read(CAT, chat)
    assert [update["update_id"] for update in shown] == [1, 2, 3, 4, 5]
    assert shown[0]["content"] == {"text": "uno", "edited": newest}
    assert shown[1]["content"]["reactions"] == [shown[4]]
    assert await people.read(CAT, chat, 2, 3) == shown[1:3]
    assert await people.read(CAT, chat, 5, 1) == []
    assert await people.read(CAT, chat, 6, 9) == []


async def test_a_long_range_is_read_in_pages(people: Speaking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "MAX_UPDATES_PER_PAGE", 3)
    chat = await people.group()
    for number in range(7):
        await people.say(ANN, chat, str(number))
    await people.delete(ANN, chat, 4)
    found, begin = [], 1
    while begin:
        page = await people.updates.read(BEN, chat, begin, 8)
        assert len(page["updates"]) <= 3
        found += [update["update_id"] for update in page["updates"]]
        begin = page.get("next_from", 0)
    assert found == [1, 2, 3, 5, 6, 7, 8]


async def test_a_range_is_of_64_bits(people: Speaking) -> None:
    chat = await people.group()
    assert await people.read(ANN, chat, -(1 << 63) + 1, (1 << 63) - 1) == []
    assert await code(people.read(ANN, chat, 1, 1 << 63), InvalidInput) == "validation_failed"
    assert await code(people.read(ANN, chat, -(1 << 63), 1), InvalidInput) == "validation_failed"


async def test_who_left_reads_no_more_and_who_came_later_reads_all(people: Speaking) -> None:
    chat = await people.group(ANN, BEN)
    message = await people.say(ANN, chat)
    await people.groups.add_member(ANN, chat, Kind.GROUP, STRANGER.id)
    assert (await people.read(STRANGER, chat))[0]["update_id"] == message
    await people.groups.remove_member(ANN, chat, Kind.GROUP, STRANGER.id)
    assert await code(people.read(STRANGER, chat), NotFound) == "chat_not_found"


async def test_a_deleted_chat_is_none(people: Speaking) -> None:
    chat = await people.personal()
    await people.chats.delete(ANN, chat, Kind.PERSONAL)
    assert await code(people.read(ANN, chat), NotFound) == "chat_not_found"
    assert await code(people.say(ANN, chat, kind=Kind.PERSONAL), NotFound) == "chat_not_found"


async def test_whatever_changes_an_update_marks_it_for_sync(people: Speaking) -> None:
    chat = await people.group()
    message = await people.say(ANN, chat)

    async def changed() -> int:
        found: int = await people.database.pool.fetchval(
            "SELECT changed::text::bigint FROM updates WHERE chat_id = $1 AND update_id = $2", chat, message
        )
        return found

    seen = [await changed()]
    await people.edit(ANN, chat, message)
    seen.append(await changed())
    reaction = await people.react(BEN, chat, message)
    seen.append(await changed())
    await people.updates.delete_reaction(BEN, Kind.GROUP, chat, reaction)
    seen.append(await changed())
    await people.delete(ANN, chat, message)
    seen.append(await changed())
    assert seen == sorted(set(seen))
