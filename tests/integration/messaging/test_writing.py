"""Writing texts and files: what is answered, stored and emitted."""

from typing import Any
from uuid import UUID

import pytest

from tests.integration.messaging.emitted import take_emitted
from tests.integration.messaging.listening import listening
from tests.integration.messaging.outcomes import code
from tests.integration.messaging.speaking import ANN, BEN, CAT, SECRET, STRANGER, Speaking
from tidings.errors import Conflict, InvalidInput, NotFound
from tidings.messaging.domain.limits import MAX_SECRET_CHARS
from tidings.messaging.domain.model import Kind, UpdateType
from tidings.messaging.store.database import Database
from tidings.messaging.wire import Wire, message_uuid


@pytest.fixture
def people(database: Database) -> Speaking:
    return Speaking(database)


async def test_a_text_is_answered_and_told_to_all_members_its_author_included(people: Speaking) -> None:
    chat = await people.group()
    answer = await people.messages.send_text(ANN, Kind.GROUP, chat, "hi")
    record = await people.told()
    assert list(answer) == ["update_id", "chat_id", "sender_id", "type", "created_at", "content"]
    assert (answer["update_id"], answer["chat_id"], answer["sender_id"]) == (1, str(chat), "ann")
    assert (answer["type"], answer["content"]) == ("text_message", {"text": "hi"})
    assert record.data == answer
    assert record.key == str(chat)
    assert sorted(record.receivers) == ["ann", "ben", "cat"]
    assert record.context["session"] == "ann-1"


async def test_a_text_is_kept_as_it_was_written(people: Speaking) -> None:
    chat = await people.group()
    text = " a\n\tü 😀 \u200b "
    await people.say(ANN, chat, text)
    assert [update["content"] for update in await people.read(BEN, chat)] == [{"text": text}]


async def test_the_context_of_a_message_is_a_complete_snapshot(people: Speaking) -> None:
    chat = await people.personal()
    file = await people.file()
    first = await people.say(BEN, chat, "one", Kind.PERSONAL, client_message_id="b1")
    await take_emitted(people.database)
    meta = {"width": 4}
    await people.messages.send_text(
        ANN, Kind.PERSONAL, chat, "two", reply_to=first, attachments={file: meta}, client_message_id="a1"
    )
    record = await people.told()
    context = record.context
    message = context["message"]
    assert context["chat"]["kind"] == "personal"
    assert [member["id"] for member in context["chat"]["members"]] == ["ann", "ben"]
    assert context["actor"]["id"] == "ann"
    assert isinstance(context["actor"]["number"], int)
    assert message["created_us"] == context["at_us"] == message["modified_us"]
    assert (message["message_no"], message["update_id"], message["text"]) == (2, 2, "two")
    assert (message["client_message_id"], message["parent"], message["deleted"]) == ("a1", None, False)
    assert (message["comment_count"], message["edited_us"], message["readers"]) == (0, None, [])
    assert message["id"] == str(message_uuid(chat, 2))
    assert message["reply_to"]["text"] == "one"
    assert message["reply_to"]["client_message_id"] == "b1"
    assert message["reply_to"]["sender"]["id"] == "ben"
    (attachment,) = message["attachments"]
    assert (attachment["file_id"], attachment["meta"]) == (str(file), meta)
    assert isinstance(attachment["number"], int)
    assert record.data["content"]["attachments"][0]["file_name"] == "cat.jpg"


async def test_each_receiver_is_told_what_it_missed_and_since_which_message(people: Speaking) -> None:
    chat = await people.group()
    await people.say(ANN, chat, "1", client_message_id="a1")
    await people.say(ANN, chat, "2")
    await take_emitted(people.database)
    await people.say(BEN, chat, "3", client_message_id="b1")
    context = (await people.told()).context
    assert context["receivers"] == {
        "ann": {"missed": 1, "first_missed_no": 3},
        "ben": {"missed": 0},
        "cat": {"missed": 3, "first_missed_no": 1},
    }
    assert context["names"] == {"1": "a1", "3": "b1"}


async def test_an_oldest_unread_message_without_a_name_is_named_by_its_uuid(people: Speaking) -> None:
    chat = await people.group(ANN, BEN)
    await people.say(ANN, chat, "1")
    await take_emitted(people.database)
    await people.say(ANN, chat, "2")
    context = (await people.told()).context
    assert context["receivers"]["ben"]["first_missed_no"] == 1
    assert context["names"] == {"1": str(message_uuid(chat, 1))}


