"""What is refused of writing, changing and deleting: a test for each rule."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.integration.messaging.emitted import take_emitted
from tests.integration.messaging.outcomes import code
from tests.integration.messaging.speaking import ANN, BEN, CAT, SECRET, Speaking
from tidings.errors import Conflict, Forbidden, InvalidInput, NotFound
from tidings.messaging.domain.limits import (
    MAX_ATTACHMENTS,
    MAX_CLIENT_MESSAGE_ID_CHARS,
    MAX_META_BYTES,
    MAX_SECRET_CHARS,
    MAX_TEXT_CHARS,
    REACTIONS,
)
from tidings.messaging.domain.model import Kind, UpdateType
from tidings.messaging.store.database import Database

UNKNOWN = 999


@pytest.fixture
def people(database: Database) -> Speaking:
    return Speaking(database)


async def test_an_empty_text_is_refused(people: Speaking) -> None:
    chat = await people.group()
    message = await people.say(ANN, chat)
    assert await code(people.say(ANN, chat, ""), InvalidInput) == "text_empty"
    assert await code(people.edit(ANN, chat, message, ""), InvalidInput) == "text_empty"


async def test_a_text_has_at_most_2000_characters_whatever_their_bytes(people: Speaking) -> None:
    chat = await people.group()
    message = await people.say(ANN, chat, "😀" * MAX_TEXT_CHARS)
    await people.edit(ANN, chat, message, "ü" * MAX_TEXT_CHARS)
    assert await code(people.say(ANN, chat, "a" * (MAX_TEXT_CHARS + 1)), InvalidInput) == "too_many_characters"
    too_long = people.edit(ANN, chat, message, "a" * (MAX_TEXT_CHARS + 1))
    assert await code(too_long, InvalidInput) == "too_many_characters"


async def test_a_text_that_postgres_cannot_keep_is_refused(people: Speaking) -> None:
    chat = await people.group()
    message = await people.say(ANN, chat)
    for text in ("a\0b", "\ud800"):
        assert await code(people.say(ANN, chat, text), InvalidInput) == "validation_failed"
        assert await code(people.edit(ANN, chat, message, text), InvalidInput) == "validation_failed"


async def test_an_unknown_file_or_another_s_is_not_shown(people: Speaking) -> None:
    chat = await people.group()
    for file in (uuid4(), await people.file(BEN)):
        send = people.messages.send_file(ANN, Kind.GROUP, chat, file)
        assert await code(send, NotFound) == "file_not_found"
    attach = people.say(ANN, chat, attachments={await people.file(): {}, uuid4(): {}})
    assert await code(attach, NotFound) == "file_not_found"


async def test_a_file_has_at_most_a_gibibyte(people: Speaking) -> None:
    await people.file(size=1 << 30)
    assert await code(people.file(size=(1 << 30) + 1), InvalidInput) == "file_too_big"


async def test_a_message_has_at_most_so_many_files(people: Speaking) -> None:
    chat = await people.group()
    files: dict[UUID, dict[str, Any]] = {await people.file(): {} for _ in range(MAX_ATTACHMENTS)}
    await people.say(ANN, chat, attachments=files)
    files[await people.file()] = {}
    assert await code(people.say(ANN, chat, attachments=files), InvalidInput) == "validation_failed"


async def test_what_is_said_about_a_file_is_short_and_can_be_kept(people: Speaking) -> None:
    chat = await people.group()
    file = await people.file()
    await people.say(ANN, chat, attachments={file: {"a": "b" * (MAX_META_BYTES - 8)}})
    for meta in ({"a": "b" * (MAX_META_BYTES - 7)}, {"a": "\0"}, {"a\0": 1}):
        assert await code(people.say(ANN, chat, attachments={file: meta}), InvalidInput) == "validation_failed"


async def test_a_client_message_id_is_short_and_can_be_kept(people: Speaking) -> None:
    chat = await people.group()
    await people.say(ANN, chat, client_message_id="c" * MAX_CLIENT_MESSAGE_ID_CHARS)
    for name in ("", "c" * (MAX_CLIENT_MESSAGE_ID_CHARS + 1), "\0"):
        assert await code(people.say(ANN, chat, client_message_id=name), InvalidInput) == "validation_failed"


@pytest.mark.parametrize("reaction", ["", "Heart", "heart ", "black_smile", "bzzz"])
async def test_only_the_known_reactions_are_taken(people: Speaking, reaction: str) -> None:
    chat = await people.group()
    message = await people.say(ANN, chat)
    assert await code(people.react(ANN, chat, message, reaction), InvalidInput) == "invalid_reaction_type"


async def test_all_known_reactions_are_taken(people: Speaking) -> None:
    chat = await people.group()
    message = await people.say(ANN, chat)
    assert sorted(REACTIONS) == ["bzZZ", "cry", "dislike", "heart", "like", "thunder"]
    for reaction in REACTIONS:
        await people.react(BEN, chat, message, reaction)


async def test_while_anybody_blocks_nobody_writes_or_changes_anything(people: Speaking) -> None:
    chat, group = await people.personal(), await people.group()
    message = await people.say(ANN, chat, kind=Kind.PERSONAL)
    reaction = await people.react(BEN, chat, message, kind=Kind.PERSONAL)
    source = await people.say(ANN, group)
    await people.chats.block(BEN, chat)
    await take_emitted(people.database)
    for who in (ANN, BEN):
        for work in (
            people.say(who, chat, kind=Kind.PERSONAL),
            people.show(who, chat, kind=Kind.PERSONAL),
            people.edit(who, chat, message, kind=Kind.PERSONAL),
            people.delete(who, chat, message, kind=Kind.PERSONAL),
            people.delete(who, chat, message, "only_me", Kind.PERSONAL),
            people.react(who, chat, message, kind=Kind.PERSONAL),
            people.updates.delete_reaction(who, Kind.PERSONAL, chat, reaction),
            people.forward(who, chat, source, group, kind=Kind.PERSONAL),
        ):
            assert await code(work, Forbidden) == "chat_blocked"
        assert len(await people.read(who, chat)) == 2
    assert await take_emitted(people.database) == []
    # Out of a blocked chat one may forward; and once it is open again, one may write.
    await people.forward(ANN, group, message, chat)
    await people.chats.unblock(BEN, chat)
    await people.say(ANN, chat, kind=Kind.PERSONAL)


async def test_only_the_sender_edits_a_text(people: Speaking) -> None:
    chat = await people.group(ANN, BEN)
    message = await people.say(BEN, chat)
    assert await code(people.edit(ANN, chat, message), Forbidden) == "user_not_sender"
    await people.edit(BEN, chat, message)


async def test_only_texts_are_edited(people: Speaking) -> None:
    chat = await people.group()
    file = await people.show(ANN, chat)
    message = await people.say(ANN, chat)
    reaction = await people.react(ANN, chat, message)
    for target in (file, reaction, UNKNOWN):
        assert await code(people.edit(ANN, chat, target), NotFound) == "message_not_found"


async def test_only_messages_are_answered_commented_reacted_to_and_deleted(people: Speaking) -> None:
    for kind, chat in ((Kind.GROUP, await people.group()), (Kind.PERSONAL, await people.personal())):
        message = await people.say(ANN, chat, kind=kind)
        reaction = await people.react(ANN, chat, message, kind=kind)
        for target in (reaction, UNKNOWN):
            for work in (
                people.say(ANN, chat, kind=kind, reply_to=target),
                people.show(ANN, chat, kind=kind, reply_to=target),
                people.say(ANN, chat, kind=kind, parent=target),
                people.react(ANN, chat, target, kind=kind),
                people.delete(ANN, chat, target, kind=kind),
                people.forward(ANN, chat, target, chat, kind=kind),
            ):
                assert await code(work, NotFound) == "message_not_found"


async def test_a_forwarded_message_is_of_the_kind_that_the_caller_means(people: Speaking) -> None:
    chat, secret = await people.group(), await people.personal(secret=True)
    text, file = await people.say(ANN, chat), await people.show(ANN, chat)
    whispered = await people.whisper(ANN, secret)
    for message, source, type_ in (
        (text, chat, UpdateType.FILE),
        (file, chat, UpdateType.TEXT),
        (whispered, secret, UpdateType.TEXT),
        (whispered, secret, UpdateType.FILE),
    ):
        assert await code(people.forward(ANN, chat, message, source, type_), NotFound) == "message_not_found"


async def test_nothing_is_forwarded_from_a_chat_of_others(people: Speaking) -> None:
    chat, other = await people.group(), await people.group(BEN, CAT)
    message = await people.say(BEN, other)
    for source in (other, uuid4()):
        assert await code(people.forward(ANN, chat, message, source), NotFound) == "chat_not_found"


@pytest.mark.parametrize("mode", ["all", "only_me"])
async def test_what_was_deleted_is_past_everything(people: Speaking, mode: str) -> None:
    chat = await people.group()
    message = await people.say(ANN, chat)
    reaction = await people.react(ANN, chat, message)
    await people.delete(ANN, chat, message, "all" if mode == "all" else "only_me")
    await take_emitted(people.database)
    for work in (
        people.delete(ANN, chat, message),
        people.delete(ANN, chat, message, "only_me"),
        people.edit(ANN, chat, message),
        people.react(ANN, chat, message),
        people.say(ANN, chat, reply_to=message),
        people.say(ANN, chat, parent=message),
        people.forward(ANN, chat, message, chat),
    ):
        assert await code(work, Conflict) == "update_deleted"
    if mode == "all":
        taken = people.updates.delete_reaction(ANN, Kind.GROUP, chat, reaction)
        assert await code(taken, Conflict) == "update_deleted"
    assert await take_emitted(people.database) == []


async def test_what_one_deleted_for_itself_stays_for_the_others(people: Speaking) -> None:
    chat = await people.group()
    message = await people.say(ANN, chat)
    await people.delete(BEN, chat, message, "only_me")
    await people.react(CAT, chat, message)
    await people.delete(CAT, chat, message, "only_me")
    await people.delete(ANN, chat, message)


async def test_only_its_sender_takes_a_reaction_back_and_once(people: Speaking) -> None:
    chat = await people.group()
    message = await people.say(ANN, chat)
    reaction = await people.react(BEN, chat, message)

    async def take_back(who: object, target: int) -> None:
        await people.updates.delete_reaction(BEN if who is BEN else ANN, Kind.GROUP, chat, target)

    assert await code(take_back(ANN, reaction), Forbidden) == "reaction_not_from_user"
    for target in (message, UNKNOWN):
        assert await code(take_back(BEN, target), NotFound) == "reaction_not_found"
    await take_back(BEN, reaction)
    assert await code(take_back(BEN, reaction), Conflict) == "update_deleted"


async def test_secret_chats_take_secrets_and_nothing_else(people: Speaking) -> None:
    for secret, plain, chat in (
        (Kind.SECRET_PERSONAL, Kind.PERSONAL, await people.personal(secret=True)),
        (Kind.SECRET_GROUP, Kind.GROUP, await people.group(secret=True)),
    ):
        whispered = await people.whisper(ANN, chat, secret)
        for work in (
            people.say(ANN, chat, kind=plain),
            people.show(ANN, chat, kind=plain),
            people.edit(ANN, chat, whispered, kind=plain),
            people.react(ANN, chat, whispered, kind=plain),
            people.delete(ANN, chat, whispered, kind=plain),
        ):
            assert await code(work, NotFound) == "chat_not_found"


async def test_secrets_are_for_secret_chats(people: Speaking) -> None:
    for secret, chat in (
        (Kind.SECRET_PERSONAL, await people.personal()),
        (Kind.SECRET_GROUP, await people.group()),
    ):
        assert await code(people.whisper(ANN, chat, secret), NotFound) == "chat_not_found"


async def test_the_path_must_name_the_chat_s_own_kind(people: Speaking) -> None:
    chat = await people.group()
    message = await people.say(ANN, chat)
    assert await code(people.say(ANN, chat, kind=Kind.PERSONAL), NotFound) == "chat_not_found"
    assert await code(people.delete(ANN, chat, message, kind=Kind.PERSONAL), NotFound) == "chat_not_found"


@pytest.mark.parametrize("part", list(SECRET))
async def test_the_parts_of_a_secret_are_base64_with_padding_and_not_too_long(people: Speaking, part: str) -> None:
    chat = await people.personal(secret=True)

    async def send(text: str) -> None:
        await people.messages.send_secret(ANN, Kind.SECRET_PERSONAL, chat, **{**SECRET, part: text})

    for text in ("", "aGk", "aGk=\n", "aG-_", "aGk==", "=", "aGkü", "aGk=aGk="):
        assert await code(send(text), InvalidInput) == "validation_failed"
    await send("A" * MAX_SECRET_CHARS)
    assert await code(send("A" * (MAX_SECRET_CHARS + 4)), InvalidInput) == "too_many_characters"


async def test_the_largest_secret_fits_into_one_record(people: Speaking) -> None:
    chat = await people.personal(secret=True)
    await take_emitted(people.database)
    largest: dict[str, Any] = dict.fromkeys(SECRET, "A" * MAX_SECRET_CHARS)
    await people.messages.send_secret(ANN, Kind.SECRET_PERSONAL, chat, **largest)
    assert sorted((await people.told()).receivers) == ["ann", "ben"]


async def test_secrets_are_deleted_once_and_only_secrets(people: Speaking) -> None:
    chat = await people.personal(secret=True)
    secret = await people.whisper(ANN, chat)
    deletion = await people.updates.delete_secret(BEN, Kind.SECRET_PERSONAL, chat, secret)
    for target in (deletion["update_id"], UNKNOWN):
        work = people.updates.delete_secret(BEN, Kind.SECRET_PERSONAL, chat, target)
        assert await code(work, NotFound) == "secret_update_not_found"
    again = people.updates.delete_secret(ANN, Kind.SECRET_PERSONAL, chat, secret)
    assert await code(again, Conflict) == "update_deleted"


async def test_what_is_refused_uses_no_update_id_and_tells_nobody(people: Speaking) -> None:
    chat = await people.group()
    await take_emitted(people.database)
    assert await code(people.say(ANN, chat, reply_to=UNKNOWN), NotFound) == "message_not_found"
    assert await take_emitted(people.database) == []
    assert await people.say(ANN, chat) == 1
