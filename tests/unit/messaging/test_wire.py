"""The two wires say the same in their own words."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import msgspec
import pytest

from tidings.contract import events
from tidings.errors import InvalidInput
from tidings.messaging.domain.model import Attachment, Chat, Kind, Member, Message, Update, UpdateType, User
from tidings.messaging.wire import (
    Wire,
    chat_changed,
    chat_created,
    chat_data,
    chat_expiration_set,
    delete_mode,
    group_info_updated,
    group_members,
    marks_set,
    message_uuid,
    time_of,
    update_data,
)

CHAT = UUID("b4c3f591-ef52-4b85-a04e-cf61ee243449")
FILE = UUID("7bed2b32-01ac-43a6-abd7-fe037de495c4")
AT = datetime(2025, 12, 4, 17, 0, 0, 7, UTC)
ANN = User(id="ann", number=1)


def chat(kind: Kind, **fields: Any) -> Chat:
    fields.setdefault("members", (Member(user=ANN, joined_at=AT), Member(user=User(id="ben", number=2), joined_at=AT)))
    return Chat(id=CHAT, number=1, kind=kind, creator_id="ann", created_at=AT, **{"admin_id": "ann", **fields})


def message(update_id: int = 7, **fields: Any) -> Message:
    return Message(
        id=message_uuid(CHAT, update_id),
        number=9,
        chat_id=CHAT,
        update_id=update_id,
        message_no=3,
        sender=ANN,
        created_at=AT,
        modified_at=AT,
        **fields,
    )


def update(type_: UpdateType, **fields: Any) -> Update:
    return Update(chat_id=CHAT, update_id=7, type=type_, sender_id="ann", created_at=AT, **fields)


def attachment(**fields: Any) -> Attachment:
    return Attachment(
        file_id=FILE,
        file_name="cat.jpg",
        mime_type="image/jpeg",
        file_size=3,
        file_url="https://f.example/cat.jpg",
        created_at=AT,
        **fields,
    )


def parsed(type_: str, data: Any) -> Any:
    found = events.parse(type_, msgspec.json.encode(data))
    assert found is not None
    return found


def test_a_time_has_microseconds_and_a_z_or_is_whole_seconds() -> None:
    assert time_of(AT, Wire.SEED) == "2025-12-04T17:00:00.000007Z"
    assert time_of(AT.replace(microsecond=0), Wire.SEED) == "2025-12-04T17:00:00.000000Z"
    assert time_of(AT.astimezone(timezone(timedelta(hours=2))), Wire.SEED) == "2025-12-04T17:00:00.000007Z"
    assert time_of(AT.replace(microsecond=999_999), Wire.CHAKCHAT) == 1_764_867_600


@pytest.mark.parametrize(
    ("text", "mode"),
    [("all", "all"), ("for_all", "all"), ("only_me", "only_me"), ("for_deletion_sender", "only_me")],
)
def test_either_wire_s_ways_to_delete_are_understood(text: str, mode: str) -> None:
    assert delete_mode(text) == mode


@pytest.mark.parametrize("text", ["", "ALL", "for_me", "all "])
def test_other_ways_to_delete_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="invalid_delete_mode"):
        delete_mode(text)


def test_the_uuid_of_a_message_follows_from_its_chat_and_update_id() -> None:
    assert message_uuid(CHAT, 7) == message_uuid(CHAT, 7)
    assert len({message_uuid(CHAT, 7), message_uuid(CHAT, 8), message_uuid(FILE, 7)}) == 3
    assert message_uuid(CHAT, 7).version == 5


@pytest.mark.parametrize("wire", Wire)
@pytest.mark.parametrize("kind", Kind)
def test_a_chat_of_every_kind_is_as_the_contract_has_it(kind: Kind, wire: Wire) -> None:
    data = chat_created("ann", chat(kind, name="Group", expiration_s=60), wire)
    found = parsed("chat_created", data)
    assert found.chat.members == ["ann", "ben"]
    assert "last_update_id" not in data["chat"]
    if kind.is_secret:
        assert data["chat"]["info"]["expiration"] == 60_000_000_000


def test_no_photo_is_null_or_in_chakchats_words_an_empty_string() -> None:
    group = chat(Kind.GROUP, name="Group")
    assert chat_data(group, Wire.SEED)["info"]["group_photo"] is None
    assert chat_data(group, Wire.CHAKCHAT)["info"]["group_photo"] == ""
    assert group_info_updated("ann", group)["group_photo"] == ""
    shown = chat_data(chat(Kind.GROUP, name="Group", photo="https://p.example"), Wire.SEED)
    assert shown["info"]["group_photo"] == "https://p.example"


def test_nobody_who_blocks_is_null() -> None:
    assert chat_data(chat(Kind.PERSONAL), Wire.SEED)["info"] == {"blocked_by": None}
    members = (Member(user=ANN, joined_at=AT, blocked=True),)
    assert chat_data(chat(Kind.PERSONAL, members=members), Wire.SEED)["info"] == {"blocked_by": ["ann"]}


def test_an_expiration_that_is_none_is_null_and_zero_seconds_are_not() -> None:
    assert chat_expiration_set("ann", CHAT, None)["expiration"] is None
    assert chat_expiration_set("ann", CHAT, 0)["expiration"] == 0
    assert chat_data(chat(Kind.SECRET_PERSONAL), Wire.SEED)["info"] == {"expiration": None}


def test_the_newest_update_and_a_preview_are_shown_when_asked_for() -> None:
    shown = chat_data(
        chat(Kind.GROUP, last_update_id=7),
        Wire.SEED,
        last_update_id=True,
        preview=[update(UpdateType.TEXT, message=message(text="hi"))],
    )
    assert shown["last_update_id"] == 7
    assert shown["update_preview"][0]["content"] == {"text": "hi"}


def test_small_kinds_are_as_the_contract_has_them() -> None:
    for type_ in ("chat_deleted", "chat_blocked", "chat_unblocked"):
        parsed(type_, chat_changed("ann", CHAT))
    parsed("chat_expiration_set", chat_expiration_set("ann", CHAT, 60))
    parsed("group_info_updated", group_info_updated("ann", chat(Kind.GROUP)))
    for type_ in ("group_members_added", "group_members_removed"):
        assert parsed(type_, group_members("ann", CHAT, ("ben",))).members == ["ben"]


@pytest.mark.parametrize(
    ("wire", "type_", "mode"),
    [(Wire.SEED, "delete", "only_me"), (Wire.CHAKCHAT, "update_deleted", "for_deletion_sender")],
)
def test_a_deletion_in_either_wire(wire: Wire, type_: str, mode: str) -> None:
    data = update_data(update(UpdateType.DELETE, target_update_id=3, deleted_mode="only_me"), wire)
    assert data["type"] == type_
    assert data["content"] == {"deleted_id": 3, "deleted_mode": mode}
    parsed("update", data)


def test_a_file_s_facts_lie_flat_or_in_an_object_of_their_own() -> None:
    shown = update(UpdateType.FILE, message=message(attachments=(attachment(),), reply_to=message(3)))
    seed, chakchat = update_data(shown, Wire.SEED), update_data(shown, Wire.CHAKCHAT)
    assert seed["type"] == "file"
    assert seed["content"]["file_id"] == str(FILE)
    assert (seed["content"]["message_id"], seed["content"]["reply_to"]) == (7, str(message_uuid(CHAT, 3)))
    assert chakchat["type"] == "file_message"
    assert chakchat["content"]["file"]["created_at"] == 1_764_867_600
    assert chakchat["content"]["reply_to"] == 3
    parsed("update", seed)
    parsed("update", chakchat)


@pytest.mark.parametrize("wire", Wire)
def test_a_text_that_was_read_again_holds_its_edit_and_reactions_as_whole_updates(wire: Wire) -> None:
    edit = update(UpdateType.EDIT, target_update_id=7, content={"new_text": "ho"})
    reaction = update(UpdateType.REACTION, target_update_id=7, content={"reaction": "heart"})
    data = update_data(update(UpdateType.TEXT, message=message(text="ho"), edited=edit, reactions=(reaction,)), wire)
    assert data["content"]["edited"] == update_data(edit, wire)
    assert data["content"]["reactions"] == [update_data(reaction, wire)]
    parsed("update", data)


def test_a_plain_text_says_nothing_but_its_text() -> None:
    assert update_data(update(UpdateType.TEXT, message=message(text="hi")), Wire.SEED)["content"] == {"text": "hi"}


def test_what_goes_beyond_both_wires_is_told_where_there_is_any() -> None:
    written = message(
        text="hi",
        parent=message(3),
        attachments=(attachment(meta={"width": 1}),),
        client_message_id="c1",
        forwarded=True,
    )
    content = update_data(update(UpdateType.TEXT, message=written), Wire.CHAKCHAT)["content"]
    assert (content["parent"], content["client_message_id"], content["forwarded"]) == (3, "c1", True)
    assert content["attachments"][0]["meta"] == {"width": 1}


def test_what_was_deleted_can_still_be_shown_without_its_content() -> None:
    parsed("update", update_data(update(UpdateType.FILE, message=message()), Wire.SEED))
    parsed("update", update_data(update(UpdateType.SECRET), Wire.SEED))


def test_a_mark_tells_how_far_somebody_is() -> None:
    data = marks_set(CHAT, "ann", "read", up_to_message_no=3, up_to_update_id=7, marked_at=AT, wire=Wire.CHAKCHAT)
    assert data == {
        "chat_id": str(CHAT),
        "user_id": "ann",
        "kind": "read",
        "up_to_message_no": 3,
        "up_to_update_id": 7,
        "marked_at": 1_764_867_600,
    }


def test_an_action_log_is_passed_as_it_is() -> None:
    content = {"action": "joined", "users": ["ben"]}
    assert update_data(update(UpdateType.ACTION_LOG, content=content), Wire.SEED)["content"] == content