async def test_who_writes_has_read_what_was_before_and_all_are_told_first(people: Speaking) -> None:
    chat = await people.group()
    await people.say(ANN, chat, "1", client_message_id="a1")
    await people.say(CAT, chat, "2")
    await take_emitted(people.database)
    await people.say(BEN, chat, "3")
    read, update = await take_emitted(people.database)
    assert (read.type, update.type) == ("marks_set", "update")
    assert {key: value for key, value in read.data.items() if key != "marked_at"} == {
        "chat_id": str(chat),
        "user_id": "ben",
        "kind": "read",
        "up_to_message_no": 2,
        "up_to_update_id": 2,
    }
    assert read.data["marked_at"] == update.data["created_at"]
    assert sorted(read.receivers) == ["ann", "ben", "cat"]
    assert read.context["receivers"]["ann"]["client_message_id"] == "a1"
    rows = await people.database.pool.fetch("SELECT kind, from_no, up_to_no FROM marks WHERE user_id = 'ben'")
    assert sorted(tuple(row) for row in rows) == [("delivered", 0, 2), ("read", 0, 2)]


async def test_who_has_read_everything_marks_nothing_by_writing(people: Speaking) -> None:
    chat = await people.group()
    await people.say(ANN, chat, "1")
    await people.say(ANN, chat, "2")
    assert [record.type for record in await take_emitted(people.database)] == ["chat_created", "update", "update"]
    assert await people.database.pool.fetchval("SELECT count(*) FROM marks") == 0


async def test_a_text_costs_six_round_trips(people: Speaking) -> None:
    chat = await people.group()
    await people.say(ANN, chat)
    async with listening(people.database.pool) as statements:
        await Speaking(statements.database).say(BEN, chat, client_message_id="b1")
    # The chat's lock, its members, all that is written, the outbox.
    verbs = [query.split()[0].rstrip(";") for query, _ in statements.sent]
    assert verbs == ["BEGIN", "SELECT", "SELECT", "WITH", "INSERT", "COMMIT"]


async def test_a_large_chat_s_records_say_nothing_about_single_receivers(people: Speaking, database: Database) -> None:
    chat = await people.group()
    await database.pool.execute("INSERT INTO users (id) SELECT 'user' || n FROM generate_series(1, 998) n")
    await database.pool.execute(
        "INSERT INTO members (chat_id, user_id) SELECT $1, 'user' || n FROM generate_series(1, 998) n", chat
    )
    await take_emitted(database)
    await people.say(ANN, chat)
    record = await people.told()
    assert "receivers" not in record.context
    assert len(record.receivers) == 1_001


_OLD = """
INSERT INTO users (id) SELECT 'user' || n FROM generate_series(1, 997) n;
INSERT INTO members (chat_id, user_id, read_no)
SELECT id, 'user' || n, n - 1 FROM chats, generate_series(1, 997) n;
INSERT INTO updates (chat_id, update_id, type, sender_id)
SELECT id, n, 'secret_update', 'ben' FROM chats, generate_series(1, 1000) n;
INSERT INTO messages (id, chat_id, update_id, message_no, sender_id, client_message_id)
SELECT gen_random_uuid(), chat_id, update_id, update_id, 'ben', repeat(E'\\U0001F600', 124) || (update_id + 1000)
FROM updates;
UPDATE chats SET last_update_id = 1000, last_message_no = 1000
"""


async def test_no_names_of_others_make_the_largest_message_too_large(people: Speaking, database: Database) -> None:
    """Of 1,000 members each has another message as its oldest unread one, and each of those the longest name."""
    chat = await people.group(secret=True)
    await database.pool.execute(_OLD)
    await take_emitted(database)
    largest: dict[str, Any] = dict.fromkeys(SECRET, "A" * MAX_SECRET_CHARS)
    await people.messages.send_secret(ANN, Kind.SECRET_GROUP, chat, client_message_id="😀" * 128, **largest)
    context = (await people.told()).context
    assert context["receivers"]["user17"] == {"missed": 985, "first_missed_no": 17}
    assert len(context["names"]) > 50


