"""Every example of the written contract, and of chakchat's code, has a call that emits or answers its shape."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import msgspec
import pytest

from tests.integration.messaging.emitted import take_emitted
from tests.integration.messaging.speaking import ANN, BEN, CAT, Speaking
from tests.vectors import load
from tidings.contract import events
from tidings.messaging.domain.model import Kind
from tidings.messaging.store.database import Database
from tidings.messaging.wire import Wire

Shown = tuple[str, Any]
"""Type and data of a record."""
Call = Callable[[Speaking], Awaitable[Shown]]

DAY_NS = 86_400_000_000_000


async def _last(people: Speaking) -> Shown:
    record = (await take_emitted(people.database))[-1]
    return record.type, record.data


async def text(people: Speaking) -> Shown:
    await people.say(ANN, await people.group())
    return await _last(people)


async def answer(people: Speaking) -> Shown:
    chat = await people.group()
    await people.say(BEN, chat, reply_to=await people.say(ANN, chat))
    return await _last(people)


async def text_read_again(people: Speaking) -> Shown:
    chat = await people.group()
    message = await people.say(ANN, chat)
    await people.edit(ANN, chat, message)
    await people.react(BEN, chat, message)
    return "update", (await people.read(CAT, chat))[0]


async def answer_read_again(people: Speaking) -> Shown:
    chat = await people.group()
    message = await people.say(BEN, chat, reply_to=await people.say(ANN, chat))
    await people.edit(BEN, chat, message)
    await people.react(ANN, chat, message)
    return "update", (await people.read(CAT, chat, message))[0]


async def high_number(people: Speaking) -> Shown:
    chat = await people.group()
    await people.database.pool.execute("UPDATE chats SET last_update_id = 9007199254740992 WHERE id = $1", chat)
    assert await people.say(ANN, chat) == 9_007_199_254_740_993
    shown = await _last(people)
    assert shown[1]["update_id"] == 9_007_199_254_740_993
    return shown


async def edit(people: Speaking) -> Shown:
    chat = await people.group()
    await people.edit(ANN, chat, await people.say(ANN, chat))
    return await _last(people)


async def file(people: Speaking) -> Shown:
    await people.show(ANN, await people.group())
    return await _last(people)


async def file_as_answer(people: Speaking) -> Shown:
    chat = await people.group()
    await people.show(BEN, chat, reply_to=await people.say(ANN, chat))
    return await _last(people)


async def reaction(people: Speaking) -> Shown:
    chat = await people.group()
    await people.react(BEN, chat, await people.say(ANN, chat))
    return await _last(people)


async def deletion(people: Speaking) -> Shown:
    chat = await people.group()
    await people.delete(BEN, chat, await people.say(ANN, chat))
    return await _last(people)


async def deletion_for_oneself(people: Speaking) -> Shown:
    chat = await people.group()
    await people.delete(BEN, chat, await people.say(ANN, chat), "only_me")
    return await _last(people)


async def reaction_taken_back(people: Speaking) -> Shown:
    chat = await people.group()
    taken = await people.react(BEN, chat, await people.say(ANN, chat))
    await people.updates.delete_reaction(BEN, Kind.GROUP, chat, taken)
    return await _last(people)


async def secret(people: Speaking) -> Shown:
    await people.whisper(ANN, await people.personal(secret=True))
    return await _last(people)


async def personal_created(people: Speaking) -> Shown:
    await people.personal()
    return await _last(people)


async def blocked_chat(people: Speaking) -> Shown:
    return "chat_created", {"sender_id": "ann", "chat": await people.chats.block(BEN, await people.personal())}


async def group_created(people: Speaking) -> Shown:
    await people.group()
    return await _last(people)


async def secret_personal_created(people: Speaking) -> Shown:
    await people.personal(secret=True)
    return await _last(people)


async def secret_group(people: Speaking) -> Shown:
    chat = await people.group(secret=True)
    data = await people.secrets.set_expiration(ANN, chat, DAY_NS, Kind.SECRET_GROUP)
    return "chat_created", {"sender_id": "ann", "chat": data}


async def chat_with_preview(people: Speaking) -> Shown:
    chat = await people.group()
    await people.say(ANN, chat)
    shown = await people.chats.get(BEN, chat, last_update_id=True, preview=1)
    return "chat_created", {"sender_id": "ann", "chat": shown}


async def chat_deleted(people: Speaking) -> Shown:
    await people.chats.delete(ANN, await people.group(), Kind.GROUP)
    return await _last(people)


async def chat_blocked(people: Speaking) -> Shown:
    await people.chats.block(ANN, await people.personal())
    return await _last(people)


async def chat_unblocked(people: Speaking) -> Shown:
    chat = await people.personal()
    await people.chats.block(ANN, chat)
    await people.chats.unblock(ANN, chat)
    return await _last(people)


async def expiration(people: Speaking) -> Shown:
    await people.secrets.set_expiration(ANN, await people.group(secret=True), DAY_NS, Kind.SECRET_GROUP)
    return await _last(people)


async def no_expiration(people: Speaking) -> Shown:
    await people.secrets.set_expiration(BEN, await people.personal(secret=True), None, Kind.SECRET_PERSONAL)
    return await _last(people)


async def group_info(people: Speaking) -> Shown:
    await people.groups.set_info(ANN, await people.group(), Kind.GROUP, "Group", "About")
    return await _last(people)


async def group_photo(people: Speaking) -> Shown:
    chat = await people.group()
    await people.groups.set_photo(ANN, chat, Kind.GROUP, await people.file())
    await people.groups.delete_photo(ANN, chat, Kind.GROUP)
    shown = await _last(people)
    assert shown[1]["sender_id"] == "ann"
    return shown


async def _of_members(people: Speaking, type_: str) -> Shown:
    (record,) = [record for record in await take_emitted(people.database) if record.type == type_]
    return record.type, record.data


async def member_added(people: Speaking) -> Shown:
    await people.groups.add_member(ANN, await people.group(ANN, BEN), Kind.GROUP, CAT.id)
    return await _of_members(people, "group_members_added")


async def member_removed(people: Speaking) -> Shown:
    await people.groups.remove_member(ANN, await people.group(), Kind.GROUP, CAT.id)
    return await _of_members(people, "group_members_removed")


SEED: dict[str, Call] = {
    "update.text_message": answer_read_again,
    "update.file": file,
    "update.reaction": reaction,
    "update.delete.all": deletion,
    "update.delete.only_me": deletion_for_oneself,
    "chat_created": group_created,
    "chat_deleted": chat_deleted,
    "chat_blocked": chat_blocked,
    "chat_unblocked": chat_unblocked,
    "chat_expiration_set": no_expiration,
    "group_info_updated": group_info,
    "group_members_added": member_added,
    "group_members_removed": member_removed,
}
CHAKCHAT: dict[str, Call] = {
    "update.text_message": text,
    "update.text_message, an answer": answer,
    "update.text_message, of a read: edited and reactions": text_read_again,
    "update.text_message, nothing as null": text,
    "update.text_message, an integer over 2^53": high_number,
    "update.text_message_edited, live": edit,
    "update.file_message": file,
    "update.file_message, an answer": file_as_answer,
    "update.reaction, live: no time": reaction,
    "update.update_deleted": deletion,
    "update.update_deleted, for oneself": deletion_for_oneself,
    "update.secret_update": secret,
    "chat_created, personal": personal_created,
    "chat_created, personal and blocked": blocked_chat,
    "chat_created, group": group_created,
    "chat_created, secret personal": secret_personal_created,
    "chat_created, secret group": secret_group,
    "chat_created, with a preview": chat_with_preview,
    "chat_deleted": chat_deleted,
    "chat_blocked": chat_blocked,
    "chat_unblocked": chat_unblocked,
    # There a reaction taken back in a group came as a chat_deleted: mended, it is an update as elsewhere.
    "chat_deleted, with the data of a deletion": reaction_taken_back,
    "chat_expiration_set": expiration,
    "chat_expiration_set, none": no_expiration,
    "group_info_updated": group_info,
    "group_info_updated, by nobody": group_photo,
    "group_members_added": member_added,
    "group_members_removed": member_removed,
}
MENDED = {"chat_deleted, with the data of a deletion": "update"}


def _vectors(name: str) -> dict[str, Any]:
    return {vector["name"]: vector["record"] for vector in load(name)["vectors"]}


def must_be_alike(ours: Any, theirs: Any, place: str) -> None:
    """The same keys and types of JSON. A null of theirs stands for anything, and for nothing at all."""
    if theirs is None:
        return
    assert type(ours) is type(theirs), f"{place}: {ours!r} where the example has {theirs!r}"
    if isinstance(theirs, dict):
        needed = {key for key, value in theirs.items() if value is not None}
        assert needed <= ours.keys() <= theirs.keys(), f"{place}: {sorted(ours)} where the example has {sorted(theirs)}"
        for key in ours:
            must_be_alike(ours[key], theirs[key], f"{place}.{key}")
    elif isinstance(theirs, list) and theirs:
        assert ours, f"{place} is empty"
        must_be_alike(ours[0], theirs[0], f"{place}[0]")


async def _check(people: Speaking, name: str, call: Call, vector: Any) -> None:
    type_, data = await call(people)
    assert type_ == MENDED.get(name, vector["type"])
    assert events.parse(type_, msgspec.json.encode(data)) is not None
    must_be_alike(data, vector["data"], "data")
    # Names and modes are the example's own, not only their types.
    for key in ("type",):
        assert data.get(key) == vector["data"].get(key)
    mode = (vector["data"].get("content") or {}).get("deleted_mode")
    assert (data.get("content") or {}).get("deleted_mode") == mode


@pytest.mark.parametrize("name", _vectors("chakchat.json"))
async def test_the_written_contract(database: Database, name: str) -> None:
    await _check(Speaking(database), name, SEED[name], _vectors("chakchat.json")[name])


@pytest.mark.parametrize("name", _vectors("chakchat_code.json"))
async def test_chakchats_code(database: Database, name: str) -> None:
    await _check(Speaking(database, Wire.CHAKCHAT), name, CHAKCHAT[name], _vectors("chakchat_code.json")[name])


async def test_ids_are_uuids_where_the_contract_has_uuids(database: Database) -> None:
    type_, data = await answer(Speaking(database))
    assert type_ == "update"
    assert UUID(data["chat_id"]).version == 7
    assert UUID(data["content"]["reply_to"]).version == 5
