"""What a group may be called, who comes and goes, and what may be its photo."""

from collections.abc import Callable
from uuid import UUID

import pytest

from tests.unit.messaging.chats import chat, refused
from tidings.contract.record import MAX_VALUE_BYTES, encode
from tidings.errors import Conflict, Forbidden, InvalidInput, NotFound
from tidings.messaging.domain import grouping
from tidings.messaging.domain.limits import MAX_GROUP_MEMBERS, MAX_MEMBERS_BYTES, PHOTO_TYPES
from tidings.messaging.domain.model import Kind

GROUPS = (Kind.GROUP, Kind.SECRET_GROUP)


def test_a_group_has_a_name() -> None:
    refused(InvalidInput, "group_name_empty", grouping.checked_group_name, "")


def test_a_groups_name_has_at_most_50_bytes() -> None:
    assert grouping.checked_group_name("é" * 25) == "é" * 25
    refused(InvalidInput, "group_name_too_long", grouping.checked_group_name, "é" * 25 + "x")


def test_a_groups_name_is_not_trimmed() -> None:
    assert grouping.checked_group_name(" x ") == " x "


def test_a_groups_description_has_at_most_300_bytes() -> None:
    assert grouping.checked_description("") == ""
    assert grouping.checked_description("é" * 150) == "é" * 150
    refused(InvalidInput, "group_description_too_long", grouping.checked_description, "é" * 150 + "x")


@pytest.mark.parametrize("rule", [grouping.checked_group_name, grouping.checked_description, grouping.checked_room])
@pytest.mark.parametrize("text", ["a\0", "\udfff"])
def test_what_cannot_be_stored_is_refused_before_it_is_tried(rule: Callable[[str], str], text: str) -> None:
    refused(InvalidInput, "validation_failed", rule, text)


def test_a_rooms_name_has_at_most_256_characters() -> None:
    assert grouping.checked_room("r" * 256) == "r" * 256
    refused(InvalidInput, "validation_failed", grouping.checked_room, "r" * 257)


def test_whoever_makes_a_group_is_in_it() -> None:
    refused(Forbidden, "admin_not_member", grouping.checked_group_members, "alice", ["bob"])
    refused(Forbidden, "admin_not_member", grouping.checked_group_members, "alice", [])


def test_members_named_twice_count_once() -> None:
    assert grouping.checked_group_members("alice", ["bob", "alice", "bob"]) == ["bob", "alice"]


def test_a_group_is_no_larger_than_a_record_can_name() -> None:
    size = MAX_MEMBERS_BYTES // 39
    members = [str(UUID(int=number)) for number in range(size)]
    assert len(grouping.checked_group_members(members[0], members)) == size
    record = encode(members[:5_000], "chat_created", {"chat": {"members": members}, "info": "x" * 2_000}, None)
    assert len(record) < MAX_VALUE_BYTES
    refused(InvalidInput, "too_many_members", grouping.checked_group_members, members[0], [*members, "x" * 36])
    refused(
        InvalidInput, "too_many_members", grouping.checked_joining, chat(Kind.GROUP, *members), members[0], "x" * 36
    )


def test_a_group_has_at_most_100_000_members() -> None:
    members = [f"{number:x}" for number in range(MAX_GROUP_MEMBERS + 1)]
    refused(InvalidInput, "too_many_members", grouping.checked_group_members, "0", members)
    assert len(grouping.checked_group_members("0", members[:-1])) == MAX_GROUP_MEMBERS


@pytest.mark.parametrize("kind", GROUPS)
def test_only_the_admin_adds(kind: Kind) -> None:
    group = chat(kind, "alice", "bob")
    assert grouping.checked_joining(group, "alice", "carol") == "carol"
    refused(Forbidden, "sender_not_admin", grouping.checked_joining, group, "bob", "carol")
    refused(NotFound, "chat_not_found", grouping.checked_joining, group, "carol", "carol")
    refused(InvalidInput, "validation_failed", grouping.checked_joining, group, "alice", "")


@pytest.mark.parametrize("user", ["alice", "bob"])
def test_a_member_is_not_added_again(user: str) -> None:
    refused(Conflict, "user_already_member", grouping.checked_joining, chat(Kind.GROUP, "alice", "bob"), "alice", user)


@pytest.mark.parametrize("kind", GROUPS)
def test_the_admin_removes_and_a_member_leaves(kind: Kind) -> None:
    group = chat(kind, "alice", "bob", "carol")
    assert grouping.checked_leaving(group, "alice", "bob") == "bob"
    assert grouping.checked_leaving(group, "bob", "bob") == "bob"
    refused(Forbidden, "sender_not_admin", grouping.checked_leaving, group, "carol", "bob")
    refused(NotFound, "chat_not_found", grouping.checked_leaving, group, "mallory", "mallory")
    refused(NotFound, "chat_not_found", grouping.checked_leaving, group, "mallory", "bob")


def test_the_admin_neither_leaves_nor_is_removed() -> None:
    group = chat(Kind.GROUP, "alice", "bob")
    refused(Forbidden, "member_is_admin", grouping.checked_leaving, group, "alice", "alice")
    refused(Forbidden, "sender_not_admin", grouping.checked_leaving, group, "bob", "alice")
    refused(Forbidden, "member_is_admin", grouping.checked_leaving, chat(Kind.GROUP, "alice"), "alice", "alice")


def test_whoever_is_no_member_is_not_removed() -> None:
    refused(Forbidden, "user_not_member", grouping.checked_leaving, chat(Kind.GROUP, "alice"), "alice", "bob")


def test_who_else_is_a_member_is_told_to_the_admin_only() -> None:
    group = chat(Kind.GROUP, "alice", "bob", "carol")
    for user in ("carol", "mallory"):
        refused(Forbidden, "sender_not_admin", grouping.checked_leaving, group, "bob", user)
        refused(Forbidden, "sender_not_admin", grouping.checked_joining, group, "bob", user)


@pytest.mark.parametrize("mime_type", sorted(PHOTO_TYPES))
def test_a_photo_is_an_image_of_at_most_2_mib(mime_type: str) -> None:
    grouping.checked_photo(mime_type, 2 << 20)
    refused(InvalidInput, "invalid_photo", grouping.checked_photo, mime_type, (2 << 20) + 1)


@pytest.mark.parametrize("mime_type", ["image/svg+xml", "image/tiff", "text/html", "application/pdf", "image/"])
def test_other_files_are_no_photo(mime_type: str) -> None:
    refused(InvalidInput, "invalid_photo", grouping.checked_photo, mime_type, 1)


def test_there_is_no_photo_to_take_away() -> None:
    refused(InvalidInput, "group_photo_empty", grouping.checked_photo_there, chat(Kind.GROUP, "alice"))
    grouping.checked_photo_there(chat(Kind.GROUP, "alice", photo="https://x"))