async def test_a_file_is_shown_with_its_facts(people: Speaking) -> None:
    chat = await people.group()
    file = await people.file()
    answer = await people.messages.send_file(ANN, Kind.GROUP, chat, file)
    assert answer["type"] == "file"
    assert answer["content"] == {
        "file_id": str(file),
        "file_name": "cat.jpg",
        "mime_type": "image/jpeg",
        "file_size": 48_000,
        "file_url": "https://f.example/cat.jpg",
        "message_id": 1,
    }
    assert (await people.told()).data == answer


async def test_with_files_a_text_may_be_empty_and_the_first_file_is_then_shown(people: Speaking) -> None:
    chat = await people.group()
    one, two = await people.file(), await people.file(name="two.jpg")
    answer = await people.messages.send_text(ANN, Kind.GROUP, chat, "", attachments={one: {}, two: {"width": 2}})
    assert (answer["type"], answer["content"]["file_id"]) == ("file", str(one))
    assert [item["file_id"] for item in answer["content"]["attachments"]] == [str(one), str(two)]
    assert await people.read(BEN, chat) == [answer]


@pytest.mark.parametrize("by_uuid", [False, True])
async def test_an_answer_names_its_message_by_uuid_or_in_chakchats_words_by_update_id(
    database: Database, by_uuid: bool
) -> None:
    people = Speaking(database)
    chat = await people.group()
    first = await people.say(ANN, chat)
    named: Any = message_uuid(chat, first) if by_uuid else first
    answer = await people.messages.send_text(BEN, Kind.GROUP, chat, "yes", reply_to=named)
    assert answer["content"]["reply_to"] == str(message_uuid(chat, first))
    answer = await Speaking(database, Wire.CHAKCHAT).messages.send_text(BEN, Kind.GROUP, chat, "yes", reply_to=named)
    assert answer["content"]["reply_to"] == first


async def test_a_uuid_of_another_chats_message_names_nothing(people: Speaking) -> None:
    chat, other = await people.group(), await people.group()
    foreign = message_uuid(other, await people.say(ANN, other))
    assert await code(people.say(ANN, chat, reply_to=foreign), NotFound) == "message_not_found"


async def test_a_comment_stands_under_its_message_which_then_counts_it(people: Speaking) -> None:
    chat = await people.group()
    root = await people.say(ANN, chat)
    await take_emitted(people.database)
    answer = await people.messages.send_text(BEN, Kind.GROUP, chat, "ok", parent=root)
    record = await people.told()
    assert answer["content"]["parent"] == str(message_uuid(chat, root))
    shown = record.context["root"]
    assert (shown["update_id"], shown["comment_count"], shown["modified_us"]) == (root, 1, record.context["at_us"])
    assert record.context["message"]["parent"] == shown["number"]
    # Ben wrote, so he has read the root: it says so.
    assert [reader["id"] for reader in shown["readers"]] == ["ben"]
    await people.delete(ANN, chat, answer["update_id"])
    assert (await people.told()).context["root"]["comment_count"] == 0


async def test_a_comment_has_no_comments(people: Speaking) -> None:
    chat = await people.group()
    comment = await people.say(BEN, chat, parent=await people.say(ANN, chat))
    assert await code(people.say(CAT, chat, parent=comment), InvalidInput) == "validation_failed"


async def test_a_forwarded_text_is_a_copy_that_answers_nothing(people: Speaking) -> None:
    chat, personal = await people.group(), await people.personal()
    first = await people.say(ANN, chat, "one")
    source = await people.say(BEN, chat, "two", reply_to=first)
    await take_emitted(people.database)
    answer = await people.forward(ANN, personal, source, chat, kind=Kind.PERSONAL)
    assert answer["content"] == {"text": "two", "forwarded": True}
    record = await people.told()
    assert sorted(record.receivers) == ["ann", "ben"]
    assert record.context["message"]["forwarded"] is True
    await people.edit(BEN, chat, source, "three")
    assert [update["content"]["text"] for update in await people.read(ANN, personal)] == ["two"]


async def test_a_forwarded_file_is_a_copy(people: Speaking) -> None:
    chat, other = await people.group(), await people.group(ANN, BEN)
    source = await people.show(ANN, chat)
    answer = await people.forward(BEN, other, source, chat, UpdateType.FILE)
    assert answer["content"]["file_name"] == "cat.jpg"
    assert answer["content"]["message_id"] == answer["update_id"]
    await people.delete(ANN, chat, source)
    assert [update["content"]["file_name"] for update in await people.read(ANN, other)] == ["cat.jpg"]


