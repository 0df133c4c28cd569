"""What records carry for edges of other protocols."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from tidings.messaging.context import (
    MAX_LISTED_MEMBERS,
    chat_context,
    message_context,
    microseconds,
    missed_context,
)
from tidings.messaging.domain.model import Chat, Kind, Member, Message, User

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
        sender=ANN,
        **{"number": 9, "created_at": AT, "modified_at": AT, **fields},
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
        "ann": {"missed": 0},
        "ben": {"missed": 2, "first_missed": "four"},
        "cat": {"missed": 1, "first_missed": "five"},
    }


@pytest.mark.parametrize(("count", "told"), [(MAX_LISTED_MEMBERS, True), (MAX_LISTED_MEMBERS + 1, False)])
def test_large_chats_say_nothing_about_single_receivers(count: int, told: bool) -> None:
    members = tuple(Member(user=User(id=f"user{n}", number=n), joined_at=AT) for n in range(count))
    assert (missed_context(chat(Kind.GROUP, *members), 1, "user0", {}) is not None) is told
