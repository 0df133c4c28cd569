"""A chat as one of its members sees it in a list: what is unread, and how far the last message came."""

from typing import Any
from uuid import UUID

import msgspec
import pytest

from tests.unit.messaging.chats import AT, chat
from tidings.messaging.domain.entry import Entry, FirstUnread, Mark, MarkKind, Status, status_of
from tidings.messaging.domain.model import Kind, Message, Update, UpdateType, User
from tidings.messaging.http import answers
from tidings.messaging.listing import entry_data, mark_data, user_data
from tidings.messaging.wire import Wire, chat_data, update_data

ANN = User(id="ann", number=1, username="ann1", name="Ann", avatar="/a.png")
FIRST = FirstUnread(id=UUID(int=9), update_id=6, message_no=4, client_message_id="c4")


def last(sender: str, message_no: int) -> Update:
    message = Message(
        id=UUID(int=7),
        number=70,
        chat_id=UUID(int=1),
        update_id=message_no + 2,
        message_no=message_no,
        sender=User(id=sender, number=2),
        created_at=AT,
        modified_at=AT,
        text="hi",
    )
    return Update(
        chat_id=UUID(int=1),
        update_id=message_no + 2,
        type=UpdateType.TEXT,
        sender_id=sender,
        created_at=AT,
        message=message,
    )


def entry(kind: Kind = Kind.GROUP, **more: Any) -> Entry:
    facts: dict[str, Any] = {
        "chat": chat(kind, "ann", "bob", last_message_no=5, last_update_id=7),
        "members": ["ann", "bob"],
        "blocked_by": [],
        "read_no": 3,
        "delivered_no": 4,
        "joined": 12,
        "others_read_no": 2,
        "others_delivered_no": 4,
        "likes": 1,
        "liked": True,
        "first_unread": FIRST,
    }
    return Entry(**(facts | more))


def test_unread_is_what_came_after_the_newest_read_one() -> None:
    assert entry().unread == 2
    assert entry(read_no=5).unread == 0
    assert entry(read_no=9).unread == 0, "a mark of a message that was counted elsewhere"


@pytest.mark.parametrize(
    ("sender", "message_no", "expected"),
    [
        ("bob", 3, Status.READ),
        ("bob", 4, Status.UNREAD),
        ("bob", 5, Status.UNDELIVERED),
        ("ann", 2, Status.READ),
        ("ann", 4, Status.UNREAD),
        ("ann", 5, Status.UNDELIVERED),
    ],
)
def test_of_ones_own_message_the_others_marks_count_of_anothers_ones_own(
    sender: str, message_no: int, expected: Status
) -> None:
    found = entry(last=last(sender, message_no))
    assert status_of(found, "ann") is expected
    assert entry_data(found, "ann", Wire.SEED)["last_message_status"] == expected.value


def test_an_empty_chat_has_no_status() -> None:
    assert status_of(entry(), "ann") is None
    assert "last_message_status" not in entry_data(entry(), "ann", Wire.SEED)


def test_an_entry_is_the_chat_and_what_differs_from_member_to_member() -> None:
    data = entry_data(entry(), "ann", Wire.SEED)
    assert data["last_update_id"] == 7
    assert data["members"] == ["ann", "bob"]
    assert (data["unread"], data["read_up_to_message_no"], data["last_message_no"]) == (2, 3, 5)
    assert (data["likes"], data["liked"]) == (1, True)
    assert data["first_unread"] == {
        "message_id": str(FIRST.id),
        "update_id": 6,
        "message_no": 4,
        "client_message_id": "c4",
    }


def test_where_nothing_is_unread_there_is_no_first() -> None:
    assert entry_data(entry(read_no=5), "ann", Wire.SEED)["first_unread"] is None
    assert entry_data(entry(first_unread=None), "ann", Wire.SEED)["first_unread"] is None


def test_a_personal_chat_says_who_blocks_it() -> None:
    assert entry_data(entry(Kind.PERSONAL), "ann", Wire.SEED)["info"] == {"blocked_by": None}
    blocked = entry(Kind.PERSONAL, blocked_by=["bob"])
    assert entry_data(blocked, "ann", Wire.SEED)["info"] == {"blocked_by": ["bob"]}


@pytest.mark.parametrize(("wire", "at"), [(Wire.SEED, "2026-01-01T00:00:00.000000Z"), (Wire.CHAKCHAT, 1_767_225_600)])
def test_a_mark_covers_all_up_to_a_message(wire: Wire, at: object) -> None:
    mark = Mark(chat_id=UUID(int=1), user_id="ann", kind=MarkKind.READ, up_to_no=4, up_to_update_id=6, marked_at=AT)
    assert mark_data(mark, wire) == {
        "chat_id": str(UUID(int=1)),
        "user_id": "ann",
        "kind": "read",
        "up_to_message_no": 4,
        "up_to_update_id": 6,
        "marked_at": at,
    }


def test_a_person() -> None:
    assert user_data(ANN) == {"user_id": "ann", "number": 1, "username": "ann1", "name": "Ann", "avatar": "/a.png"}


def test_the_described_answers_are_those_that_are_given() -> None:
    found = chat_data(chat(Kind.PERSONAL, "ann", "bob"), Wire.SEED, last_update_id=True)
    assert msgspec.convert(found, answers.ChatData).members == ["ann", "bob"]
    assert msgspec.convert(update_data(last("bob", 5), Wire.SEED), answers.UpdateData).update_id == 7
    assert msgspec.convert(answers.CHAT, answers.ChatData).info == {"blocked_by": None}
    assert msgspec.convert(answers.UPDATE, answers.UpdateData).content == {"text": "hi"}
    assert msgspec.convert(answers.NOTHING, answers.Nothing) == answers.Nothing()
    assert msgspec.convert({"updates": [answers.UPDATE]}, answers.UpdateList).next_from is None