async def test_a_secret_update_is_passed_on_unread(people: Speaking) -> None:
    for kind, chat in (
        (Kind.SECRET_PERSONAL, await people.personal(secret=True)),
        (Kind.SECRET_GROUP, await people.group(secret=True)),
    ):
        await take_emitted(people.database)
        answer = await people.messages.send_secret(ANN, kind, chat, **SECRET)
        assert (answer["type"], answer["content"]) == ("secret_update", SECRET)
        record = await people.told()
        assert record.data == answer
        assert record.context["message"]["text"] == ""


async def test_a_secret_update_ends_when_the_chat_says_so(people: Speaking) -> None:
    chat = await people.personal(secret=True)
    await people.whisper(ANN, chat)
    await people.secrets.set_expiration(ANN, chat, 60_000_000_000, Kind.SECRET_PERSONAL)
    await people.whisper(ANN, chat)
    rows = await people.database.pool.fetch("SELECT expires_at - created_at AS lives FROM updates ORDER BY update_id")
    assert [row["lives"] and row["lives"].total_seconds() for row in rows] == [None, 60]


async def test_a_retry_gets_the_first_answer_and_changes_nothing(people: Speaking) -> None:
    chat = await people.group()
    first = await people.messages.send_text(ANN, Kind.GROUP, chat, "hi", client_message_id="c1")
    assert first["content"]["client_message_id"] == "c1"
    await take_emitted(people.database)
    again = await people.messages.send_text(ANN, Kind.GROUP, chat, "hi", client_message_id="c1")
    assert again == first
    assert await take_emitted(people.database) == []
    assert await people.say(BEN, chat, client_message_id="c1") == 2


async def test_a_retry_gets_the_first_answer_also_where_it_would_be_refused_by_now(people: Speaking) -> None:
    chat = await people.personal()
    sent = await people.say(ANN, chat, "hi", Kind.PERSONAL, client_message_id="c1")
    await people.chats.block(BEN, chat)
    assert await people.say(ANN, chat, "hi", Kind.PERSONAL, client_message_id="c1") == sent


async def test_a_client_message_id_used_in_another_chat_is_refused(people: Speaking) -> None:
    chat, other = await people.group(), await people.group()
    await people.say(ANN, chat, client_message_id="c1")
    assert await code(people.say(ANN, other, client_message_id="c1"), Conflict) == "client_message_id_reused"
    assert await people.read(ANN, other) == []


async def test_a_retry_of_a_secret_and_of_a_forwarded_message_gets_the_first_answer(people: Speaking) -> None:
    chat, secret = await people.group(), await people.personal(secret=True)
    source = await people.say(ANN, chat)
    assert await people.whisper(ANN, secret, client_message_id="s1") == 1
    assert await people.whisper(ANN, secret, client_message_id="s1") == 1
    forwarded = await people.forward(ANN, chat, source, chat, client_message_id="f1")
    assert await people.forward(ANN, chat, source, chat, client_message_id="f1") == forwarded


async def test_what_is_recorded_with_the_answer_is_undone_with_the_work(people: Speaking) -> None:
    chat = await people.group()

    async def refuse(unit: Any, answer: Any) -> None:
        assert answer["update_id"] == 1
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await people.messages.send_text(ANN, Kind.GROUP, chat, "hi", record=refuse)
    assert await people.read(ANN, chat) == []
    assert await people.say(ANN, chat) == 1


async def test_to_a_stranger_a_chat_of_others_is_as_none(people: Speaking) -> None:
    chat = await people.group()
    message = await people.say(ANN, chat)
    for id_ in (chat, UUID(int=1)):
        assert await code(people.say(STRANGER, id_), NotFound) == "chat_not_found"
        assert await code(people.show(STRANGER, id_), NotFound) == "chat_not_found"
        assert await code(people.edit(STRANGER, id_, message), NotFound) == "chat_not_found"
        assert await code(people.react(STRANGER, id_, message), NotFound) == "chat_not_found"
        assert await code(people.delete(STRANGER, id_, message), NotFound) == "chat_not_found"
        assert await code(people.read(STRANGER, id_), NotFound) == "chat_not_found"
