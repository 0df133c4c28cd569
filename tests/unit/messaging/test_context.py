"""What records carry for edges of other protocols."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from tidings.contract.parts import split
from tidings.contract.record import MAX_VALUE_BYTES
from tidings.messaging.context import (
    MAX_LISTED_MEMBERS,
    chat_context,
    listed_context,
    message_context,
    microseconds,
    missed_context,
)
from tidings.messaging.domain.entry import Newest
from tidings.messaging.domain.limits import MAX_CLIENT_MESSAGE_ID_CHARS, MAX_SECRET_CHARS, MAX_TEXT_CHARS
from tidings.messaging.domain.model import Attachment, Chat, Kind, Member, Message, Update, UpdateType, User
from tidings.messaging.wire import Wire, chat_created, update_data

CHAT = UUID("b4c3f591-ef52-4b85-a04e-cf61ee243449")
AT = datetime(2025, 12, 4, 17, 0, 0, 7, UTC)
AT_US = 1_764_867_600_000_007
ANN = User(id="ann", number=1, username="ann1", name="Ann", avatar="https://a.example")
BEN = User(id="ben", number=2)


def chat(kind: Kind = Kind.GROUP, *members: Member) -> Chat:
    members = members or (Member(user=ANN, joined_at=AT), Member(user=BEN, joined_at=AT))
    return Chat(id=CHAT, number=4, kind=kind, creator_id="ann", admin_id="ann", created_at=AT, members=members)


def message(**fields: Any) -> Message:
    return Message(
        id=CHAT,
        chat_id=CHAT,
        update_id=7,
        message_no=3,
        **{"number": 9, "sender": ANN, "created_at": AT, "modified_at": AT, **fields},
    )


def test_times_are_exact_microseconds() -> None:
    assert microseconds(AT) == AT_US
    assert microseconds(datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC)) == 253_402_300_799_999_999


def test_every_record_tells_when_who_and_where() -> None:
    context = chat_context(chat(), ANN, "s-1", AT, message=None, like=True)
    assert context["at_us"] == AT_US
    assert context["actor"] == {
        "id": "ann",
        "number": 1,
        "username": "ann1",
        "name": "Ann",
        "avatar": "https://a.example",
    }
    assert context["session"] == "s-1"
    assert (context["chat"]["number"], context["chat"]["kind"]) == (4, "group")
    assert context["like"] is True
    assert "message" not in context
    assert "session" not in chat_context(chat(), chat().members[0], None, AT)


@pytest.mark.parametrize("kind", Kind)
def test_only_chats_of_two_name_their_members(kind: Kind) -> None:
    about = chat_context(chat(kind), ANN, None, AT)["chat"]
    assert ("members" in about) is not kind.is_group


def test_a_message_is_a_complete_snapshot() -> None:
    later = AT + timedelta(seconds=1)
    parent, answered = message(number=5), message(number=6, text="one", client_message_id="b1")
    facts = message_context(
        message(text="two", parent=parent, reply_to=answered, edited_at=later, modified_at=later, comment_count=2),
        readers=[(BEN, later)],
    )
    assert (facts["number"], facts["message_no"], facts["update_id"], facts["text"]) == (9, 3, 7, "two")
    assert (facts["parent"], facts["reply_to"]["number"], facts["reply_to"]["client_message_id"]) == (5, 6, "b1")
    assert (facts["created_us"], facts["edited_us"], facts["modified_us"]) == (AT_US, AT_US + 10**6, AT_US + 10**6)
    assert (facts["comment_count"], facts["deleted"], facts["forwarded"]) == (2, False, False)
    assert facts["readers"] == [{"id": "ben", "number": 2, "read_us": AT_US + 10**6}]
    assert message_context(message(deleted_at=AT))["deleted"] is True
    assert "readers" not in message_context(message())


def test_each_receiver_is_told_how_many_it_missed_and_which_is_the_oldest() -> None:
    members = (
        Member(user=ANN, joined_at=AT, read_no=1),
        Member(user=BEN, joined_at=AT, read_no=3),
        Member(user=User(id="cat", number=3), joined_at=AT, read_no=4),
    )
    assert missed_context(chat(Kind.GROUP, *members), 5, "ann", {4: "four", 5: "five"}) == {
        "receivers": {
            "ann": {"missed": 0},
            "ben": {"missed": 2, "first_missed_no": 4},
            "cat": {"missed": 1, "first_missed_no": 5},
        },
        "names": {"4": "four", "5": "five"},
    }


@pytest.mark.parametrize(("count", "told"), [(MAX_LISTED_MEMBERS, True), (MAX_LISTED_MEMBERS + 1, False)])
def test_large_chats_say_nothing_about_single_receivers(count: int, told: bool) -> None:
    members = tuple(Member(user=User(id=f"user{n}", number=n), joined_at=AT) for n in range(count))
    assert ("receivers" in missed_context(chat(Kind.GROUP, *members), 1, "user0", {})) is told


def crowd(id_chars: int) -> Chat:
    """A chat of as many members as are listed, each with another message as its oldest unread one."""
    count = MAX_LISTED_MEMBERS
    members = (User(id=f"{n:0{id_chars}}", number=n) for n in range(count))
    shown = chat(Kind.SECRET_GROUP, *(Member(user=user, joined_at=AT, read_no=user.number) for user in members))
    most = "\1" * 4_096
    return msgspec.structs.replace(shown, photo=most, room="\1" * 256, name="n" * 50, last_message_no=count)


@pytest.mark.parametrize("id_chars", [36, 256])
@pytest.mark.parametrize("name", ["😀" * MAX_CLIENT_MESSAGE_ID_CHARS, "\1" * MAX_CLIENT_MESSAGE_ID_CHARS])
@pytest.mark.parametrize("kind", [UpdateType.TEXT, UpdateType.SECRET])
def test_the_largest_message_to_all_that_are_listed_fits_a_record(name: str, id_chars: int, kind: UpdateType) -> None:
    """Whatever others called theirs: the second name was allowed once, and may be in a database."""
    group = crowd(id_chars)
    most = "\1" * 4_096
    ann = User(id="a" * 256, number=1, username="a" * 64, name=most[:256], avatar=most)
    text = "\1" * MAX_TEXT_CHARS if kind is UpdateType.TEXT else ""
    written = message(sender=ann, text=text, client_message_id=name)
    if kind is UpdateType.TEXT:
        written = msgspec.structs.replace(written, reply_to=written)
    part = "A" * MAX_SECRET_CHARS
    content = dict.fromkeys(("payload", "initialization_vector", "key_hash"), part)
    update = Update(
        chat_id=CHAT, update_id=7, type=kind, sender_id=ann.id, created_at=AT, content=content, message=written
    )
    newest = MAX_LISTED_MEMBERS + 1
    missed = missed_context(group, newest, ann.id, dict.fromkeys(range(newest + 1), name))
    context = chat_context(group, ann, "s" * 64, AT, message=message_context(written, readers=()), **missed)
    parts = split(group.member_ids, "update", update_data(update, Wire.SEED), id="1", context=context)
    assert max(len(part.value) for part in parts) <= MAX_VALUE_BYTES
    assert ("receivers" in missed) is (id_chars == 36)


@pytest.mark.parametrize(("members", "id_chars"), [(MAX_LISTED_MEMBERS, 36), (MAX_LISTED_MEMBERS, 256), (20_000, 36)])
def test_a_change_of_the_largest_group_fits_a_record(members: int, id_chars: int) -> None:
    most = "\1" * 4_096
    ann = User(id="a" * 256, number=1, username="a" * 64, name=most[:256], avatar=most)
    people = (User(id=f"{n:0{id_chars}}", number=n) for n in range(members))
    group = chat(Kind.GROUP, *(Member(user=user, joined_at=AT) for user in people))
    group = msgspec.structs.replace(group, photo=most, room="\1" * 256, name="n" * 50, description="d" * 300)
    newest = Newest(message=message(sender=ann, text="\1" * MAX_TEXT_CHARS, client_message_id="😀" * 128))
    listed = listed_context(group, group.member_ids, newest)
    context = chat_context(group, ann, "s" * 64, AT) | listed
    parts = split(group.member_ids, "chat_created", chat_created(ann.id, group, Wire.SEED), id="1", context=context)
    assert max(len(part.value) for part in parts) <= MAX_VALUE_BYTES
    assert ("receivers" in listed) is ((members, id_chars) == (MAX_LISTED_MEMBERS, 36))


def test_of_one_s_own_last_message_the_others_decide_how_far_it_came() -> None:
    def status(read_no: int, delivered_no: int) -> dict[str, str]:
        members = (
            Member(user=ANN, joined_at=AT, read_no=3, delivered_no=3),
            Member(user=BEN, joined_at=AT, read_no=3, delivered_no=3),
            Member(user=User(id="cat", number=3), joined_at=AT, read_no=read_no, delivered_no=delivered_no),
        )
        shown = msgspec.structs.replace(chat(Kind.GROUP, *members), last_message_no=3)
        listed = listed_context(shown, ["ann", "cat"], Newest(message=message()))
        return {name: facts["status"] for name, facts in listed["receivers"].items()}

    assert status(read_no=2, delivered_no=2) == {"ann": "unread", "cat": "undelivered"}
    assert status(read_no=2, delivered_no=3) == {"ann": "unread", "cat": "unread"}
    assert status(read_no=3, delivered_no=3) == {"ann": "read", "cat": "read"}


def test_a_message_that_nobody_else_can_read_is_undelivered() -> None:
    alone = msgspec.structs.replace(chat(Kind.GROUP, Member(user=ANN, joined_at=AT, read_no=3)), last_message_no=3)
    assert listed_context(alone, ["ann"], Newest(message=message()))["receivers"]["ann"]["status"] == "undelivered"


def test_names_that_most_ask_for_are_told_where_not_all_have_room() -> None:
    members = [Member(user=User(id=f"u{n}", number=n), joined_at=AT, read_no=min(n, 500)) for n in range(1_000)]
    missed = missed_context(chat(Kind.GROUP, *members), 1_001, "ann", dict.fromkeys(range(1_002), "😀" * 128))
    assert "501" in missed["names"]
    assert 1 < len(missed["names"]) < 100
    assert missed["receivers"]["u400"] == {"missed": 601, "first_missed_no": 401}


def test_who_has_hidden_the_last_message_is_told_that_in_place_of_its_status() -> None:
    shown = msgspec.structs.replace(chat(), last_message_no=3)
    listed = listed_context(shown, ["ann", "ben"], Newest(message=message(), hidden_from=frozenset({"ben"})))
    assert listed["receivers"]["ben"] == {"missed": 3, "last_hidden": True}
    assert "status" in listed["receivers"]["ann"]


def test_where_nobody_has_written_there_is_no_last_message_and_no_status() -> None:
    assert listed_context(chat(), ["ann"], Newest()) == {"last_message": None, "receivers": {"ann": {"missed": 0}}}


def test_a_secret_chat_shows_no_last_message() -> None:
    assert "last_message" not in listed_context(chat(Kind.SECRET_GROUP), ["ann"], Newest(message=message()))


def test_files_are_told_with_all_that_a_frame_shows_of_them() -> None:
    file = Attachment(
        number=5, file_id=CHAT, file_name="a.png", mime_type="image/png", file_size=7, file_url="u", created_at=AT
    )
    assert message_context(message(attachments=(file,)), readers=None)["attachments"] == [
        {
            "number": 5,
            "file_id": str(CHAT),
            "file_name": "a.png",
            "mime_type": "image/png",
            "file_size": 7,
            "file_url": "u",
            "created_us": AT_US,
            "meta": {},
        }
    ]
